/** From a seed, or from a recording, to what makes a run. */
import * as Fault from "../../Fault.ts"
import type { Recording } from "../../Recording.ts"
import type { Scenario } from "../../Scenario.ts"
import { inOrder } from "../kernel/loop.ts"
import { drawn, listed, swarm } from "../kernel/plan.ts"
import { processNames } from "../run/instance.ts"
import type { Outcome, Setting } from "../run/run.ts"
import { hash } from "../seeded.ts"

export const fromSeed = (scenario: Scenario, seed: number): Setting => {
  const limits = scenario.faults === "none" ? Fault.none : scenario.faults ?? {}
  const { rates, schedule } = swarm(seed, limits)
  return {
    seed,
    schedule,
    plan: drawn(seed, rates, processNames(scenario.nodes).map(([name]) => name)),
    dropped: new Set(),
    isObserved: (hash(seed, "observed") & 1) === 1,
    keepsStory: false
  }
}

export const fromRecording = (recording: Recording): Setting => ({
  seed: recording.seed ?? 0,
  schedule: { ...inOrder, ...recording.schedule },
  plan: listed(recording.faults ?? []),
  dropped: new Set(recording.without),
  isObserved: recording.observed ?? true,
  keepsStory: true
})

/** What repeats a run: the faults that it had, by their operations, and its schedule. */
export const recordingOf = ({ faults, setting }: Outcome): Required<Recording> => ({
  seed: setting.seed,
  schedule: setting.schedule,
  faults,
  without: [...setting.dropped],
  observed: setting.isObserved
})
