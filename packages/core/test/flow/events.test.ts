/** Events that nobody handles, and handlers of several events. */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventFlowError,
  EventHandler,
  Mediator,
  MemoryBroker,
  NotificationEvent
} from "@event-flow/core"
import { Cause, Effect, Exit, Layer, Schema } from "effect"
import { Boom, Journal, RecordingLogger } from "../fixtures.ts"

class Joined extends DomainEvent.Class<Joined>()("Joined", { id: Schema.String }) {}
class Left extends DomainEvent.Class<Left>()("Left", { id: Schema.String, why: Schema.String }) {}
class Counted extends DomainEvent.Class<Counted>()("Counted", { id: Schema.String }) {}
class Told extends NotificationEvent.Class<Told>()("Told", { id: Schema.String }, { topic: "told" }) {}
class Said extends NotificationEvent.Class<Said>()("Said", { id: Schema.String }, { topic: "said" }) {}

const emits = [Joined, Left, Counted, Told, Said] as const
type AnyEvent = InstanceType<typeof emits[number]>

class Emit extends Command.Class<Emit>()("Emit", { payload: { events: Schema.Array(Schema.Unknown) }, emits }) {}
const EmitLive = Emit.toLayer(({ events }, { collectAll }) => collectAll(events as ReadonlyArray<AnyEvent>))
const emit = (...events: ReadonlyArray<AnyEvent>) => Mediator.send(new Emit({ events }))

const joined = new Joined({ id: "1" })
const left = new Left({ id: "2", why: "tired" })

describe("F7: a domain event without handlers", () => {
  class Deaf extends EventFlow.make("Deaf", { commands: [Emit] }) {}

  const warning = (tag: string) =>
    `Warn Domain event "${tag}" has no handler in its flow: list one, or stop collecting it. ` +
    "This is said once for each event class"

  for (const concurrency of [1, 3]) {
    it.effect(`F7: is warned about once for each class, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const logger = new RecordingLogger()
        const layer = Deaf.layer({ concurrency }).pipe(Layer.provide([EmitLive, MemoryBroker.layer()]))
        const emitted = Effect.all([emit(joined, joined), emit(joined), emit(left, joined), emit(left)], {
          concurrency: "unbounded"
        })
        yield* emitted.pipe(Effect.provide([layer, logger.layer]))
        assert.deepStrictEqual(logger.entries.sort(), [warning("Joined"), warning("Left")])
        // Another program says it again
        yield* emit(joined).pipe(Effect.provide([layer, logger.layer]))
        assert.strictEqual(logger.entries.length, 3)
      }))
  }

  it.effect("F7: and its neighbours are handled", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const OnLeft = EventHandler.make("OnLeft", { on: Left })
      const layer = EventFlow.make("HalfDeaf", { commands: [Emit], handlers: [OnLeft] }).layer().pipe(
        Layer.provide([EmitLive, OnLeft.toLayer(({ why }) => note(why)), MemoryBroker.layer()])
      )
      yield* emit(joined, left, joined).pipe(Effect.provide([layer, new RecordingLogger().layer]))
      assert.deepStrictEqual(entries, ["tired"])
    }))
})

describe("a handler of several events", () => {
  const Audit = EventHandler.make("Audit", { on: [Joined, Left], emits: [Counted], error: Boom })
  const OnLeft = EventHandler.make("OnLeft", { on: Left })
  const OnCounted = EventHandler.make("OnCounted", { on: Counted })
  class Audited extends EventFlow.make("Audited", { commands: [Emit], handlers: [OnLeft, Audit, OnCounted] }) {}

  for (const concurrency of [1, 3]) {
    it.effect(`runs for each of them, in its place among the handlers, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const layer = Audited.layer({ concurrency }).pipe(
          Layer.provide([
            EmitLive,
            OnLeft.toLayer(({ id }) => note(`left ${id}`)),
            Audit.toLayer((event, { collect }) =>
              Effect.andThen(
                note(event._tag === "Left" ? `audit ${event.id} ${event.why}` : `audit ${event.id}`),
                collect(new Counted({ id: event.id }))
              )
            ),
            OnCounted.toLayer(({ id }) => note(`counted ${id}`)),
            MemoryBroker.layer()
          ])
        )
        yield* Effect.gen(function*() {
          yield* emit(joined)
          yield* emit(left)
          assert.deepStrictEqual(entries, ["audit 1", "counted 1", "left 2", "audit 2 tired", "counted 2"])
          const { events, handlers } = yield* Audited.counts
          assert.deepStrictEqual(events, { Left: { emitted: 1 }, Joined: { emitted: 1 }, Counted: { emitted: 2 } })
          assert.deepStrictEqual(handlers["Audit"], { started: 2, failed: 0 })
        }).pipe(Effect.provide(layer))
      }))

    it.effect(`that fails says for which of them, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const boom = new Boom({ id: "" })
        const layer = Audited.layer({ concurrency, onFailure: "accumulate" }).pipe(
          Layer.provide([
            EmitLive,
            OnLeft.toLayer(() => Effect.void),
            Audit.toLayer(() => Effect.fail(boom)),
            OnCounted.toLayer(() => Effect.void),
            MemoryBroker.layer()
          ])
        )
        const exit = yield* emit(joined, left).pipe(Effect.provide(layer), Effect.exit)
        const failures = ["Joined", "Left"].map((event) =>
          new EventFlowError.EventHandlerError({ event, handler: "Audit", cause: boom })
        )
        assert.deepStrictEqual(
          Exit.isFailure(exit) && exit.cause.reasons,
          Cause.fail(new EventFlowError.EventsFailed({ failures: [failures[0]!, failures[1]!] })).reasons
        )
      }))
  }

  it.effect("runs once for an event that it lists twice", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const Twice = EventHandler.make("Twice", { on: [Joined, Joined] })
      const layer = EventFlow.make("Twice", { commands: [Emit], handlers: [Twice] }).layer().pipe(
        Layer.provide([EmitLive, Twice.toLayer(({ id }) => note(id)), MemoryBroker.layer()])
      )
      yield* emit(joined).pipe(Effect.provide(layer))
      assert.deepStrictEqual(entries, ["1"])
    }))

  it.effect("of both kinds: the domain events in the flow, the notification events in its consumer", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const All = EventHandler.make("All", { on: [Joined, Told, Said], emits: [Said] })
      class Both extends EventFlow.make("Both", { commands: [Emit], handlers: [All] }) {}
      const live = All.toLayer((event, { collect }) =>
        Effect.andThen(note(event._tag), event._tag === "Told" ? collect(new Said({ id: event.id })) : Effect.void)
      )
      const layer = EventConsumer.layer(Both, { group: "group" }).pipe(
        Layer.provideMerge(Both.layer()),
        Layer.provide([EmitLive, live]),
        Layer.provideMerge(MemoryBroker.layer())
      )
      yield* Effect.gen(function*() {
        assert.deepStrictEqual((yield* EventConsumer.EventConsumer).topics, ["told", "said"])
        yield* emit(new Told({ id: "1" }), joined)
        assert.include(entries, "Joined")
        yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
      }).pipe(Effect.provide(layer))
      assert.deepStrictEqual(entries.sort(), ["Joined", "Said", "Told"])
    }))
})
