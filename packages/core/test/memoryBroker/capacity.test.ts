/** The bound of the memory broker: who waits, and who is refused. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  EventConsumer,
  EventHandler,
  MemoryBroker,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Effect, Fiber, Layer, Logger, Schema } from "effect"
import { adjust, open } from "../fixtures.ts"
import { ackAll, message, numbers, pending, publish, reasonOf, started, stored, subscribe } from "./support.ts"

describe("capacity", () => {
  it.effect(
    "a publish waits while a group is full, and goes on as messages are acknowledged",
    () =>
      Effect.gen(function*() {
        const { take } = yield* subscribe()
        yield* publish([1, 2])
        const waiting = yield* started(publish([3, 4, 5]))
        assert.isUndefined(waiting.pollUnsafe())
        const [one, two] = yield* take
        yield* one!.ack
        yield* adjust(0)
        assert.deepStrictEqual(numbers(yield* take), [3])
        yield* two!.nack
        yield* adjust(0)
        assert.isUndefined(waiting.pollUnsafe())
        const handled: Array<unknown> = []
        while (handled.length < 3) {
          const deliveries = yield* take
          handled.push(...numbers(deliveries))
          yield* ackAll(deliveries)
        }
        assert.deepStrictEqual(handled, [2, 4, 5])
        yield* Fiber.join(waiting)
      }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))),
    5_000
  )

  it.effect("a batch larger than the capacity is consumed while it is published", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      const handled: Array<unknown> = []
      yield* started(Effect.forever(Effect.tap(take, (deliveries) => {
        handled.push(...numbers(deliveries))
        return ackAll(deliveries)
      })))
      yield* publish([1, 2, 3, 4, 5, 6, 7])
      yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
      assert.deepStrictEqual(handled, [1, 2, 3, 4, 5, 6, 7])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))))

  it.effect("a full group without a consumer rejects, for nobody would make room", () =>
    Effect.gen(function*() {
      const { close } = yield* subscribe()
      yield* close
      yield* publish([1, 2])
      assert.strictEqual(reasonOf(yield* Effect.exit(publish([3]))), "Rejected")
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))))

  it.effect("what precedes a rejected message in its batch is delivered", () =>
    Effect.gen(function*() {
      const full = yield* subscribe({ topics: ["full"] })
      yield* full.close
      yield* publish([1, 2], { topic: "full" })
      const { take } = yield* subscribe()
      const taking = yield* started(take)
      const { publish: publishAll } = yield* Broker.Broker
      assert.strictEqual(
        reasonOf(yield* Effect.exit(publishAll([message(1), message(3, { topic: "full" })]))),
        "Rejected"
      )
      assert.deepStrictEqual(numbers(yield* Fiber.join(taking)), [1])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))), 5_000)

  it.effect("a publish that waits is rejected when the last consumer leaves", () =>
    Effect.gen(function*() {
      const { close } = yield* subscribe()
      const waiting = yield* started(publish([1, 2, 3]))
      yield* close
      assert.strictEqual(reasonOf(yield* Fiber.await(waiting)), "Rejected")
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))), 5_000)
})

describe("a handler that publishes to its own consumer", () => {
  class Step extends NotificationEvent.Class<Step>()("Step", { n: Schema.Int }, { topic: "steps" }) {}
  class Other extends NotificationEvent.Class<Other>()("Other", { n: Schema.Int }, { topic: "others" }) {}
  const OnStep = EventHandler.make("OnStep", { on: Step, emits: [Step, Other] })
  const OnOther = EventHandler.make("OnOther", { on: Other })

  const encoded = (type: string, n: number) =>
    Message.make({
      topic: type === "Step" ? "steps" : "others",
      attributes: { id: `${type} ${n}`, type: `${type}.v1` },
      body: new TextEncoder().encode(JSON.stringify({ n }))
    })

  const setup = (
    handle: (event: Step) => ReadonlyArray<Step | Other>,
    onOther: (event: Other) => Effect.Effect<void> = () => Effect.void
  ) =>
    Effect.gen(function*() {
      const handled: Array<number> = []
      const failures: Array<string> = []
      const group = EventConsumer.layer([OnStep, OnOther], {
        group: "group",
        policy: (failure) => {
          failures.push(failure._tag === "HandlerFailed" ? failure.error.message : failure._tag)
          return ConsumerPolicy.skip
        }
      })
      yield* open(
        group.pipe(
          Layer.provide([
            OnStep.toLayer((event, { collectAll }) =>
              Effect.andThen(Effect.sync(() => handled.push(event.n)), collectAll(handle(event)))
            ),
            OnOther.toLayer(onOther),
            Logger.layer([])
          ])
        )
      )
      const { publish } = yield* Broker.Broker
      return { failures, handled, publish }
    })

  it.effect("does not wait for the room that only its own end can make", () =>
    Effect.gen(function*() {
      const { failures, handled, publish } = yield* setup(({ n }) => n < 10 ? [new Step({ n: n + 1 })] : [])
      // Publishers that fill whatever room there is
      const publishers = yield* started(
        Effect.forEach([9, 9, 9, 9], (n) => publish([encoded("Step", n)]), { discard: true })
      )
      yield* publish([encoded("Step", 1)])
      yield* adjust(0)
      yield* Fiber.join(publishers)
      assert.deepStrictEqual(failures, [])
      assert.strictEqual(handled.length, 10 + 4 * 2)
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))), 5_000)

  it.effect("so it is to another topic of the same consumer", () =>
    Effect.gen(function*() {
      const { failures, publish } = yield* setup(({ n }) => [new Other({ n }), new Other({ n })])
      yield* publish([encoded("Step", 1)])
      yield* adjust(0)
      assert.deepStrictEqual(failures, [])
      assert.deepStrictEqual(yield* stored("others"), [{ n: 1 }, { n: 1 }])
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 1 }))), 5_000)

  it.effect("one that makes more and more of them fails: memory is bounded", () =>
    Effect.gen(function*() {
      const { failures, publish } = yield* setup(({ n }) =>
        n > 8 ? [] : [new Step({ n: n + 1 }), new Step({ n: n + 1 })]
      )
      yield* publish([encoded("Step", 1)])
      yield* adjust(0)
      assert.include(
        failures[0],
        `group "group" has 8 messages outstanding, and its own consumer publishes more: raise capacity`
      )
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 4 }))), 5_000)

  it.effect("waits for another consumer as everybody does", () =>
    Effect.gen(function*() {
      const { failures, handled, publish } = yield* setup(({ n }) => [new Other({ n })])
      const slow = yield* subscribe({ topics: ["others"], group: "slow" })
      const publishing = yield* started(publish([encoded("Step", 1), encoded("Step", 2), encoded("Step", 3)]))
      assert.deepStrictEqual([handled, yield* stored("others")], [[1, 2], [{ n: 1 }]])
      yield* ackAll(yield* slow.take)
      yield* adjust(0)
      assert.deepStrictEqual([handled, yield* stored("others")], [[1, 2, 3], [{ n: 1 }, { n: 2 }]])
      yield* ackAll(yield* slow.take)
      yield* ackAll(yield* slow.take)
      yield* Fiber.join(publishing)
      assert.deepStrictEqual(failures, [])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 1 }))), 5_000)
})
