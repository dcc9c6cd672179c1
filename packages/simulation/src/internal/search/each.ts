/** Every single fault at every operation of a run in order, and nothing else: complete for one fault. */
import type { Fault } from "../../Fault.ts"
import type { Recording } from "../../Recording.ts"
import type { Scenario } from "../../Scenario.ts"
import { everyFault } from "../kernel/plan.ts"
import { processNames } from "../run/instance.ts"
import { type Outcome, runScenario } from "../run/run.ts"
import { fromRecording } from "./settings.ts"

/** First the run without any fault, then one for each. Ends early when that one is broken. */
export function* eachFault(scenario: Scenario, without: ReadonlyArray<string>): Generator<Outcome, void> {
  const run = (recording: Recording): Outcome => runScenario(scenario, fromRecording({ ...recording, without }))
  const first = run({})
  yield first
  if (first.broken !== undefined) return
  for (const { kind, operation } of first.asked) {
    for (const fault of everyFault(operation, kind)) yield run({ faults: [fault] })
  }
  for (const fault of timedFaults(scenario)) yield run({ faults: [fault] })
}

const timedFaults = (scenario: Scenario): ReadonlyArray<Fault> => {
  const processes = processNames(scenario.nodes).map(([name]) => name)
  return [0, 100, 500, 1500].flatMap((time): ReadonlyArray<Fault> => [
    { time, do: "outage", lasts: 1000 },
    ...[0, 1].map((pick) => ({ time, do: "rebalance", heardAfter: 300, pick }) as const),
    ...processes.map((process) => ({ time, do: "restart", process }) as const),
    ...processes.map((process) => ({ time, do: "stall", process, lasts: 2000 }) as const)
  ])
}
