/**
 * The consumer's short way, for what it decodes at once and nobody watches, does what the long way does, which it takes
 * whenever the codec is not ours. Each case goes both ways; the two accounts of it must be the same.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  ConsumerPolicy,
  Correlation,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  Message,
  MessageCodec,
  NotificationEvent,
  Subscriber
} from "@event-flow/core"
import { Cause, Deferred, Effect, Exit, Layer, Queue, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { bodyOf, Boom, open, RecordingBroker, RecordingLogger } from "./fixtures.ts"

const Behaviour = Schema.Literals([
  "nothing",
  "wait",
  "fail once",
  "fail for ever",
  "die",
  "throw",
  "interrupt itself",
  "collect",
  "collect what fails",
  "collect what dies",
  "send",
  "collect too late"
])

class Told extends NotificationEvent.Class<Told>()("Told", { n: Schema.Int, behaviour: Behaviour }, {
  topic: "told",
  version: 2
}) {}
class Noted extends DomainEvent.Class<Noted>()("Noted", { n: Schema.Int, behaviour: Behaviour }) {}
class Passed extends NotificationEvent.Class<Passed>()("Passed", { n: Schema.Int }, { topic: "passed" }) {}
class Ask extends Command.Class<Ask>()("Ask", { payload: { n: Schema.Int }, emits: [Passed] }) {}

const First = EventHandler.make("First", { on: Told, emits: [Noted, Passed], error: Boom })
const Second = EventHandler.make("Second", { on: Told })
const OnTold = EventHandler.make("OnTold", { on: Told, emits: [Noted] })
const OnNoted = EventHandler.make("OnNoted", { on: Noted, emits: [Passed], error: Boom })

const Case = Schema.Struct({
  concurrency: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 })),
  onFailure: Schema.Literals(["failFast", "accumulate"]),
  processing: Schema.Literals([1, 2]),
  revoked: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 })),
  messages: Schema.Array(Schema.Struct({
    behaviour: Behaviour,
    body: Schema.Literals(["valid", "valid", "valid", "excess", "invalid", "no JSON"]),
    type: Schema.Literals(["Told.v2", "Told.v2", "Told.v2", "Told.v1", "Other.v1"]),
    key: Schema.UndefinedOr(Schema.Literals(["a", "b"])),
    hasId: Schema.Boolean,
    correlation: Schema.UndefinedOr(Schema.Literal("c"))
  })).check(Schema.isMaxLength(8))
})

const body = (n: number, behaviour: string, kind: string): Uint8Array =>
  new TextEncoder().encode(
    kind === "no JSON"
      ? "{"
      : JSON.stringify({ n, behaviour: kind === "invalid" ? "?" : behaviour, ...(kind === "excess" ? { x: 1 } : {}) })
  )

/** All that can be seen of a case, in its order, with its times. */
const account = (
  { concurrency, messages, onFailure, processing, revoked }: typeof Case.Type,
  codec: "ours" | "a copy"
) =>
  Effect.gen(function*() {
    const log: Array<unknown> = []
    const note = (...entry: ReadonlyArray<unknown>) =>
      Effect.gen(function*() {
        const correlation = yield* Correlation.Current
        const clock = yield* Effect.clockWith(({ currentTimeMillis }) => currentTimeMillis)
        log.push([clock, ...entry, known(correlation?.correlationId), correlation?.causationId])
      })
    // Those that start here are random
    const known = (id: string | undefined) => id === undefined || id.length < 10 ? id : "random"
    const attempts = new Map<number, number>()
    const behave = (
      n: number,
      behaviour: typeof Behaviour.Type,
      collect: (event: Noted) => Effect.Effect<void>
    ): Effect.Effect<void, Boom, Mediator.Mediator | Command.Handler<"Ask">> => {
      switch (behaviour) {
        case "nothing":
          return Effect.void
        case "wait":
          return Effect.sleep(n + 1)
        case "fail once":
          return Effect.suspend(() => {
            attempts.set(n, (attempts.get(n) ?? 0) + 1)
            return attempts.get(n) === 1 ? Effect.fail(new Boom({ id: String(n) })) : Effect.void
          })
        case "fail for ever":
          return Effect.andThen(Effect.sleep(1), Effect.fail(new Boom({ id: String(n) })))
        case "die":
          return Effect.die("a bug")
        case "throw":
          throw new Error("a bug")
        case "interrupt itself":
          return Effect.interrupt
        case "collect":
          return collect(new Noted({ n, behaviour: "wait" }))
        case "collect what fails":
          return collect(new Noted({ n, behaviour: "fail once" }))
        case "collect what dies":
          return collect(new Noted({ n, behaviour: "die" }))
        case "send":
          return Effect.orDie(Mediator.send(new Ask({ n })))
        case "collect too late":
          return Effect.asVoid(Effect.forkDetach(
            Effect.sleep(100).pipe(
              Effect.andThen(collect(new Noted({ n, behaviour: "nothing" }))),
              Effect.exit,
              Effect.flatMap((exit) => note("late", Exit.isFailure(exit)))
            )
          ))
      }
    }
    const handlers = Layer.mergeAll(
      First.toLayer((event, { collect }) =>
        Effect.andThen(
          note("first", { ...event }),
          behave(
            event.n,
            event.behaviour,
            (noted) => Effect.andThen(collect(noted), collect(new Passed({ n: event.n })))
          )
        )
      ),
      Second.toLayer((event) => note("second", event.n)),
      OnNoted.toLayer((event, { collect }) =>
        Effect.andThen(
          note("noted", { ...event }),
          Effect.andThen(collect(new Passed({ n: event.n })), behave(event.n, event.behaviour, () => Effect.void))
        )
      )
    ).pipe(
      Layer.provideMerge(
        Ask.toLayer(({ n }, { collect }) => Effect.andThen(note("asked", n), collect(new Passed({ n }))))
      )
    )

    const deliveries = yield* Queue.make<Subscriber.Delivery, Subscriber.SubscribeError>()
    const broker = new RecordingBroker()
    const logger = new RecordingLogger("Debug")
    const { close, context } = yield* open(
      EventConsumer.layer({
        group: "group",
        topics: ["told"],
        concurrency,
        policy: (failure) =>
          failure._tag === "HandlerFailed"
            ? ConsumerPolicy.retry(Schedule.upTo(Schedule.spaced(10), { times: 2 }))
            : failure._tag === "Undecodable" && failure.error.reason === "UnknownType"
            ? ConsumerPolicy.skip
            : ConsumerPolicy.deadLetter()
      }).pipe(
        Layer.provide(EventFlow.layer({
          handlers: [First, Second, OnNoted],
          onFailure,
          concurrency: processing
        })),
        Layer.provide(handlers),
        Layer.provide(
          codec === "ours"
            ? MessageCodec.layerCloudEvents()
            : layerCopy
        ),
        Layer.provide([
          broker.layer,
          Layer.succeed(Subscriber.Subscriber)({
            name: "fake",
            subscribe: () => Effect.succeed({ take: Queue.takeAll(deliveries), onRevoked: () => Effect.void })
          })
        ]),
        Layer.provideMerge(logger.layer)
      )
    )
    for (const [n, { behaviour, body: kind, correlation, hasId, key, type }] of messages.entries()) {
      let settled = false
      const settle = (what: string) =>
        Effect.suspend(() => {
          if (settled) return Effect.void
          settled = true
          return note(what, n)
        })
      yield* Queue.offer(deliveries, {
        message: Message.make({
          topic: "told",
          key,
          attributes: {
            type,
            ...(hasId ? { id: `id ${n}` } : {}),
            ...(correlation === undefined ? {} : { correlationid: correlation })
          },
          body: body(n, behaviour, kind)
        }),
        attempt: 1,
        origin: {},
        lane: key,
        ack: settle("ack"),
        nack: settle("nack"),
        isRevoked: () => n === revoked
      })
    }
    yield* TestClock.adjust(1_000)
    yield* close
    const consumer = context.mapUnsafe.get(EventConsumer.EventConsumer.key) as EventConsumer.EventConsumer["Service"]
    assert.isFalse(Exit.isSuccess(yield* Effect.exit(consumer.join)))
    const published = broker.batches.map((batch) =>
      batch.map((message) => [
        message.topic,
        message.key,
        message.headers,
        message.attributes["type"],
        known(message.attributes["correlationid"]),
        message.attributes["causationid"],
        message.attributes["type"] === "Passed.v1" ? bodyOf(message) : message.body
      ])
    )
    return { log, published, logged: logger.entries }
  })

