/** The pool by itself: shapes of work that the rules of a dispatch (F3 to F6) do not reach. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Scheduler } from "effect"
import { runPool } from "../src/internal/dispatch/pool.ts"
import { adjust, settle } from "./fixtures.ts"

interface Item {
  readonly left: number
  readonly isTooth: boolean
}

/** A chain with a tooth at each link: the shape that asks for one more worker again and again. */
const comb = (left: number): ReadonlyArray<Item> =>
  left === 0 ? [] : [{ left, isTooth: true }, { left: left - 1, isTooth: false }]

const runComb = <E>(length: number, concurrency: number, tooth: (left: number) => Effect.Effect<void, E>) =>
  runPool<Item, E>({
    concurrency,
    initial: comb(length),
    run: ({ isTooth, left }) => isTooth ? Effect.as(tooth(left), []) : Effect.succeed(comb(left))
  })

describe("the workers", () => {
  // Unbounded, one more for each item that the run loop has just put off
  for (const [concurrency, most] of [[2, 4], [4, 8], [Infinity, 1000]] as const) {
    it.effect(`F10: a long comb has few of them, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const fibers = new Set<number>()
        let teeth = 0
        const seeFiber = Effect.withFiber((fiber) => {
          fibers.add(fiber.id)
          teeth++
          return Effect.void
        })
        yield* runComb(20_000, concurrency, () => seeFiber)
        assert.strictEqual(teeth, 20_000)
        assert.isAtMost(fibers.size, most)
      }))
  }

  it.effect("one item at a time needs no fiber", () =>
    Effect.gen(function*() {
      const fibers = new Set<number>()
      yield* runPool({
        concurrency: 4,
        initial: [10],
        run: (left: number) =>
          Effect.withFiber((fiber) => {
            fibers.add(fiber.id)
            return Effect.succeed(left === 0 ? [] : [left - 1])
          })
      })
      assert.deepStrictEqual([...fibers], [yield* Effect.fiberId])
    }))
})

describe("thousands of items that wait for something", () => {
  const length = 10_000

  it.effect("F4: all of them start", () =>
    Effect.gen(function*() {
      let started = 0
      const all = yield* Deferred.make<void>()
      const start = Effect.suspend(() => ++started === length ? Deferred.succeed(all, undefined) : Effect.void)
      yield* runComb(length, Infinity, () => Effect.andThen(start, Deferred.await(all)))
    }))

  it.effect("F10: their workers wake one another without taking the stack", () =>
    Effect.gen(function*() {
      let waiting = 0
      let links = 0
      const all = yield* Deferred.make<void>()
      yield* runPool<"waits" | "link" | "tooth", never>({
        concurrency: Infinity,
        initial: Array.from({ length }, () => "waits" as const),
        run: (item) => {
          if (item === "tooth") return Effect.succeed([])
          if (item === "link") return Effect.succeed(++links === length ? [] : ["link", "tooth"])
          if (++waiting === length) return Effect.as(Deferred.succeed(all, undefined), ["link"])
          return Effect.as(Deferred.await(all), [])
        }
      })
      assert.strictEqual(links, length)
    }))

  it.effect("F11: are interrupted together", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const never = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      const fiber = yield* Effect.forkChild(runComb(length, Infinity, () => never), { startImmediately: true })
      yield* settle
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(interrupted, length)
    }))

  it.effect("F6: and when the last of them fails", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const never = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      const exit = yield* Effect.exit(
        runComb(length, Infinity, (left) => left === 1 ? Effect.fail("boom") : never)
      )
      assert.deepStrictEqual(exit, Exit.fail("boom"))
      assert.strictEqual(interrupted, length - 1)
    }))
})

describe("F6: a failure", () => {
  const failing = (concurrency: number, finalizer: Effect.Effect<void>) =>
    runPool<string, string>({
      concurrency,
      initial: ["start"],
      run: (item) => {
        switch (item) {
          case "start":
            return Effect.succeed(["waits", "more"])
          case "more":
            return Effect.succeed(["waits", "fails", "waits"])
          case "fails":
            return Effect.delay(Effect.fail("boom"), 1)
          default:
            return Effect.as(Effect.ensuring(Effect.sleep(10), finalizer), ["waits"])
        }
      }
    })

  it.effect("of a later group interrupts the earlier ones", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(failing(Infinity, Effect.void), { startImmediately: true })
      yield* adjust(1)
      assert.deepStrictEqual(fiber.pollUnsafe(), Exit.fail("boom"))
    }))

  it.effect("is kept beside the defects of all groups", () =>
    Effect.gen(function*() {
      let bugs = 0
      const fiber = yield* Effect.forkChild(failing(Infinity, Effect.suspend(() => Effect.die(++bugs))), {
        startImmediately: true
      })
      yield* adjust(1)
      const exit = yield* Fiber.await(fiber)
      const reasons = Exit.isFailure(exit) ? exit.cause.reasons : []
      assert.deepStrictEqual(reasons.filter(Cause.isFailReason).map(({ error }) => error), ["boom"])
      assert.deepStrictEqual(reasons.filter(Cause.isDieReason).map(({ defect }) => defect), [1, 2, 3])
    }))

  // A bound of three leaves one that waits for a place
  for (const [concurrency, running] of [[3, 2], [Infinity, 3]] as const) {
    it.effect(`in an uninterruptible region lets what runs end, and starts nothing new, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        let ended = 0
        const fiber = yield* Effect.forkChild(
          Effect.uninterruptible(failing(concurrency, Effect.sync(() => ended++))),
          { startImmediately: true }
        )
        yield* adjust(9)
        assert.isUndefined(fiber.pollUnsafe())
        yield* adjust(1)
        assert.deepStrictEqual(fiber.pollUnsafe(), Exit.fail("boom"))
        assert.strictEqual(ended, running)
      }))
  }

  it.effect("that comes second does not count", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(
        Effect.uninterruptible(runPool<number, string>({
          concurrency: 2,
          initial: [1, 2],
          run: (millis) => Effect.delay(Effect.fail(`after ${millis}`), millis)
        })),
        { startImmediately: true }
      )
      yield* adjust(2)
      assert.deepStrictEqual(fiber.pollUnsafe(), Exit.fail("after 1"))
    }))
})

describe("the run loop yields at any point", () => {
  for (const concurrency of [2, 3, Infinity]) {
    it.effect(`and every item is run once, at most that many at once, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        for (let seed = 1; seed <= 300; seed++) {
          let running = 0
          let runs = 0
          yield* runPool<number, never>({
            concurrency,
            initial: [3, 2],
            run: (left) =>
              Effect.suspend(() => {
                runs++
                assert.isAtMost(++running, concurrency)
                return Effect.sync(() => {
                  running--
                  return Array.from({ length: left }, () => left - 1)
                })
              })
          }).pipe(Effect.provideService(Scheduler.Scheduler, new Yielding(seed)))
          assert.strictEqual(running, 0)
          // Two trees, in which an item has as many children as it says, each of which says one less
          assert.strictEqual(runs, 16 + 5)
        }
      }))
  }
})

/** Has a fiber yield before one operation in four, by a seed. */
class Yielding extends Scheduler.MixedScheduler {
  #state: number

  constructor(seed: number) {
    super()
    this.#state = seed
  }

  override shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    this.#state = Math.imul(this.#state, 1_103_515_245) + 12_345 & 0x7fffffff
    // The yield itself takes two operations
    return fiber.currentOpCount > 1 && (this.#state >> 16 & 3) === 0
  }
}
