import { assert, describe, it } from "@effect/vitest"
import { Broker, ConsumerPolicy, EventConsumer, MemoryBroker, MessageCodec, Subscriber } from "@event-flow/core"
import type { Duration } from "effect"
import { Clock, Context, Effect, Exit, Fiber, Layer, Schedule, Scheduler } from "effect"
import { adjust, bodyOf, Boom, Journal, open, passTime, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { consumer, failing, order, Ordered, Orders, ordersFlow, publishError, settled, setup } from "./support.ts"

describe("closing", () => {
  /** Every fiber yields as it begins, and one of them goes on long after the others. */
  const holdingUp = (which: number): Scheduler.Scheduler => {
    const begun = new WeakSet<object>()
    const after = (turns: number, task: () => void): void => {
      setImmediate(() => turns === 0 ? task() : after(turns - 1, task))
    }
    let fibers = 0
    let turns = 0
    return {
      executionMode: "async",
      shouldYield: (fiber) => {
        if (begun.has(fiber)) return false
        begun.add(fiber)
        turns = fibers++ === which ? 50 : 0
        return true
      },
      makeDispatcher: () => ({
        // Called at once for a fiber that yields
        scheduleTask: (task) => {
          after(turns, task)
          turns = 0
        },
        flush: () => undefined
      })
    }
  }

  it.effect("what runs is finished, what has not started is given back in order", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { close } = yield* open(consumer(({ n }) => work(`order ${n}`, 10), { concurrency: 2 }))
      const { publish } = yield* Broker.Broker
      yield* publish([order(1), order(2), order(3), order(4), order(5, { key: "key 1" })])
      yield* adjust(5)
      yield* passTime(close)
      assert.deepStrictEqual(entries, ["order 1 starts@0", "order 2 starts@0", "order 1 ends@10", "order 2 ends@10"])
      const subscriber = yield* Subscriber.Subscriber
      const { take } = yield* subscriber.subscribe({ topics: ["orders"], group: "group", maxInFlight: 10 })
      assert.deepStrictEqual((yield* take).map(({ message }) => bodyOf(message)), [{ n: 3 }, { n: 4 }, { n: 5 }])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  const bounds: ReadonlyArray<readonly [Duration.Input | undefined, number]> = [[undefined, 30_000], [
    "1 second",
    1_000
  ], [0, 0]]
  for (const [drainTimeout, millis] of bounds) {
    it.effect(`drainTimeout ${drainTimeout}: after ${millis} ms, what still runs is interrupted and given back`, () =>
      Effect.gen(function*() {
        const { entries, work } = new Journal()
        const { close, deliver, log, logger } = yield* setup(
          { concurrency: 3, drainTimeout },
          ({ n }) => n === 2 ? Effect.fail(new Boom({ id: "2" })) : work(`order ${n}`, 60_000)
        )
        yield* deliver(order(1))
        yield* settled
        const closing = yield* Effect.forkChild(Effect.andThen(close, Clock.currentTimeMillis))
        yield* adjust("1 hour")
        assert.strictEqual(yield* Fiber.join(closing), millis)
        assert.deepStrictEqual(entries, ["order 1 starts@0", `order 1 interrupted@${millis}`])
        assert.deepStrictEqual(log, ["nack 1", "closed"], "unacknowledged, before the subscription ends")
        assert.deepStrictEqual(logger.entries, [
          "Warn Handlers did not end before the drain timeout: interrupting them"
        ])
      }))
  }

  it.effect("with no time to drain, nothing starts once it closes, whichever fiber is held up", () =>
    Effect.gen(function*() {
      for (let which = 0; which < 15; which++) {
        const { entries, note } = new Journal()
        const { close, deliver } = yield* Effect.provideService(
          setup({ drainTimeout: 0 }, ({ n }) => Effect.andThen(note(`order ${n}`), Effect.never)),
          Scheduler.Scheduler,
          holdingUp(which)
        )
        yield* deliver(order(1), order(2))
        while (entries.length === 0) yield* Effect.yieldNow
        yield* close
        // A worker that had started would have its turn by now
        yield* Effect.repeat(Effect.yieldNow, { times: 100 })
        assert.deepStrictEqual(entries, ["order 1"], `fiber ${which}`)
      }
    }))

  const waits: ReadonlyArray<readonly [string, number, Parameters<typeof setup>[0], Parameters<typeof setup>[1]]> = [
    [
      "a retry that is due in 10 minutes",
      0,
      { policy: () => ConsumerPolicy.retry(Schedule.spaced("10 minutes")) },
      failing(9)
    ],
    [
      "a dead letter that the broker cannot take now",
      500,
      {
        policy: () => ConsumerPolicy.deadLetter(),
        publish: () => Effect.fail(publishError(new Broker.Unreachable({ detail: "the test says so" })))
      },
      failing(9)
    ],
    [
      "a dead letter that the broker does not confirm",
      500,
      { policy: () => ConsumerPolicy.deadLetter(), publish: () => Effect.never },
      failing(9)
    ],
    ["the end of an outage", 0, { outage: {}, concurrency: 3 }, () => Effect.die("connection refused")]
  ]
  for (const [name, millis, options, handle] of waits) {
    it.effect(`what only waits is given back at once: ${name}`, () =>
      Effect.gen(function*() {
        const { close, deliver, log, logger } = yield* setup(options, handle)
        yield* deliver(order(1), order(2), order(3))
        yield* adjust("1 minute")
        const start = yield* Clock.currentTimeMillis
        const closing = yield* Effect.forkChild(Effect.andThen(close, Clock.currentTimeMillis))
        yield* adjust("1 hour")
        assert.strictEqual((yield* Fiber.join(closing)) - start, millis)
        assert.isFalse(log.some((entry) => entry.startsWith("ack")))
        assert.strictEqual(log.at(-1), "closed")
        assert.isFalse(logger.entries.some((entry) => entry.includes("drain timeout")))
      }))
  }

  it.effect("a handler that runs has its time, and its retry is not waited for", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { close, deliver, log } = yield* setup(
        { policy: () => ConsumerPolicy.retry(Schedule.spaced("10 minutes")) },
        () => Effect.andThen(work("order", 5_000), Effect.fail(new Boom({ id: "1" })))
      )
      yield* deliver(order(1))
      yield* settled
      const closing = yield* Effect.forkChild(Effect.andThen(close, Clock.currentTimeMillis))
      yield* adjust("1 hour")
      assert.strictEqual(yield* Fiber.join(closing), 5_000)
      assert.deepStrictEqual(entries, ["order starts@0", "order ends@5000"])
      assert.deepStrictEqual(log, ["nack 1", "closed"])
    }))

  it.effect("a dead letter that is on its way when it closes, and is confirmed, is not sent twice", () =>
    Effect.gen(function*() {
      const { broker, close, deliver, log } = yield* setup(
        { policy: () => ConsumerPolicy.deadLetter(), publish: () => Effect.sleep(400) },
        failing(9)
      )
      yield* deliver(order(1))
      yield* adjust(100)
      yield* passTime(close)
      assert.deepStrictEqual([log, broker.batches.length], [["ack 1", "closed"], 1])
    }))

  it.effect("does not wait when nothing runs, and says nothing", () =>
    Effect.gen(function*() {
      const { close, deliver, log, logger } = yield* setup({}, () => Effect.void)
      yield* deliver(order(1))
      yield* settled
      yield* close
      assert.deepStrictEqual([log, logger.entries], [["ack 1", "closed"], []])
    }))

  it.effect("run takes a codec of its context", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const subscriber = new FakeSubscriber()
      const codec: MessageCodec.MessageCodec = {
        encode: () => Effect.die("not used"),
        decode: ({ attributes }) => Effect.sync(() => new Ordered({ n: Number(attributes["id"]) }))
      }
      yield* EventConsumer.run(Orders, { group: "group" }).pipe(
        Effect.provide(
          ordersFlow(({ n }) => note(`order ${n}`)).pipe(
            Layer.provideMerge([subscriber.layer, Broker.layerNone, Layer.succeed(MessageCodec.MessageCodec)(codec)])
          )
        ),
        Effect.forkChild
      )
      yield* subscriber.deliver(order(7, { body: new Uint8Array() }))
      yield* settled
      assert.deepStrictEqual(entries, ["order 7"])
    }))

  it.effect("interrupting run, mid-handler, leaves the message unacknowledged", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const subscriber = new FakeSubscriber()
      const running = yield* EventConsumer.run(Orders, { group: "group", drainTimeout: 5 }).pipe(
        Effect.provide(
          ordersFlow(() => work("order", 60_000)).pipe(
            Layer.provideMerge(Layer.merge(subscriber.layer, Broker.layerNone))
          )
        ),
        Effect.forkChild
      )
      yield* subscriber.deliver(order(1), order(2))
      yield* settled
      yield* passTime(Fiber.interrupt(running))
      assert.deepStrictEqual(subscriber.log, ["nack 1", "closed"])
      assert.deepStrictEqual(entries, ["order starts@0", "order interrupted@5"])
    }))
})

