/**
 * The run loop of a simulation: which task runs next, and what time it is. It is synchronous, so nothing from outside
 * comes in between, and it decides everything by its seed.
 */
import type { Schedule } from "../../Recording.ts"
import { hash, Prng } from "../seeded.ts"
import { Timers } from "./timers.ts"

/** The schedule of a run without any disorder. */
export const inOrder: Schedule = { order: "fifo", preemption: 0, latency: 0, pause: 0 }

/** Whose task it is. A task of an older epoch never runs. */
export interface Owner {
  readonly name: string
  epoch: number
  /** Until when its tasks wait: the process is stalled. */
  stalledUntil: number
}

interface Task {
  readonly owner: Owner
  readonly epoch: number
  readonly run: () => void
}

/** How a run of the loop has ended. */
export type LoopEnd = "done" | "idle" | "tooLong"

export class Loop {
  readonly schedule: Schedule
  /** Milliseconds since the start. */
  now = 0
  /** How many tasks have run. */
  steps = 0
  /** Grows with all that happens: two runs with one fingerprint have done the same. */
  fingerprint = 0
  readonly #random: Prng
  readonly #ready: Array<Task> = []
  readonly #timers = new Timers<Task>()
  #untilPreemption: number

  constructor(seed: number, schedule: Schedule) {
    this.schedule = schedule
    this.#random = new Prng(hash(seed, "order"))
    this.#untilPreemption = this.#drawPreemption()
  }

  push(owner: Owner, epoch: number, run: () => void): void {
    if (owner.epoch === epoch) this.#ready.push({ owner, epoch, run })
  }

  /** Runs it later; gives a function that cancels it. */
  after(millis: number, owner: Owner, epoch: number, run: () => void): () => void {
    const timer = this.#timers.add(this.now + millis, { owner, epoch, run })
    return () => {
      timer.isCancelled = true
    }
  }

  /** Asked before each operation of a fiber. */
  shouldPreempt(): boolean {
    if (--this.#untilPreemption > 0) return false
    this.#untilPreemption = this.#drawPreemption()
    return true
  }

  mix(text: string): void {
    this.fingerprint = Math.imul(this.fingerprint ^ hash(this.steps, text), 0x01000193) >>> 0
  }

  /** Runs until `isDone`, until nothing is left to run, or beyond a bound. */
  run(isDone: () => boolean, bounds: { readonly millis: number; readonly steps: number }): LoopEnd {
    while (true) {
      while (this.#ready.length > 0) {
        const task = this.#take()
        const { owner } = task
        if (owner.epoch !== task.epoch) continue
        if (owner.stalledUntil > this.now) {
          this.#timers.add(owner.stalledUntil, task)
          continue
        }
        this.steps++
        this.mix(owner.name)
        task.run()
        if (isDone()) return "done"
        if (this.steps > bounds.steps) return "tooLong"
      }
      const timer = this.#timers.take()
      if (timer === undefined) return "idle"
      if (timer.at > bounds.millis) return "tooLong"
      this.now = Math.max(this.now, timer.at)
      // All that wakes at one time is ready at once, and so in any order
      for (let next: typeof timer | undefined = timer; next !== undefined; next = this.#timers.takeAt(timer.at)) {
        this.push(next.task.owner, next.task.epoch, next.task.run)
      }
      if (isDone()) return "done"
    }
  }

  #take(): Task {
    const ready = this.#ready
    if (this.schedule.order === "fifo" || ready.length === 1) return ready.shift()!
    const i = this.#random.below(ready.length)
    const task = ready[i]!
    ready[i] = ready[ready.length - 1]!
    ready.pop()
    return task
  }

  /** After how many operations: one draw in place of one for each operation. */
  #drawPreemption(): number {
    const { preemption } = this.schedule
    return preemption <= 0 ? Infinity : Math.ceil(Math.log(1 - this.#random.next()) / Math.log(1 - preemption))
  }
}
