/** One seed after another, until a promise is broken. */
import { type Finding, make as makeFinding } from "../../Finding.ts"
import type { Scenario } from "../../Scenario.ts"
import { placeOf } from "../run/clients.ts"
import { deterministic, type Outcome, runScenario } from "../run/run.ts"
import { fromSeed, recordingOf } from "./settings.ts"
import { shrink } from "./shrink.ts"
import { firstDifference, traceOf } from "./trace.ts"

/** What a search has seen so far. */
export interface Tally {
  runs: number
  steps: number
  faults: number
  readonly reached: Set<string>
  finding: Finding | undefined
}

export const newTally = (): Tally => ({ runs: 0, steps: 0, faults: 0, reached: new Set(), finding: undefined })

export const count = (tally: Tally, outcome: Outcome): void => {
  tally.runs++
  tally.steps += outcome.steps
  tally.faults += outcome.faults.length
  for (const name of outcome.reached) tally.reached.add(name)
}

/** Gives its tally after each run. The first seed runs twice, and both runs must be the same. */
export function* searching(scenario: Scenario, seeds: Iterable<number>): Generator<Tally, void> {
  const tally = newTally()
  for (const seed of seeds) {
    const setting = fromSeed(scenario, seed)
    const isFirst = tally.runs === 0
    const outcome = runScenario(scenario, { ...setting, keepsStory: isFirst })
    count(tally, outcome)
    if (outcome.broken !== undefined) tally.finding = found(scenario, outcome)
    else if (isFirst) tally.finding = repeated(scenario, outcome)
    yield tally
    if (tally.finding !== undefined) return
  }
}

/** The same seed once more: what differs comes from outside of the simulation. */
const repeated = (scenario: Scenario, first: Outcome): Finding | undefined => {
  const second = runScenario(scenario, { ...fromSeed(scenario, first.setting.seed), keepsStory: true })
  const difference = firstDifference(traceOf(first), traceOf(second))
  if (difference === undefined) return undefined
  return toFinding(scenario, {
    ...second,
    broken: {
      invariant: deterministic,
      detail: `the same seed gave two different runs: does something outlive a run, such as a variable of a module?\n` +
        difference
    }
  }, { seed: first.setting.seed, faultsFound: second.faults.length, tries: 0 })
}

const found = (scenario: Scenario, outcome: Outcome): Finding => {
  const shrunk = shrink(scenario, outcome)
  return toFinding(scenario, shrunk.outcome, {
    seed: outcome.setting.seed,
    faultsFound: outcome.faults.length,
    tries: shrunk.tries
  })
}

export const toFinding = (
  scenario: Scenario,
  outcome: Outcome,
  how: { readonly seed: number | undefined; readonly faultsFound: number; readonly tries: number }
): Finding =>
  makeFinding({
    ...how,
    invariant: outcome.broken?.invariant ?? "nothing",
    detail: outcome.broken?.detail ?? "",
    recording: recordingOf(outcome),
    workload: Object.entries(scenario.clients).flatMap(([client, steps]) =>
      steps.filter((_, i) => !outcome.setting.dropped.has(placeOf(client, i))).map(({ name }) => `${client}: ${name}`)
    ),
    faults: outcome.faults,
    story: outcome.story,
    flow: outcome.flow
  })
