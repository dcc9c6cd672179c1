/** One subject in one configuration, in a process of its own. Asked by `main.ts`, and asleep while it is not its turn. */
import { resetTally, tally } from "../workload.ts"
import { type ConfigurationName, configurations, type SubjectName, type Workload } from "./configurations.ts"
import type { Run } from "./surroundings.ts"

export type Question =
  | { readonly ask: "setup"; readonly workload: Workload }
  | { readonly ask: "run"; readonly workload: Workload; readonly units: number }

const [subject, name] = process.argv.slice(2) as [SubjectName, ConfigurationName]
const configuration = configurations[name]

const { setup }: {
  setup: (workload: Workload, of: typeof configuration) => Run | undefined | Promise<Run | undefined>
} = subject === "event-flow"
  ? await import("./eventFlow.ts")
  : subject === "by-hand"
  ? await import("./byHand.ts")
  : await import("./nestjs.ts")

const runs = new Map<Workload, Run>()

const answer = async (question: Question): Promise<unknown> => {
  if (question.ask === "setup") {
    const run = await setup(question.workload, configuration)
    if (run !== undefined) runs.set(question.workload, run)
    return { hasWorkload: run !== undefined }
  }
  resetTally()
  const start = process.cpuUsage()
  await runs.get(question.workload)!(question.units)
  const { system, user } = process.cpuUsage(start)
  return { ns: (user + system) * 1000, tally }
}

process.on("message", (question: Question) => {
  answer(question).then(
    (value) => process.send!({ value }),
    (error: unknown) => process.send!({ error: error instanceof Error ? `${error.stack}` : String(error) })
  )
})
process.send!({ value: undefined })
