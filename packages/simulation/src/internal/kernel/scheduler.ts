/** The scheduler of a process, by which its fibers are known as well. */
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import type { Process } from "./process.ts"

/** After how many operations a fiber yields in any case, as Effect has it. */
const budget = 2048

/** Decides the order of the fibers of one life of a process, and where they let others run. */
export class ProcessScheduler implements Scheduler.Scheduler {
  readonly executionMode = "sync"
  readonly process: Process
  readonly #epoch: number

  constructor(process: Process) {
    this.process = process
    this.#epoch = process.epoch
  }

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    // A fiber of a dead process parks here, whoever resumes it. Its task is dropped, so it never goes on
    if (this.process.epoch !== this.#epoch) return true
    // Not at the first operation after it was resumed: a yield brings two more chances of one, so from a rate of one half
    // on it would not end
    return (fiber.currentOpCount > 1 && this.process.loop.shouldPreempt()) || fiber.currentOpCount >= budget
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return {
      scheduleTask: (run) => this.process.loop.push(this.process, this.#epoch, run),
      // `runSync` alone flushes, with a scheduler of its own
      flush: () => {}
    }
  }
}

/** The process that a fiber is part of. Every fiber has the scheduler of its parent, also one with a context of its own. */
export const processOf = (fiber: Fiber.Fiber<unknown, unknown>): Process | undefined => {
  const scheduler = fiber.getRef(Scheduler.Scheduler)
  return scheduler instanceof ProcessScheduler ? scheduler.process : undefined
}