describe("a consumer that ends by itself", () => {
  it.effect("gives back what it has taken, though its layer stays open", () =>
    Effect.gen(function*() {
      const { context } = yield* open(
        consumer(failing(9), { policy: () => ConsumerPolicy.stop }).pipe(
          Layer.provideMerge(new RecordingLogger().layer)
        )
      )
      const { publish } = yield* Broker.Broker
      yield* publish([order(1), order(2, { key: "key 1" }), order(3)])
      yield* Effect.exit(Context.get(context, EventConsumer.EventConsumer).join)
      const subscriber = yield* Subscriber.Subscriber
      const { take } = yield* subscriber.subscribe({ topics: ["orders"], group: "group", maxInFlight: 10 })
      // Their keys differ: either may come first
      assert.sameDeepMembers((yield* take).map(({ message }) => bodyOf(message)), [{ n: 1 }, { n: 3 }])
    }).pipe(Effect.provide(MemoryBroker.layer())), 5_000)

  it.effect("a subscription that breaks ends it", () =>
    Effect.gen(function*() {
      const { join, log, logger, subscriber } = yield* setup({}, () => Effect.void)
      const error = Subscriber.subscribeError(
        { topics: ["orders"], group: "group" },
        new Broker.UnknownTopic({ detail: "deleted" })
      )
      yield* subscriber.fail(error)
      assert.deepStrictEqual(yield* Effect.exit(join), Exit.fail(error))
      assert.deepStrictEqual([log, logger.entries], [["closed"], ["Fatal The consumer has ended"]])
    }))

  it.effect("one that cannot subscribe is not built", () =>
    Effect.gen(function*() {
      const error = Subscriber.subscribeError(
        { topics: ["orders"], group: "group" },
        new Broker.NotAuthorised({ detail: "no" })
      )
      const refusing = Layer.succeed(Subscriber.Subscriber)({ name: "fake", subscribe: () => Effect.fail(error) })
      const exit = yield* Effect.exit(
        Layer.build(consumer(() => Effect.void).pipe(Layer.provide([refusing, Broker.layerNone])))
      )
      assert.deepStrictEqual(exit, Exit.fail(error))
    }))
})
