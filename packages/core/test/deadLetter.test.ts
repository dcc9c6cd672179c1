/** What a dead letter says, and that it is bounded. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  BrokerLayer,
  ConsumerPolicy,
  DeadLetter,
  EventConsumer,
  EventFlowError,
  EventHandler,
  MemoryBroker,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Effect, Layer, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { adjust, RecordingLogger } from "./fixtures.ts"

class Ordered extends NotificationEvent.Class<Ordered>()("Ordered", { bug: Schema.Boolean }, { topic: "orders" }) {}
class NoSeat extends Schema.TaggedError<NoSeat>()("NoSeat", { flight: Schema.String, seat: Schema.String }) {
  override get message(): string {
    return "the seat is taken"
  }
}
const Reserve = EventHandler.make("Reserve", { on: Ordered, error: NoSeat })

const order = (body: string, headers: Message.Headers = {}): Message.Message =>
  Message.make({
    topic: "orders",
    attributes: { id: "1", type: "Ordered.v1" },
    headers,
    body: new TextEncoder().encode(body)
  })

/** The dead letter of an order; `fails` says how each attempt ends. */
const deadLetterOf = (message: Message.Message, fails: (attempt: number) => Effect.Effect<void, NoSeat>) =>
  Effect.gen(function*() {
    yield* TestClock.setTime(0)
    const { publish } = yield* Broker.Broker
    const memory = yield* MemoryBroker.MemoryBroker
    yield* publish([message])
    yield* adjust("1 hour")
    const [dead] = yield* memory.messages("orders.dead-letter")
    return { headers: dead!.headers, letter: DeadLetter.decode(dead!)! }
  }).pipe(Effect.provide(Layer.suspend(() => {
    let attempts = 0
    return EventConsumer.layer([Reserve], {
      group: "seats",
      outage: false,
      policy: () => ConsumerPolicy.retry(Schedule.spaced("1 minute").pipe(Schedule.upTo({ times: 1 })))
    }).pipe(
      Layer.provide(Reserve.toLayer(() => fails(++attempts))),
      Layer.provideMerge(MemoryBroker.layer()),
      Layer.provideMerge(new RecordingLogger().layer)
    )
  })))

const noSeat = Effect.fail(new NoSeat({ flight: "EF 1", seat: "1A" }))
const bug = Effect.sync(() => {
  throw new TypeError("Cannot read properties of undefined")
})

