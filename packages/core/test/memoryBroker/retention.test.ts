/** What topics of the memory broker keep. */
import { assert, describe, it } from "@effect/vitest"
import { MemoryBroker } from "@event-flow/core"
import { Effect } from "effect"
import { ackAll, numbers, publish, stored, subscribe } from "./support.ts"

describe("retention", () => {
  it.effect("keeps the newest of what every group has acknowledged, for groups to come", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1, 2, 3, 4, 5])
      assert.deepStrictEqual(yield* stored(), [1, 2, 3, 4, 5])
      yield* ackAll(yield* take)
      assert.deepStrictEqual(yield* stored(), [3, 4, 5])
      yield* publish([6])
      const late = yield* subscribe({ group: "late" })
      yield* ackAll(yield* take)
      yield* publish([7])
      assert.deepStrictEqual(numbers(yield* late.take), [4, 5, 6, 7], "what a group has before it is kept for it")
      assert.deepStrictEqual(yield* stored(), [4, 5, 6, 7])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 3 }))))

  it.effect("keeps whatever a group has not acknowledged", () =>
    Effect.gen(function*() {
      const slow = yield* subscribe({ group: "slow" })
      const { take } = yield* subscribe()
      yield* publish([1, 2, 3])
      yield* ackAll(yield* take)
      assert.deepStrictEqual(yield* stored(), [1, 2, 3])
      yield* ackAll(yield* slow.take)
      assert.deepStrictEqual(yield* stored(), [])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 0 }))))
})

describe("one message that stays unsettled", () => {
  it.effect("keeps nothing but itself: what is settled behind it goes by its own age", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1])
      const [stuck] = yield* take
      for (let n = 2; n <= 50; n++) {
        yield* publish([n])
        yield* ackAll(yield* take)
      }
      assert.deepStrictEqual(yield* stored(), [1, 49, 50])
      const late = yield* subscribe({ group: "late" })
      assert.deepStrictEqual(numbers(yield* late.take), [1, 49, 50])
      yield* stuck!.nack
      assert.deepStrictEqual(numbers(yield* take), [1])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 3 }))))

  it.effect("whatever the order of acknowledgements, the oldest settled ones go first", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1, 2, 3, 4, 5, 6])
      const deliveries = yield* take
      const ackOf = (...list: ReadonlyArray<number>) => ackAll(list.map((n) => deliveries[n - 1]!))
      yield* ackOf(5, 3, 6, 2)
      assert.deepStrictEqual(yield* stored(), [1, 2, 3, 4, 6])
      yield* publish([7, 8])
      assert.deepStrictEqual(yield* stored(), [1, 4, 6, 7, 8])
      yield* ackOf(1)
      yield* publish([9])
      assert.deepStrictEqual(yield* stored(), [4, 6, 7, 8, 9])
      yield* publish([10, 11])
      assert.deepStrictEqual(yield* stored(), [4, 7, 8, 9, 10, 11], "what is not settled is kept")
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 5 }))))
})
