/**
 * What has come of a check.
 *
 * @stability unstable
 * @since 0.1.0
 */
import { type Finding, SimulationFailed } from "./Finding.ts"

/**
 * What a check has done and found. `String(report)` says it in words.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export class Report {
  /** How many runs it had, without those that made a finding smaller. */
  readonly runs: number
  /** How many tasks ran in them. */
  readonly steps: number
  /** How many faults befell them. */
  readonly faults: number
  /** The broken promise; undefined: every run kept all of them. */
  readonly finding: Finding | undefined
  /** The states of `sometimes` that no run came to. */
  readonly unreached: ReadonlyArray<string>
  /** What makes the check say less than it seems to. */
  readonly warnings: ReadonlyArray<string>

  constructor(fields: {
    readonly runs: number
    readonly steps: number
    readonly faults: number
    readonly finding: Finding | undefined
    readonly unreached: ReadonlyArray<string>
    readonly warnings: ReadonlyArray<string>
  }) {
    this.runs = fields.runs
    this.steps = fields.steps
    this.faults = fields.faults
    this.finding = fields.finding
    this.unreached = fields.unreached
    this.warnings = fields.warnings
  }

  /** Whether nothing was broken, and all that some run should come to was reached. */
  get isPassed(): boolean {
    return this.finding === undefined && this.unreached.length === 0
  }

  /** Throws `SimulationFailed` unless it is passed. */
  orThrow(): void {
    if (!this.isPassed) throw new SimulationFailed(`\n${String(this)}`, this.finding)
  }

  toString(): string {
    if (this.finding !== undefined) return String(this.finding)
    return [
      ...this.unreached.map((name) =>
        `sometimes: ${name}: NOT REACHED\n  No run came to it, so the check says nothing about it: change the workload or the faults`
      ),
      ...this.warnings,
      `${this.runs} runs, ${this.faults} faults, ${this.steps} steps${this.isPassed ? ": all promises kept" : ""}`
    ].join("\n")
  }
}
