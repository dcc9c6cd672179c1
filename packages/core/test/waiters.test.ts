import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, References } from "effect"
import { Waiters } from "../src/internal/waiters.ts"

describe("Waiters", () => {
  it.effect("an effect goes on with what it finds, at once or after a change", () =>
    Effect.gen(function*() {
      const waiters = new Waiters()
      let value: string | undefined = "now"
      const wait = waiters.until(() => value === undefined ? undefined : Effect.succeed(value))
      assert.strictEqual(yield* wait, "now")
      value = undefined
      const fibers = yield* Effect.forEach([1, 2], () => Effect.forkChild(wait, { startImmediately: true }))
      waiters.wakeAll()
      yield* Effect.yieldNow
      assert.deepStrictEqual(fibers.map((fiber) => fiber.pollUnsafe()), [undefined, undefined])
      value = "later"
      waiters.wakeAll()
      assert.deepStrictEqual(yield* Effect.forEach(fibers, Fiber.join), ["later", "later"])
    }))

  it.effect("one that is interrupted looks no more", () =>
    Effect.gen(function*() {
      const waiters = new Waiters()
      let looks = 0
      const wait = waiters.until(() => {
        looks++
        return undefined
      })
      const fiber = yield* Effect.forkChild(wait, { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      const before = looks
      waiters.wakeAll()
      assert.strictEqual(looks, before)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
    }))

  it.effect("a change between looking and waiting is seen, wherever the fiber yields", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops <= 20; ops++) {
        for (let turns = 0; turns < 6; turns++) {
          const waiters = new Waiters()
          let isReady = false
          const fiber = yield* waiters.until(() => isReady ? Effect.void : undefined).pipe(
            Effect.provideService(References.MaxOpsBeforeYield, ops),
            Effect.forkChild({ startImmediately: true })
          )
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          isReady = true
          waiters.wakeAll()
          yield* Fiber.join(fiber)
        }
      }
    }))

  it.effect("a change that looking itself leads to is seen", () =>
    Effect.gen(function*() {
      const waiters = new Waiters()
      let looks = 0
      let answer = 0
      // Each look asks, and is answered while it looks
      yield* waiters.until(() => {
        if (answer === 3) return Effect.void
        if (++looks === answer + 1) {
          answer++
          waiters.wakeAll()
        }
        return undefined
      })
      assert.strictEqual(answer, 3)
    }))
})
