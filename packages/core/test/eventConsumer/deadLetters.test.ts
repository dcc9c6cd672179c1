import { assert, describe, it } from "@effect/vitest"
import { Broker, EventConsumer } from "@event-flow/core"
import { Effect } from "effect"
import { adjust, Journal, passTime } from "../fixtures.ts"
import { encode, failing, order, publishError, setup, squashed } from "./support.ts"

describe("a dead letter that cannot be published", () => {
  const reasons = { detail: "the test says so" }

  for (const reason of [new Broker.Timeout(reasons), new Broker.Unreachable(reasons)]) {
    it.effect(`is published again while that may help: ${reason._tag}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        let failures = 10
        const { broker, deliver, log, logger } = yield* setup(
          { publish: () => failures-- > 0 ? Effect.fail(publishError(reason)) : Effect.void, concurrency: 2 },
          ({ n }) => n === 1 ? Effect.die("bug") : note(`order ${n}`)
        )
        yield* deliver(order(1), order(2, { key: "key 1" }), order(3))
        yield* adjust("30 seconds")
        assert.deepStrictEqual(log, ["ack 3"], "unacknowledged, and what is behind it waits")
        // 0.2, 0.4, ... 25.6 s, then every 30 s
        yield* adjust("2 minutes")
        assert.deepStrictEqual(log, ["ack 3", "ack 1", "ack 2"])
        assert.strictEqual(broker.batches.length, 11)
        assert.deepStrictEqual(entries, ["order 3", "order 2"])
        assert.strictEqual(
          logger.entries.filter((entry) => entry === `Error Could not publish a dead letter to "orders.dead-letter"`)
            .length,
          10
        )
      }))
  }

  const lost = [
    ...[
      Broker.UnknownTopic,
      Broker.MessageTooLarge,
      Broker.NotAuthorised,
      Broker.Closed,
      Broker.EncodeFailed,
      Broker.Rejected
    ].map((Reason) => publishError(new Reason(reasons))),
    new Broker.BrokerNotFound({ topic: "orders.dead-letter", event: "Ordered.v1" })
  ]
  for (const error of lost) {
    const name = error._tag === "PublishError" ? error.reason._tag : error._tag
    it.effect(`ends the consumer where nothing helps, the message unacknowledged: ${name}`, () =>
      Effect.gen(function*() {
        const { broker, deliver, join, log } = yield* setup({ publish: () => Effect.fail(error) }, failing(9))
        yield* deliver(order(1, { body: encode(null) }), order(2))
        const exit = yield* passTime(join)
        const stopped = squashed(exit)
        assert.isTrue(stopped instanceof EventConsumer.ConsumerStopped && stopped.cause === error)
        // What the broker refuses is published once more as it came
        const isRefusal = ["MessageTooLarge", "EncodeFailed", "Rejected"].includes(name)
        assert.strictEqual(broker.batches.length, isRefusal ? 2 : 1)
        assert.deepStrictEqual(log, ["nack 1", "closed"])
      }))
  }
})
