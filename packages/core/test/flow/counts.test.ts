/** How often what has happened in a flow. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  Command,
  DomainEvent,
  EventFlow,
  EventHandler,
  Mediator,
  Middleware,
  NotificationEvent,
  Query
} from "@event-flow/core"
import { Deferred, Effect, Fiber, Layer, Schedule, Schema, Stream } from "effect"
import { Boom, open, RecordingLogger } from "../fixtures.ts"

const Outcome = Schema.Literals(["succeeds", "fails", "dies", "interrupts itself", "hangs"])
type Outcome = typeof Outcome.Type

class Done extends DomainEvent.Class<Done>()("Done", { outcome: Outcome }) {}
class Next extends DomainEvent.Class<Next>()("Next", {}) {}
class Unhandled extends DomainEvent.Class<Unhandled>()("Unhandled", {}) {}
class Told extends NotificationEvent.Class<Told>()("Told", {}, { topic: "told" }) {}
const payload = { outcome: Outcome, events: Schema.Array(Outcome) }
class Work extends Command.Class<Work>()("Work", { payload, error: Boom, emits: [Done, Unhandled, Told] }) {}
class Watch extends Command.Class<Watch>()("Watch", {
  payload,
  success: Schema.Int,
  error: Boom,
  emits: [Done],
  stream: true
}) {}
class Never extends Query.Class<Never>()("Never", {}) {}
const First = EventHandler.make("First", { on: Done, error: Boom, emits: [Next] })
const Second = EventHandler.make("Second", { on: [Done, Next] })
const OnTold = EventHandler.make("OnTold", { on: Told })
class Counted extends EventFlow.make("Counted", {
  commands: [Work, Watch, Never],
  handlers: [First, Second, OnTold]
}) {}

const perform = (outcome: Outcome): Effect.Effect<void, Boom> => {
  switch (outcome) {
    case "succeeds":
      return Effect.void
    case "fails":
      return Effect.fail(new Boom({ id: "" }))
    case "dies":
      return Effect.die("bug")
    case "interrupts itself":
      return Effect.interrupt
    case "hangs":
      return Effect.never
  }
}

const counted = (options?: EventFlow.Options) =>
  Counted.layer(options).pipe(
    Layer.provide([
      Work.toLayer(({ events, outcome }, { collect, collectAll }) =>
        collectAll(events.map((outcome) => new Done({ outcome }))).pipe(
          Effect.andThen(collect(new Unhandled())),
          Effect.andThen(perform(outcome))
        )
      ),
      Watch.toLayer(({ events, outcome }, { collect }) =>
        Stream.concat(
          Stream.mapEffect(Stream.fromIterable(events), (outcome) => Effect.as(collect(new Done({ outcome })), 1)),
          Stream.fromEffectDrain(perform(outcome))
        )
      ),
      Never.toLayer(() => Effect.void),
      First.toLayer(({ outcome }, { collect }) => Effect.andThen(collect(new Next()), perform(outcome))),
      Second.toLayer(() => Effect.void),
      Broker.layerNone
    ]),
    Layer.provideMerge(new RecordingLogger().layer)
  )

const work = (outcome: Outcome, ...events: ReadonlyArray<Outcome>) => Mediator.send(new Work({ outcome, events }))
const watch = (outcome: Outcome, ...events: ReadonlyArray<Outcome>) => Mediator.stream(new Watch({ outcome, events }))

const none = { started: 0, succeeded: 0, failed: 0, interrupted: 0 }

describe("counts", () => {
  it.effect("are of every command, and of every handled domain event and its handlers, from the start", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Counted.counts, {
        commands: { Work: none, Watch: none, Never: none },
        events: { Done: { emitted: 0 }, Next: { emitted: 0 } },
        handlers: { First: { started: 0, failed: 0 }, Second: { started: 0, failed: 0 } }
      })
    }).pipe(Effect.provide(counted())))

  for (const concurrency of [1, 3]) {
    for (const onFailure of ["failFast", "accumulate", "log"] as const) {
      it.effect(`are right whatever happens: ${onFailure}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          for (const outcome of ["succeeds", "fails", "dies", "interrupts itself"] as const) {
            yield* Effect.exit(work(outcome, "succeeds", "succeeds"))
            yield* Effect.exit(work("succeeds", outcome))
          }
          const { commands, events, handlers } = yield* Counted.counts
          const isLogged = onFailure === "log"
          assert.deepStrictEqual(commands["Work"], {
            started: 8,
            // Logged failures are no failures of the command
            succeeded: isLogged ? 3 : 2,
            failed: isLogged ? 3 : 4,
            interrupted: 2
          })
          // Two of the command that succeeded, and one of each of the others
          const isFast = onFailure === "failFast"
          const followUps = 3
          assert.deepStrictEqual(events, { Done: { emitted: 6 }, Next: { emitted: followUps } })
          assert.deepStrictEqual(handlers, {
            First: { started: 6, failed: 3 },
            // Only failing fast skips the other handlers of an event
            Second: { started: (isFast ? 3 : 6) + followUps, failed: 0 }
          })
        }).pipe(Effect.provide(counted({ concurrency, onFailure }))))
    }

    it.effect(`of what is interrupted from outside, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { context } = yield* open(counted({ concurrency }))
        const interrupted = (effect: Effect.Effect<unknown, unknown, Command.Flows<"Work" | "Watch">>) =>
          Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
            yield* Effect.replicateEffect(Effect.yieldNow, 50)
            const meanwhile = yield* Counted.counts
            yield* Fiber.interrupt(fiber)
            return meanwhile
          }).pipe(Effect.provideContext(context))
        const inHandler = yield* interrupted(work("hangs"))
        assert.deepStrictEqual(inHandler.commands["Work"], { ...none, started: 1 })
        const inEvents = yield* interrupted(work("succeeds", "succeeds", "hangs"))
        assert.deepStrictEqual(inEvents.commands["Work"], { ...none, started: 2, interrupted: 1 })
        yield* interrupted(Stream.runDrain(watch("hangs")))
        const { commands, handlers } = yield* Effect.provideContext(Counted.counts, context)
        assert.deepStrictEqual(commands["Work"], { ...none, started: 2, interrupted: 2 })
        assert.deepStrictEqual(commands["Watch"], { ...none, started: 1, interrupted: 1 })
        // A handler that the dispatch interrupts has not failed
        assert.deepStrictEqual(handlers["First"], { started: 2, failed: 0 })
        // A snapshot stays as it is
        assert.deepStrictEqual(inEvents.commands["Work"], { ...none, started: 2, interrupted: 1 })
      }))
  }

  it.effect("of streams: one to its end, one that had enough, one that fails, one whose event fails", () =>
    Effect.gen(function*() {
      yield* Stream.runDrain(watch("succeeds", "succeeds", "succeeds"))
      yield* Stream.runDrain(Stream.take(watch("fails", "succeeds", "succeeds"), 1))
      yield* Effect.exit(Stream.runDrain(watch("fails", "succeeds")))
      yield* Effect.exit(Stream.runDrain(watch("succeeds", "fails")))
      const { commands, handlers } = yield* Counted.counts
      assert.deepStrictEqual(commands["Watch"], { started: 4, succeeded: 2, failed: 2, interrupted: 0 })
      assert.deepStrictEqual(handlers["First"], { started: 5, failed: 1 })
    }).pipe(Effect.provide(counted())))

  it.effect("of many at once", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const sends = Array.from({ length: 300 }, (_, i) => {
        const send = Effect.exit(work(i % 3 === 0 ? "fails" : "succeeds", i % 3 === 1 ? "succeeds" : "fails"))
        return Effect.andThen(Effect.raceFirst(Effect.yieldNow, Deferred.await(gate)), send)
      })
      yield* Effect.all(sends, { concurrency: "unbounded" })
      const { commands, events, handlers } = yield* Counted.counts
      assert.deepStrictEqual(commands["Work"], { started: 300, succeeded: 100, failed: 200, interrupted: 0 })
      assert.deepStrictEqual(events["Done"], { emitted: 200 })
      assert.deepStrictEqual(handlers["First"], { started: 200, failed: 100 })
    }).pipe(Effect.provide(counted({ concurrency: 4 }))))

  it.effect("of attempts, and not of what middleware refuses", () =>
    Effect.gen(function*() {
      class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
      const retry = Middleware.retry({ schedule: Schedule.recurs(2) })
      const deny = Middleware.make(() => Effect.fail(new Denied()), { error: Denied })
      class Flaky extends Command.Class<Flaky>()("Flaky", { error: Boom, middleware: [retry] }) {}
      class Refused extends Command.Class<Refused>()("Refused", { middleware: [deny] }) {}
      class Wrapped extends EventFlow.make("Wrapped", { commands: [Flaky, Refused] }) {}
      const layer = Wrapped.layer().pipe(
        Layer.provide([
          Flaky.toLayer(() => Effect.fail(new Boom({ id: "" }))),
          Refused.toLayer(() => Effect.void)
        ])
      )
      yield* Effect.gen(function*() {
        for (const command of [new Flaky(), new Refused()]) yield* Effect.exit(Mediator.send(command))
        assert.deepStrictEqual((yield* Wrapped.counts).commands, {
          Flaky: { ...none, started: 3, failed: 3 },
          Refused: none
        })
      }).pipe(Effect.provide(layer))
    }))

  it.effect("of its own commands and not of those that it sends elsewhere; each layer has its own", () =>
    Effect.gen(function*() {
      class Other extends Command.Class<Other>()("Other", { sends: [Never] }) {}
      class Others extends EventFlow.make("Others", { commands: [Other] }) {}
      const layer = Others.layer().pipe(
        Layer.provide(Other.toLayer(() => Mediator.send(new Never()))),
        Layer.provideMerge(counted())
      )
      const once = Effect.gen(function*() {
        yield* Mediator.send(new Other())
        const [others, counted] = [yield* Others.counts, yield* Counted.counts]
        assert.deepStrictEqual(others.commands, { Other: { ...none, started: 1, succeeded: 1 } })
        assert.deepStrictEqual(counted.commands["Never"], { ...none, started: 1, succeeded: 1 })
      })
      for (const context of [yield* Layer.build(layer), yield* Layer.build(layer)]) {
        yield* Effect.provideContext(once, context)
      }
    }))
})