const layerCopy = Layer.effect(
  MessageCodec.MessageCodec,
  Effect.map(MessageCodec.MessageCodec, (codec): MessageCodec.MessageCodec => ({
    ...codec,
    decode: (message, known) => Effect.suspend(() => codec.decode(message, known))
  }))
)

const withoutContextOfAck = ({ log, ...rest }: Effect.Success<ReturnType<typeof account>>) => ({
  ...rest,
  // The flow of a message ends before the acknowledgement on one way, and after it on the other
  log: (log as ReadonlyArray<ReadonlyArray<unknown>>).map((entry) => entry[1] === "ack" ? entry.slice(0, 3) : entry)
})

describe("the short way and the long way", () => {
  it.effect.prop("do the same", [Case], ([one]) =>
    Effect.gen(function*() {
      yield* TestClock.setTime(0)
      const short = yield* account(one, "ours")
      yield* TestClock.setTime(0)
      const long = yield* account(one, "a copy")
      assert.deepStrictEqual(withoutContextOfAck(short), withoutContextOfAck(long))
    }), { arbitrary: { runs: 400, size: 6, seed: 1 } })

  for (const [way, codec] of [["short", MessageCodec.layerCloudEvents()], ["long", layerCopy]] as const) {
    it.effect(`a handler that was interrupted collects no more: ${way} way`, () =>
      Effect.gen(function*() {
        let listener: Effect.Effect<void> = Effect.void
        let isRevoked = false
        const log: Array<string> = []
        const started = yield* Deferred.make<void>()
        const late = yield* Deferred.make<Exit.Exit<void>>()
        const delivery: Subscriber.Delivery = {
          message: Message.make({
            topic: "told",
            attributes: { type: "Told.v2", id: "1" },
            body: body(1, "nothing", "valid")
          }),
          attempt: 1,
          origin: {},
          lane: undefined,
          ack: Effect.sync(() => void log.push("ack")),
          nack: Effect.sync(() => void log.push("nack")),
          isRevoked: () => isRevoked
        }
        const deliveries = yield* Queue.make<Subscriber.Delivery, Subscriber.SubscribeError>()
        yield* open(
          EventConsumer.layer({ group: "group" }).pipe(
            Layer.provide(EventFlow.layer({ handlers: [OnTold] })),
            Layer.provide(OnTold.toLayer((_, { collect }) => {
              const after = Effect.andThen(Effect.sleep(10), collect(new Noted({ n: 1, behaviour: "nothing" })))
              return Effect.andThen(
                Effect.forkDetach(Effect.flatMap(Effect.exit(after), (exit) => Deferred.succeed(late, exit))),
                Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
              )
            })),
            Layer.provide([
              codec,
              new RecordingBroker().layer,
              Layer.succeed(Subscriber.Subscriber)({
                name: "fake",
                subscribe: () =>
                  Effect.succeed({
                    take: Queue.takeAll(deliveries),
                    onRevoked: (given) => Effect.sync(() => void (listener = given))
                  })
              })
            ])
          )
        )
        yield* Queue.offer(deliveries, delivery)
        yield* Deferred.await(started)
        isRevoked = true
        yield* listener
        assert.deepStrictEqual(log, ["nack"])
        yield* TestClock.adjust(10)
        const exit = yield* Deferred.await(late)
        assert.match(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), /collected after its handler had ended/)
      }))
  }
})
