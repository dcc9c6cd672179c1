import { assert, describe, it } from "@effect/vitest"
import type { MessageCodec } from "@event-flow/core"
import { ConsumerPolicy, EventConsumer, EventFlowError, Message } from "@event-flow/core"
import { Cause, Clock, Effect, Layer } from "effect"
import { adjust, Boom, open, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { encode, failing, order, Orders, ordersFlow, settled, setup, text } from "./support.ts"

describe("the default policy", () => {
  it.effect("retries 5 times with jitter, then dead-letters the message as it came, with the reason", () =>
    Effect.gen(function*() {
      const times: Array<number> = []
      const { broker, deliver, log, logger } = yield* setup(
        {},
        ({ n }) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            times.push(now)
            return Effect.fail(new Boom({ id: String(n) }))
          })
      )
      const message = order(1, {
        key: new Uint8Array([0xff, 0]),
        attributes: { subject: "s", traceparent: "t", correlationid: "c", extension: "e" },
        headers: { text: "as it was", bytes: new Uint8Array([0xfe]) }
      })
      yield* deliver(message)
      yield* settled
      assert.deepStrictEqual(times, [0])
      yield* adjust("1 minute")

      const delays = times.slice(1).map((time, i) => time - times[i]!)
      assert.strictEqual(delays.length, 5)
      const exact = [100, 200, 400, 800, 1600]
      for (const [i, delay] of delays.entries()) {
        assert.isTrue(delay >= 0.8 * exact[i]! - 1 && delay <= 1.2 * exact[i]! + 1, `retry ${i + 1} after ${delay} ms`)
      }
      assert.notDeepEqual(delays, exact)

      assert.deepStrictEqual(broker.batches, [[{
        topic: "orders.dead-letter",
        key: message.key,
        attributes: message.attributes,
        headers: {
          ...message.headers,
          "dead-letter-reason": "HandlerFailed",
          "dead-letter-error": new EventFlowError.EventHandlerError({
            event: "Ordered",
            handler: "OnOrdered",
            cause: new Boom({ id: "1" })
          }).message,
          "dead-letter-topic": "orders",
          "dead-letter-group": "group",
          "dead-letter-attempts": "6",
          "dead-letter-partition": "7",
          "dead-letter-offset": "42",
          "dead-letter-handler": "OnOrdered",
          "dead-letter-error-tag": "Boom",
          "dead-letter-error-fields": "{\"id\":\"1\"}",
          "dead-letter-failures": "{\"HandlerFailed\":6}",
          "dead-letter-first-failed": new Date(times[0]!).toISOString(),
          "dead-letter-last-failed": new Date(times[5]!).toISOString(),
          "dead-letter-handlers": "[\"OnOrdered\"]",
          "dead-letter-cause": broker.batches[0]![0]!.headers["dead-letter-cause"]!
        },
        body: message.body
      }]])
      assert.deepStrictEqual(log, ["ack 1"])
      assert.deepStrictEqual(logger.entries, [`Warn Dead-lettered message 1 of topic "orders" after 6 attempt(s)`])
    }))

  it.effect("is asked whatever the flow's onFailure: a message is never lost to a log", () =>
    Effect.gen(function*() {
      const subscriber = new FakeSubscriber()
      const broker = new RecordingBroker()
      const asked: Array<string> = []
      yield* open(
        EventConsumer.layer(Orders, {
          group: "group",
          policy: (failure) => {
            asked.push(failure._tag === "HandlerFailed" ? failure.error._tag : failure._tag)
            return ConsumerPolicy.deadLetter()
          }
        }).pipe(
          Layer.provide(ordersFlow(failing(1), { onFailure: "log" })),
          Layer.provide([subscriber.layer, broker.layer, new RecordingLogger().layer])
        )
      )
      yield* subscriber.deliver(order(1))
      yield* settled
      assert.deepStrictEqual(asked, ["EventsFailed"])
      assert.strictEqual(broker.batches.length, 1)
    }))

  it.effect("shortens the reason that a dead letter carries", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        {},
        ({ n }) => Effect.die(new Error(`${"x".repeat(n)}😀${"y".repeat(9)}`))
      )
      yield* deliver(order(989), order(990), order(992), order(993), order(994), order(2_000))
      yield* settled
      const reasons = broker.batches.flat().map(({ headers }) => text(headers, "dead-letter-error"))
      assert.deepStrictEqual(reasons, [
        `${"x".repeat(989)}😀yyyy…`,
        `${"x".repeat(990)}😀yyy…`,
        `${"x".repeat(992)}😀y…`,
        `${"x".repeat(993)}😀…`,
        `${"x".repeat(994)}…`,
        `${"x".repeat(997)}…`
      ])
    }))

  it.effect("dead-letters what dies with a value that has no text", () =>
    Effect.gen(function*() {
      const { broker, deliver, log } = yield* setup({}, () => Effect.die(Object.create(null)))
      yield* deliver(order(1))
      yield* settled
      assert.deepStrictEqual([broker.batches.length, log], [1, ["ack 1"]])
    }))

  it.effect("a retry that succeeds ends it", () =>
    Effect.gen(function*() {
      const { broker, deliver, log, logger } = yield* setup({}, failing(5))
      yield* deliver(order(1))
      yield* adjust("1 minute")
      assert.deepStrictEqual([log, broker.batches, logger.entries], [["ack 1"], [], []])
    }))

  const undecodable: ReadonlyArray<readonly [MessageCodec.DecodeError["reason"], string, Message.Message]> = [
    ["NoType", "without a type", Message.make({ ...order(1), attributes: { id: "1" } })],
    ["UnknownType", "of a type that nobody handles", order(1, { attributes: { type: "Other.v1" } })],
    ["UnknownVersion", "of a type without a version", order(1, { attributes: { type: "Ordered" } })],
    ["UnknownVersion", "of a newer version", order(1, { attributes: { type: "Ordered.v2" } })],
    ["InvalidBody", "with a body that is no text", order(1, { body: new Uint8Array([0xff]) })],
    ["InvalidBody", "with an empty body", order(1, { body: new Uint8Array(0) })],
    ["InvalidBody", "with a body that is no JSON", order(1, { body: new TextEncoder().encode("{") })],
    ["InvalidBody", "with a body of another shape", order(1, { body: encode({ n: "one" }) })],
    ["InvalidBody", "with a body that is no object", order(1, { body: encode(null) })]
  ]
  for (const [reason, what, message] of undecodable) {
    it.effect(`dead-letters at once a message ${what}`, () =>
      Effect.gen(function*() {
        const { broker, deliver, log } = yield* setup({}, () => Effect.void)
        yield* deliver(message, order(2))
        yield* settled
        const [letter, ...rest] = broker.batches.flat()
        assert.deepStrictEqual(rest, [])
        assert.strictEqual(letter?.body, message.body)
        assert.strictEqual(text(letter?.headers, "dead-letter-reason"), "Undecodable")
        assert.include(text(letter?.headers, "dead-letter-error"), reason)
        assert.strictEqual(text(letter?.headers, "dead-letter-attempts"), "1")
        assert.deepStrictEqual(log, ["ack 1", "ack 2"])
      }))
  }

  it.effect("dead-letters a defect at once, and logs it as the bug that it is", () =>
    Effect.gen(function*() {
      const { broker, deliver, log, logger } = yield* setup({}, () => Effect.die(new Error("a bug")))
      yield* deliver(order(1))
      yield* settled
      const [letter] = broker.batches.flat()
      assert.strictEqual(text(letter?.headers, "dead-letter-reason"), "HandlerDied")
      assert.strictEqual(text(letter?.headers, "dead-letter-error"), "a bug")
      assert.deepStrictEqual(log, ["ack 1"])
      assert.deepStrictEqual(logger.entries, [
        "Error A handler died on message 1",
        `Warn Dead-lettered message 1 of topic "orders" after 1 attempt(s)`
      ])
    }))

  it.effect("a failure beside a defect is a defect", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        {},
        () => Effect.failCause(Cause.combine(Cause.fail(new Boom({ id: "1" })), Cause.die("a bug")))
      )
      yield* deliver(order(1))
      yield* settled
      assert.strictEqual(text(broker.batches.flat()[0]?.headers, "dead-letter-reason"), "HandlerDied")
    }))

  it.effect("a handler that interrupts itself counts as a defect: it would be delivered for ever", () =>
    Effect.gen(function*() {
      const { broker, deliver, log } = yield* setup({}, ({ n }) => n === 1 ? Effect.interrupt : Effect.void)
      yield* deliver(order(1), order(2))
      yield* settled
      assert.strictEqual(text(broker.batches.flat()[0]?.headers, "dead-letter-reason"), "HandlerDied")
      assert.deepStrictEqual(log, ["ack 1", "ack 2"])
    }))
})
