/** Lanes by themselves; what a consumer makes of them is tested with the consumer. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Scheduler } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Lanes } from "../../src/internal/consumer/lanes.ts"

interface Item {
  readonly lane: string
}

it("keys that have nothing to do are kept up to a bound", () => {
  setFlagsFromString("--expose-gc")
  const collectGarbage: () => void = runInNewContext("gc")
  let runs = 0
  const lanes = new Lanes<Item>({
    concurrency: 2,
    batch: { size: 1, wait: 0 },
    // At once, to the end
    fork: Effect.runForkWith(Context.make(Scheduler.PreventSchedulerYield, true)),
    runner: () => ({
      run: () => Effect.sync(() => void runs++),
      runAll: () => Effect.void,
      recover: () => Effect.void,
      end: () => undefined
    }),
    abandon: () => Effect.void
  })
  collectGarbage()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 100_000; i++) {
    // As bytes of a kilobyte would be
    lanes.offer({ lane: Buffer.alloc(1024, `${i} `).toString("latin1") })
    lanes.start()
  }
  assert.strictEqual(runs, 100_000)
  collectGarbage()
  // 100 MiB of keys have come by
  assert.isBelow(process.memoryUsage().heapUsed - before, 30 * 2 ** 20)
  // Not collected before
  lanes.halt()
})

it("what comes behind an item that is held has its turn when that one is taken away", () => {
  const held: Item = { lane: "key" }
  const next: Item = { lane: "key" }
  const ran: Array<Item> = []
  const lanes = new Lanes<Item>({
    concurrency: 1,
    batch: { size: 1, wait: 0 },
    fork: Effect.runForkWith(Context.make(Scheduler.PreventSchedulerYield, true)),
    runner: () => ({
      run: (item) =>
        Effect.sync(() => {
          ran.push(item)
          if (item === held) lanes.hold(item)
        }),
      runAll: () => Effect.void,
      recover: () => Effect.void,
      end: () => undefined
    }),
    abandon: () => Effect.void
  })
  lanes.offer(held)
  lanes.start()
  lanes.offer(next)
  lanes.start()
  assert.deepStrictEqual(ran, [held])
  // No worker runs, and nothing else is offered
  assert.deepStrictEqual(lanes.drop((item) => item === held), [held])
  assert.strictEqual(ran.length, 2)
  assert.strictEqual(ran[1], next)
  lanes.halt()
})
