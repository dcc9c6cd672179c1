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
        EventConsumer.layer(Orders, { group: "group", dedupe: true, concurrency: 2, policy, outage: false }).pipe(
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

  /** An inbox that fails so many times. */
  const failingInbox = (failures: number) =>
    Layer.effect(
      Inbox.Inbox,
      Effect.map(Inbox.Inbox, (inner) =>
        Inbox.Inbox.of({
          ...inner,
          once: (consumer, messageId, handle) =>
            failures-- > 0
              ? Effect.fail(new Inbox.InboxError({ consumer, messageId, cause: "down" }))
              : inner.once(consumer, messageId, handle)
        }))
    ).pipe(Layer.provide(Inbox.layerMemory()))

  const once = Schedule.recurs(1)
  const asides: ReadonlyArray<readonly [string, ConsumerPolicy.ConsumerPolicy | undefined]> = [
    ["the default policy", undefined],
    ["dead-letter", () => ConsumerPolicy.deadLetter()],
    ["skip", () => ConsumerPolicy.skip],
    ["ignore", () => ConsumerPolicy.ignore],
    ["postpone", () => ConsumerPolicy.postpone({ topic: "later", step: 1, delay: 1 })],
    ["retry, then dead-letter", () => ConsumerPolicy.retry(once)]
  ]
  for (const [name, policy] of asides) {
    it.effect(`an inbox that fails is not the fault of the message, which is handled in the end: ${name}`, () =>
      Effect.gen(function*() {
        const { broker, deliver, log } = yield* deduping(failingInbox(100), () => Effect.void, policy)
        yield* deliver(order(1))
        yield* adjust("45 minutes")
        assert.deepStrictEqual(log, [], "the waits grow to 30 seconds, jittered")
        yield* adjust("15 minutes")
        assert.deepStrictEqual([log, broker.batches], [["ack 1"], []])
      }))
  }

  it.effect("a policy may stop when the inbox fails", () =>
    Effect.gen(function*() {
      for (const decision of [ConsumerPolicy.stop, ConsumerPolicy.retry(once, ConsumerPolicy.stop)]) {
        const { deliver, log } = yield* deduping(failingInbox(100), () => Effect.void, () => decision)
        yield* deliver(order(1))
        yield* settled
        assert.deepStrictEqual(log, ["nack 1", "closed"])
      }
    }))
})
