/** Runs parts of the library under a seeded schedule, beside an oracle that knows what they promise. */
import { Cause, Effect, Exit } from "effect"
import { environmentOf } from "../../src/internal/kernel/environment.ts"
import { inOrder } from "../../src/internal/kernel/loop.ts"
import { listed } from "../../src/internal/kernel/plan.ts"
import { World } from "../../src/internal/kernel/world.ts"
import { hash, Prng, unit } from "../../src/internal/seeded.ts"

/** What a seed decides for a program. */
export class Chance {
  readonly #random: Prng
  readonly #seed: number

  constructor(seed: number, name: string) {
    this.#seed = seed
    this.#random = new Prng(hash(seed, name))
  }

  below(n: number): number {
    return this.#random.below(n)
  }

  isHit(rate: number): boolean {
    return this.#random.next() < rate
  }

  pick<A>(...values: readonly [A, ...Array<A>]): A {
    return this.#random.pick(values)
  }

  /** A number from 0 up to 1 that belongs to a name, whatever was drawn before. */
  of(name: string): number {
    return unit(this.#seed, name)
  }
}

export interface Oracle {
  /** A promise is broken; the first one counts. */
  readonly fail: (what: string) => void
}

/** Runs a program alone, in any order and with preemption; gives what it has broken. */
export const runProgram = (
  seed: number,
  chance: Chance,
  make: (oracle: Oracle) => Effect.Effect<void, unknown>
): string | undefined => {
  const world = new World({
    seed,
    schedule: {
      ...inOrder,
      order: chance.pick("fifo", "random", "random"),
      preemption: chance.pick(0, 0.02, 0.2, 0.5)
    },
    plan: listed([]),
    keepsStory: false
  })
  let broken: string | undefined
  const fail = (what: string): void => {
    broken ??= what
  }
  let isDone = false
  const main = world.process("main")
  main.push(() => {
    Effect.runForkWith(environmentOf(main, () => {}))(make({ fail })).addObserver((exit) => {
      isDone = true
      if (Exit.isFailure(exit)) fail(`it failed: ${Cause.pretty(exit.cause).slice(0, 300)}`)
    })
  })
  const end = world.loop.run(() => isDone, { millis: 600_000, steps: 300_000 })
  if (end !== "done") fail(`it never ends: ${end} after ${Math.round(world.loop.now)} ms and ${world.loop.steps} steps`)
  return broken
}