describe("a dead letter", () => {
  it.effect("says which handler failed with which error, and its fields", () =>
    Effect.gen(function*() {
      const { letter } = yield* deadLetterOf(order("{\"bug\":false}"), () => noSeat)
      const { cause, ...rest } = letter
      assert.deepStrictEqual({ ...rest, origin: { ...rest.origin } }, {
        reason: "HandlerFailed",
        error: "Handler \"Reserve\" of event \"Ordered\" failed: NoSeat: the seat is taken " +
          "{\"flight\":\"EF 1\",\"seat\":\"1A\"}",
        handler: "Reserve",
        errorTag: "NoSeat",
        errorFields: "{\"flight\":\"EF 1\",\"seat\":\"1A\"}",
        failures: { HandlerFailed: 2 },
        attempts: 2,
        firstFailed: 0,
        lastFailed: 60_000,
        handlers: ["Reserve"],
        topic: "orders",
        group: "seats",
        origin: { offset: "0" }
      })
      assert.include(cause, "NoSeat")
      assert.include(cause, "    at ")
    }))

  it.effect("says all kinds of failure of the delivery, and the stack of a bug", () =>
    Effect.gen(function*() {
      const { letter } = yield* deadLetterOf(order("{\"bug\":true}"), (attempt) => attempt < 3 ? noSeat : bug)
      assert.deepStrictEqual({ ...letter.failures }, { HandlerFailed: 2 })
      const mixed = yield* deadLetterOf(order("{\"bug\":true}"), (attempt) => attempt === 1 ? noSeat : bug)
      assert.deepStrictEqual({ ...mixed.letter.failures }, { HandlerFailed: 1, HandlerDied: 2 })
      assert.deepStrictEqual([mixed.letter.reason, mixed.letter.handler, mixed.letter.errorTag], [
        "HandlerDied",
        "Reserve",
        "TypeError"
      ])
      assert.match(mixed.letter.cause!, /TypeError: Cannot read[^]*deadLetter\.test\.ts/)
    }))

  it.effect("counts what went before: delayed retries, but not another life of the message", () =>
    Effect.gen(function*() {
      const retries = BrokerLayer.encodeRetry({
        group: "seats",
        step: 1,
        due: 0,
        attempts: 3,
        topic: "orders",
        reason: "HandlerFailed",
        error: "",
        failures: { HandlerFailed: 2, HandlerDied: 1 },
        since: -5_000,
        origin: {}
      })
      const { headers, letter } = yield* deadLetterOf(order("{\"bug\":false}", retries), () => noSeat)
      assert.deepStrictEqual([letter.attempts, letter.firstFailed, { ...letter.failures }], [
        5,
        0,
        { HandlerFailed: 4, HandlerDied: 1 }
      ])
      const again = yield* deadLetterOf(order("{", { ...headers, own: "kept" }), () => noSeat)
      assert.deepStrictEqual([again.letter.reason, again.letter.attempts, again.letter.cause], [
        "Undecodable",
        2,
        undefined
      ])
      assert.isUndefined(again.letter.handlers)
      assert.strictEqual(again.headers["own"], "kept")
    }))

  it("is bounded in bytes, keeps its lists whole, and no character is cut in two", () => {
    const long = "😀ü".repeat(10_000)
    const headers = DeadLetter.encode({
      reason: "HandlerDied",
      error: long,
      handler: long,
      errorTag: long,
      errorFields: JSON.stringify({ long }),
      cause: long,
      failures: { HandlerDied: 1 },
      attempts: 1,
      firstFailed: 0,
      lastFailed: 0,
      handlers: ["Reserve"],
      topic: "orders",
      group: "seats",
      origin: { partition: "1", queue: long }
    })
    const bytes = Object.values(headers).map((value) => new TextEncoder().encode(String(value)).length)
    assert.isAtMost(bytes.reduce((sum, size) => sum + size, 0), 8_000)
    const letter = DeadLetter.decode(order("", headers))!
    assert.deepStrictEqual([letter.handlers, letter.errorFields, letter.failures], [
      ["Reserve"],
      undefined,
      { HandlerDied: 1 }
    ])
    assert.match(letter.cause!, /^(😀ü)+😀?…$/u)
  })

  it("is not read from other messages", () => {
    assert.isUndefined(DeadLetter.decode(order("")))
    assert.isUndefined(DeadLetter.decode(order("", { "dead-letter-reason": "HandlerDied" })))
  })
})

describe("an EventHandlerError", () => {
  const error = new EventFlowError.EventHandlerError({
    event: "Ordered",
    handler: "Reserve",
    cause: new NoSeat({ flight: "EF 1", seat: "1A" })
  })

  it("names event, handler, the error's tag and its fields, also beyond a wire", () => {
    const message = "Handler \"Reserve\" of event \"Ordered\" failed: NoSeat: the seat is taken " +
      "{\"flight\":\"EF 1\",\"seat\":\"1A\"}"
    assert.strictEqual(error.message, message)
    const wire = JSON.stringify(Schema.encodeSync(EventFlowError.EventFlowError)(error))
    const received = Schema.decodeUnknownSync(EventFlowError.EventFlowError)(JSON.parse(wire))
    assert.strictEqual(received.message, message)
    const { cause } = received as EventFlowError.EventHandlerError
    assert.isTrue(cause instanceof Error)
    assert.deepInclude(cause, { _tag: "NoSeat", flight: "EF 1", seat: "1A" })
  })
})
