/**
 * What repeats a run: its schedule, and what went wrong in it.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type { Fault } from "./Fault.ts"

/**
 * How much disorder a run has.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Schedule {
  /** Whether what is ready runs in the order in which it became ready, or in any. */
  readonly order: "fifo" | "random"
  /** The chance that a fiber has to let others run before its next operation. */
  readonly preemption: number
  /** How many milliseconds a request or an answer is on its way, at most. */
  readonly latency: number
  /** How many milliseconds a client waits before a step, at most. */
  readonly pause: number
}

/**
 * What repeats a run of a scenario, with `Simulation.replay`. Plain data, which a
 * report prints and a test of a regression keeps.
 *
 * **Details**
 *
 * The seed decides what the schedule leaves open. Faults hang on the names of
 * operations, so a recording lives longer than a seed: it stays good until the
 * program does other operations.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Recording {
  /** Default: 0. */
  readonly seed?: number | undefined
  /** Default: in order, without preemption, latency and pauses. */
  readonly schedule?: Partial<Schedule> | undefined
  /** Default: none. */
  readonly faults?: ReadonlyArray<Fault> | undefined
  /** The steps that are left out, as `client/place of the step`. Default: none. */
  readonly without?: ReadonlyArray<string> | undefined
  /** Whether flows are observed, which takes another way through the library. Default: true. */
  readonly observed?: boolean | undefined
}
