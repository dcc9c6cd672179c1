import type { Workload } from "./workload.ts"

/** `plain` is printed for reference and not written to the results. */
export type SubjectName = "event-flow" | "effect" | "plain" | "@nestjs/cqrs" | "mediatr-ts" | "python-cqrs" | "ideal"

/**
 * Performs `units` units of the workload, one after another, each awaited. Unit `i` sends a command whose seat is
 * `seatOf(i)`, constructs its events, and adds the response to `tally.answers`. A subject that lives in another process
 * resolves to its own nanoseconds, which are taken in place of the time that the harness sees.
 */
export type Run = (units: number) => Promise<number | void>

/** The default export of a file in `subjects/`. */
export interface Subject {
  readonly name: SubjectName
  /** `name@version` of what is measured. */
  readonly packages: ReadonlyArray<string>
  /** Called once a workload, before anything is measured. `undefined`: the subject has no such workload. */
  readonly setup: (workload: Workload) => Run | undefined | Promise<Run | undefined>
  /**
   * For `memory.ts`: one command whose event is followed up `depth` times. `probe` is called by every handler of the
   * chain, so that the heap can be read while the chain runs.
   */
  readonly chain?: (depth: number, probe: (depth: number) => void) => Promise<void>
  readonly close?: () => Promise<void>
}

/** Thrown on load, in `setup` or by a run: the subject is left out, with the reason printed, and nothing fails. */
export class Unavailable extends Error {
  override readonly name = "Unavailable"
}
