/**
 * Runs a whole system in one process, under virtual time, a seeded schedule and
 * seeded faults, and looks for a run that breaks a promise.
 *
 * **Details**
 *
 * A run is synchronous and does the same for the same seed, to the byte. A system
 * that is simulated takes time from `Clock`, random numbers from `Random`, ids from
 * `Ids`, and nothing else from outside: no promises, no timers, no I/O but through
 * the broker and the store. Whoever does fails the check, with the stack.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import type { Finding } from "./Finding.ts"
import { runScenario } from "./internal/run/run.ts"
import { count, newTally, searching, type Tally, toFinding } from "./internal/search/check.ts"
import { eachFault } from "./internal/search/each.ts"
import { fromRecording } from "./internal/search/settings.ts"
import type { Nodes } from "./Node.ts"
import type { Recording } from "./Recording.ts"
import { Report } from "./Report.ts"
import type { Scenario } from "./Scenario.ts"

/**
 * Which seeds to run.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** This seed alone. */
  readonly seed?: number | undefined
  /** How many seeds. Default: 200. */
  readonly seeds?: number | undefined
  /** The first seed. Default: 1. */
  readonly from?: number | undefined
  /** When to begin no other run, although there are seeds left. Default: never. */
  readonly time?: Duration.Input | undefined
  /** How many runs there are in any case, whatever `time` says. Default: 50. */
  readonly atLeast?: number | undefined
  /** Called after each run. */
  readonly onRun?: ((progress: Progress) => void) | undefined
}

/**
 * How far a check is.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  readonly runs: number
  readonly faults: number
  readonly steps: number
}

/**
 * Runs one seed after another until a promise is broken, and makes that run as short
 * as it can. The first seed runs twice, to see that the program is deterministic.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const check = <N extends Nodes>(scenario: Scenario<N>, options: Options = {}): Report => {
  const checking_ = checking(scenario, options)
  while (true) {
    const next = checking_.next()
    if (next.done === true) return next.value
    options.onRun?.(next.value)
  }
}

/**
 * The same run by run: gives its progress after each one, and the report at last. For
 * whoever has something else to do in between.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export function* checking<N extends Nodes>(scenario: Scenario<N>, options: Options = {}): Generator<Progress, Report> {
  const any = anyNodes(scenario)
  const from = options.seed ?? options.from ?? 1
  const seeds = options.seed === undefined ? options.seeds ?? 200 : 1
  const until = options.time === undefined
    ? Infinity
    : performance.now() + Duration.toMillis(Duration.fromInputUnsafe(options.time))
  const atLeast = Math.min(seeds, options.atLeast ?? 50)
  let tally = newTally()
  for (tally of searching(any, Array.from({ length: seeds }, (_, i) => from + i))) {
    yield { runs: tally.runs, faults: tally.faults, steps: tally.steps }
    if (tally.runs >= atLeast && performance.now() > until) break
  }
  return toReport(any, tally, seeds > 1)
}

/**
 * Throws `SimulationFailed` with the report when a promise is broken, or when no run
 * came to what `sometimes` asks for.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const assert = <N extends Nodes>(scenario: Scenario<N>, options?: Options): void =>
  check(scenario, options).orThrow()

/**
 * What every single fault leads to.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface EachReport {
  /** How many runs it had: one for each fault, and one without. */
  readonly runs: number
  /** How many operations there are in the run without faults. */
  readonly operations: number
  /** The faults that break a promise. */
  readonly findings: ReadonlyArray<Finding>
}

/**
 * Runs the scenario in order, without any other disorder, with every single fault at
 * every operation of it, and some at times: complete for one fault, and always the
 * same.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const each = <N extends Nodes>(
  scenario: Scenario<N>,
  options: {
    /** Whether to end at the first fault that breaks a promise. Default: false. */
    readonly stopAtFirst?: boolean | undefined
  } = {}
): EachReport => {
  const any = anyNodes(scenario)
  const findings: Array<Finding> = []
  let runs = 0
  let operations = 0
  for (const outcome of eachFault(any, [])) {
    if (runs === 0) operations = outcome.asked.length
    runs++
    if (outcome.broken === undefined) continue
    findings.push(toFinding(any, outcome, { seed: undefined, faultsFound: outcome.faults.length, tries: 0 }))
    if (options.stopAtFirst === true) break
  }
  return { runs, operations, findings }
}

/**
 * Repeats the run of a recording, such as a finding prints: a test that what it
 * found stays mended.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const replay = <N extends Nodes>(scenario: Scenario<N>, recording: Recording): Report => {
  const any = anyNodes(scenario)
  const outcome = runScenario(any, fromRecording(recording))
  const tally = newTally()
  count(tally, outcome)
  if (outcome.broken !== undefined) {
    tally.finding = toFinding(any, outcome, { seed: undefined, faultsFound: outcome.faults.length, tries: 0 })
  }
  return toReport(any, tally, false)
}

// --- internal ---

/** The types of the nodes are for those who write a scenario: a run gives its invariants what its nodes have. */
const anyNodes = <N extends Nodes>(scenario: Scenario<N>): Scenario => scenario as unknown as Scenario

const toReport = (scenario: Scenario, tally: Tally, isWhole: boolean): Report =>
  new Report({
    runs: tally.runs,
    steps: tally.steps,
    faults: tally.faults,
    finding: tally.finding,
    unreached: isWhole && tally.finding === undefined
      ? Object.keys(scenario.sometimes ?? {}).filter((name) => !tally.reached.has(name))
      : [],
    warnings: isWhole && tally.faults === 0 && scenario.faults !== "none"
      ? ["No fault befell any run: does the workload do anything, and do the limits of `faults` leave any?"]
      : []
  })
