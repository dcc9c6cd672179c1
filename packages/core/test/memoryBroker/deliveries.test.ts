/** What consumers of the memory broker get, and when it is idle. */
import { assert, describe, it } from "@effect/vitest"
import { MemoryBroker } from "@event-flow/core"
import { Deferred, Effect, Fiber, References } from "effect"
import { adjust, bodyOf, open } from "../fixtures.ts"
import { ackAll, numbers, pending, publish, reasonOf, started, subscribe } from "./support.ts"

describe("awaitIdle", () => {
  it.effect("waits until no group has a message outstanding", () =>
    Effect.gen(function*() {
      const first = yield* subscribe({ group: "first" })
      const second = yield* subscribe({ group: "second" })
      yield* publish([1, 2])
      assert.strictEqual(yield* pending, 4)
      const idle = yield* started(MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle))
      yield* ackAll(yield* first.take)
      const [one, two] = yield* second.take
      yield* one!.nack
      yield* two!.ack
      yield* adjust(0)
      assert.isUndefined(idle.pollUnsafe())
      assert.strictEqual(yield* pending, 1)
      yield* ackAll(yield* second.take)
      yield* Fiber.join(idle)
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("counts what a new group has before it", () =>
    Effect.gen(function*() {
      yield* publish([1, 2])
      assert.strictEqual(yield* pending, 0)
      yield* subscribe()
      yield* subscribe()
      assert.strictEqual(yield* pending, 2)
    }).pipe(Effect.provide(MemoryBroker.layer())))
})

describe("deliveries", () => {
  it.effect("messages of a key one at a time, others at once", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1, 2, 3], { key: "a" })
      yield* publish([4, 5], { key: "b" })
      yield* publish([6, 7])
      const [one, ...others] = yield* take
      assert.deepStrictEqual(numbers([one!, ...others]), [1, 4, 6, 7])
      yield* ackAll(others)
      assert.deepStrictEqual(numbers(yield* take), [5])
      yield* one!.ack
      assert.deepStrictEqual(numbers(yield* take), [2])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("what is not acknowledged comes before what is behind it, and says how often it came", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe({ maxInFlight: 2 })
      yield* publish([1, 2, 3])
      const [one, two] = yield* take
      yield* two!.nack
      yield* one!.nack
      const again = yield* take
      assert.deepStrictEqual(numbers(again), [1, 2])
      assert.deepStrictEqual(again.map(({ attempt }) => attempt), [2, 2])
      yield* again[0]!.nack
      const [third] = yield* take
      assert.deepStrictEqual([bodyOf(third!.message), third!.attempt], [1, 3])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("a subscription that closes gives back in order what it has, to whoever waits", () =>
    Effect.gen(function*() {
      const { close, take } = yield* subscribe()
      yield* publish([1, 2, 3, 4])
      const [, two] = yield* take
      yield* two!.ack
      const other = yield* subscribe()
      const waiting = yield* started(other.take)
      assert.isUndefined(waiting.pollUnsafe())
      yield* close
      const back = yield* Fiber.join(waiting)
      assert.deepStrictEqual(numbers(back), [1, 3, 4])
      assert.deepStrictEqual(back.map(({ attempt }) => attempt), [2, 2, 2])
      assert.isTrue(two!.isRevoked())
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("a closed subscription takes nothing more, one that waits included", () =>
    Effect.gen(function*() {
      const { close, take } = yield* subscribe({ maxInFlight: 1 })
      yield* publish([1, 2])
      yield* take
      const waiting = yield* started(Effect.exit(take))
      yield* close
      assert.strictEqual(reasonOf(yield* Fiber.join(waiting)), "Closed")
      assert.strictEqual(reasonOf(yield* Effect.exit(take)), "Closed")
      const other = yield* subscribe()
      assert.deepStrictEqual(numbers(yield* other.take), [1, 2])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("topics take turns", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe({ topics: ["a", "b"], maxInFlight: 1 })
      yield* publish([1, 2, 3], { topic: "a" })
      yield* publish([4, 5, 6], { topic: "b" })
      const order: Array<unknown> = []
      while (order.length < 6) {
        const deliveries = yield* take
        order.push(...numbers(deliveries))
        yield* ackAll(deliveries)
      }
      assert.deepStrictEqual(order, [1, 4, 2, 5, 3, 6])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("say where they come from", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1])
      yield* publish([2], { key: "key" })
      const deliveries = yield* take
      assert.deepStrictEqual(deliveries.map(({ lane, origin }) => ({ lane, origin })), [
        { lane: undefined, origin: { topic: "topic", offset: "0" } },
        { lane: "topic/key", origin: { topic: "topic", offset: "1" } }
      ])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  // A fiber may yield between any two steps; what happens then must not go unnoticed
  it.effect("no wake-up is missed, wherever a fiber yields", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops <= 30; ops++) {
        const done = yield* Deferred.make<void>()
        const topic = `topic-${ops}`
        const { take } = yield* subscribe({ topics: [topic] })
        let handled = 0
        const consumer = yield* take.pipe(
          Effect.tap((deliveries) => {
            handled += deliveries.length
            return handled === 10
              ? Effect.andThen(ackAll(deliveries), Deferred.succeed(done, undefined))
              : ackAll(deliveries)
          }),
          Effect.forever,
          Effect.provideService(References.MaxOpsBeforeYield, ops),
          Effect.forkChild
        )
        for (let n = 1; n <= 10; n++) {
          yield* Effect.provideService(publish([n], { topic }), References.MaxOpsBeforeYield, 33 - ops)
        }
        yield* Deferred.await(done)
        yield* Fiber.interrupt(consumer)
      }
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 1 }))), 5_000)
})

describe("the end of the layer", () => {
  it.effect("publishing, subscribing and taking fail, those that wait included", () =>
    Effect.gen(function*() {
      const { close, context } = yield* open(MemoryBroker.layer({ capacity: 1 }))
      yield* Effect.gen(function*() {
        const { take } = yield* subscribe()
        const idle = yield* subscribe({ topics: ["idle"] })
        yield* publish([1])
        const publishing = yield* started(publish([2]))
        const taking = yield* started(idle.take)
        yield* close
        const exits = [
          yield* Fiber.await(publishing),
          yield* Fiber.await(taking),
          yield* Effect.exit(publish([3])),
          yield* Effect.exit(take),
          yield* Effect.exit(subscribe())
        ]
        assert.deepStrictEqual(exits.map(reasonOf), ["Closed", "Closed", "Closed", "Closed", "Closed"])
      }).pipe(Effect.provide(context))
    }), 5_000)
})
