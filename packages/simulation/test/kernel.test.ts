/** The kernel: order, preemption, time, and the death of a process. */
import { assert, describe, it } from "@effect/vitest"
import { Store } from "@event-flow/simulation"
import { Clock, Deferred, Effect, Exit, Random } from "effect"
import { alone } from "./support/alone.ts"

const Rows = Store.table<number>("rows")

describe("a process that dies", () => {
  for (const preemption of [0, 0.1]) {
    it(`runs no finalizer and no other operation, whoever resumes it; preemption ${preemption}`, () => {
      const { fork, process, settle, world } = alone({ schedule: { preemption } })
      const shared = Deferred.makeUnsafe<number>()
      let finalized = 0
      let resumed = 0
      const counting = Effect.sync(() => finalized++)
      const waiting = (wait: Effect.Effect<unknown>) =>
        wait.pipe(
          Effect.andThen(Effect.sync(() => resumed++)),
          Effect.onExit(() => counting),
          Effect.ensuring(counting),
          (effect) => Effect.acquireUseRelease(Effect.void, () => effect, () => counting)
        )
      fork(waiting(Deferred.await(shared)))
      fork(waiting(Effect.sleep("1 second")))
      fork(waiting(Effect.never))
      fork(Effect.scoped(Effect.andThen(Effect.addFinalizer(() => counting), Effect.never)))
      world.outside.after(500, () => process.die())
      world.outside.after(600, () => Deferred.doneUnsafe(shared, Exit.succeed(1)))
      settle()
      assert.deepStrictEqual({ finalized, resumed }, { finalized: 0, resumed: 0 })
      // In a life after that one the process runs again
      const again = fork(Effect.succeed("up"))
      settle()
      assert.deepStrictEqual(again.exit, Exit.succeed("up"))
    })
  }

  it("dies in the middle of its fibers, when one of them asks for something at which it dies", () => {
    const { fork, settle } = alone({ faults: [{ operation: "main: write rows/2", do: "crashAfter", downFor: 1 }] })
    let after = 0
    fork(Effect.ensuring(
      Effect.andThen(Effect.all([Rows.put("1", 1), Rows.put("2", 2)]), Effect.sync(() => after++)),
      Effect.sync(() => after++)
    ))
    settle()
    const rows = fork(Rows.all)
    settle()
    assert.strictEqual(after, 0)
    assert.deepStrictEqual(rows.exit, Exit.succeed([["1", 1], ["2", 2]]))
  })

  it("loses its transaction, and the row locks of it", () => {
    const { fork, settle } = alone({
      faults: [{ operation: "main: commit rows", do: "crashBefore", downFor: 1 }]
    })
    fork(Store.transaction(Rows.put("1", 1)))
    settle()
    const next = fork(Effect.andThen(Rows.put("1", 2), Rows.get("1")))
    settle()
    assert.deepStrictEqual(next.exit, Exit.succeed(2))
  })
})

describe("time", () => {
  it("is virtual, and the same for all that it wakes", () => {
    const { fork, settle } = alone()
    const at = (millis: number) => Effect.andThen(Effect.sleep(millis), Clock.currentTimeMillis)
    const all = fork(Effect.all([at(86_400_000 / 1000), at(100), at(100)], { concurrency: "unbounded" }))
    settle()
    const start = Date.UTC(2030, 0, 1)
    assert.deepStrictEqual(all.exit, Exit.succeed([start + 86_400, start + 100, start + 100]))
  })

  it("a process that stands still goes on where it was, and the others meanwhile", () => {
    const { fork, process, settle, world } = alone()
    const other = world.process("other")
    const seen: Array<string> = []
    const say = (what: string) =>
      Effect.andThen(Effect.sleep(10), Effect.sync(() => seen.push(`${what} ${world.loop.now}`)))
    process.stalledUntil = 1000
    fork(say("stalled"))
    fork(say("other"), other)
    settle()
    assert.deepStrictEqual(seen, ["other 10", "stalled 1010"])
  })
})

describe("the seed", () => {
  const interleaving = (seed: number, preemption: number, order: "fifo" | "random" = "random") => {
    const { fork, settle } = alone({ seed, schedule: { order, preemption } })
    const seen: Array<string> = []
    for (const name of ["a", "b", "c"]) {
      fork(Effect.gen(function*() {
        for (let i = 0; i < 3; i++) {
          yield* Effect.sync(() => seen.push(name + i))
          yield* Effect.void
        }
      }))
    }
    settle()
    return seen.join(" ")
  }

  it("decides the order, and where fibers let others run", () => {
    const all = Array.from({ length: 100 }, (_, seed) => interleaving(seed, 0.5))
    assert.deepStrictEqual(all, Array.from({ length: 100 }, (_, seed) => interleaving(seed, 0.5)))
    assert.isAbove(new Set(all).size, 20)
    // Without preemption, whole fibers in any order
    const whole = new Set(Array.from({ length: 100 }, (_, seed) => interleaving(seed, 0)))
    assert.strictEqual(whole.size, 6)
    // In order, one
    assert.strictEqual(new Set(Array.from({ length: 20 }, (_, seed) => interleaving(seed, 0, "fifo"))).size, 1)
  })

  it("a run with much preemption comes to its end", () => {
    for (const preemption of [0.5, 0.9]) assert.include(interleaving(1, preemption), "c2")
  })

  it("decides random numbers", () => {
    const draw = (seed: number) => {
      const { fork, settle } = alone({ seed })
      const drawn = fork(Effect.all([Random.next, Random.nextInt, Random.nextIntBetween(1, 7)]))
      settle()
      return JSON.stringify(drawn.exit)
    }
    assert.strictEqual(draw(1), draw(1))
    assert.notStrictEqual(draw(1), draw(2))
  })
})

it("an effect of no process is refused, with a reason", () => {
  const { fork, settle } = alone()
  const exit = fork(Store.Store)
  settle()
  assert.isTrue(Exit.isSuccess(exit.exit!))
  const store = (exit.exit as Exit.Success<Store.Store["Service"]>).value
  const outside = Effect.runSyncExit(Effect.provideService(Rows.get("1"), Store.Store, store))
  assert.match(String(Exit.isFailure(outside) && outside.cause), /outside of a simulated process/)
})
