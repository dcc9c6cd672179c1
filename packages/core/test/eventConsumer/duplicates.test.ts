import { assert, describe, it } from "@effect/vitest"
import { ConsumerPolicy, EventConsumer, Inbox, Message } from "@event-flow/core"
import { Effect, Layer, Schedule } from "effect"
import { adjust, Boom, Journal, open, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { type Handle, order, Orders, ordersFlow, settled } from "./support.ts"

describe("duplicates", () => {
  const deduping = (inbox: Layer.Layer<Inbox.Inbox>, handle: Handle, policy?: ConsumerPolicy.ConsumerPolicy) =>
    Effect.gen(function*() {
      const subscriber = new FakeSubscriber()
      const broker = new RecordingBroker()
      const logger = new RecordingLogger()
      yield* open(
        EventConsumer.layer(Orders, { group: "group", dedupe: true, concurrency: 2, policy }).pipe(
          Layer.provide(ordersFlow(handle)),
          Layer.provide([subscriber.layer, broker.layer, inbox]),
          Layer.provide(logger.layer)
        )
      )
      return { broker, logger, ...subscriber }
    })

  it.effect("are acknowledged and not handled", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { deliver, log } = yield* deduping(Inbox.layerMemory(), ({ n }) => work(`order ${n}`, 10))
      yield* deliver(order(1), order(1, { key: "another lane" }))
      yield* adjust(5)
      assert.deepStrictEqual(log, [], "the second waits for the first")
      yield* adjust(5)
      yield* deliver(order(1))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1", "ack 1", "ack 1"])
      assert.deepStrictEqual(entries, ["order 1 starts@0", "order 1 ends@10"])
    }))

  it.effect("a failure is not remembered: its retry, and a redelivery of a dead letter, are handled", () =>
    Effect.gen(function*() {
      let attempts = 0
      const { broker, deliver, log } = yield* deduping(
        Inbox.layerMemory(),
        () => ++attempts > 2 ? Effect.void : Effect.fail(new Boom({ id: "1" })),
        () => ConsumerPolicy.retry(Schedule.recurs(1))
      )
      yield* deliver(order(1), order(1), order(1))
      yield* settled
      assert.strictEqual(attempts, 3)
      assert.strictEqual(broker.batches.length, 1)
      assert.deepStrictEqual(log, ["ack 1", "ack 1", "ack 1"])
    }))

  it.effect("a message without an id is no duplicate of another, which is said once", () =>
    Effect.gen(function*() {
      let handled = 0
      const { deliver, logger } = yield* deduping(Inbox.layerMemory(), () => Effect.sync(() => void handled++))
      const foreign = Message.make({ ...order(1), attributes: { type: "Ordered.v1" } })
      const withEmptyId = Message.copy(foreign, { attributes: { type: "Ordered.v1", id: "" } })
      yield* deliver(foreign, foreign, withEmptyId, withEmptyId)
      yield* settled
      assert.strictEqual(handled, 4)
      assert.deepStrictEqual(logger.entries, [
        `Warn A message of topic "orders" has no id: duplicates of such messages are not dropped`
      ])
    }))

  it.effect("an id is one of its source: the same one of another source is another message", () =>
    Effect.gen(function*() {
      let handled = 0
      const { deliver } = yield* deduping(Inbox.layerMemory(), () => Effect.sync(() => void handled++))
      const from = (source: string, id: string) => order(1, { attributes: { source, id } })
      yield* deliver(
        from("/billing", "1"),
        from("/orders", "1"),
        from("/orders", "1"),
        from("/orders", "1 1"),
        order(1)
      )
      yield* settled
      assert.strictEqual(handled, 4)
    }))

  it.effect("an inbox that fails is a failure like any other", () =>
    Effect.gen(function*() {
      let failures = 2
      const inbox = Layer.effect(
        Inbox.Inbox,
        Effect.map(Inbox.Inbox, ({ once }) =>
          Inbox.Inbox.of({
            once: (consumer, messageId, handle) =>
              failures-- > 0
                ? Effect.fail(new Inbox.InboxError({ consumer, messageId, cause: "down" }))
                : once(consumer, messageId, handle)
          }))
      ).pipe(Layer.provide(Inbox.layerMemory()))
      const seen: Array<string> = []
      const { deliver, log } = yield* deduping(inbox, () => Effect.void, (failure) => {
        seen.push(failure._tag === "HandlerFailed" ? failure.error._tag : failure._tag)
        return ConsumerPolicy.defaultPolicy(failure)
      })
      yield* deliver(order(1))
      yield* adjust("1 minute")
      assert.deepStrictEqual(seen, ["InboxError", "InboxError"])
      assert.deepStrictEqual(log, ["ack 1"])
    }))
})
