/**
 * A promise that a simulated system did not keep, with the shortest run that shows it.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type { Flow } from "@event-flow/core/testing"
import type { Fault } from "./Fault.ts"
import { render } from "./internal/report/render.ts"
import type { Recording } from "./Recording.ts"

/**
 * A line of the story of a run.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface StoryLine {
  /** Milliseconds of virtual time since the start. */
  readonly time: number
  readonly process: string
  readonly text: string
  readonly isFault: boolean
}

/**
 * What a finding tells.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface FindingFields {
  /** What did not hold, such as `"always: stock and money match the orders"`. */
  readonly invariant: string
  /** What was wrong. */
  readonly detail: string
  /** The seed of the run that found it; undefined: it was found without one. */
  readonly seed: number | undefined
  /** What repeats the shortest run, with `Simulation.replay`. */
  readonly recording: Recording
  /** The steps of clients that are left, in their order. */
  readonly workload: ReadonlyArray<string>
  /** What goes wrong in the shortest run. */
  readonly faults: ReadonlyArray<Fault>
  /** What happened in it, up to where the promise was broken. */
  readonly story: ReadonlyArray<StoryLine>
  /** The commands, events and messages of it. */
  readonly flow: Flow.Flow | undefined
  /** How many faults the run had that was found. */
  readonly faultsFound: number
  /** How many runs it took to make it shorter. */
  readonly tries: number
}

/**
 * A broken promise. `String(finding)` is the report of it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Finding extends FindingFields {
  readonly toString: () => string
}

/**
 * A finding that prints itself.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (fields: FindingFields): Finding => ({ ...fields, toString: () => render(fields) })

/**
 * Thrown by `Simulation.assert`: its message is the report.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class SimulationFailed extends Error {
  override readonly name = "SimulationFailed"
  /** The broken promise; undefined: the check itself says too little, see the message. */
  readonly finding: Finding | undefined

  constructor(message: string, finding: Finding | undefined) {
    super(message)
    this.finding = finding
  }
}
