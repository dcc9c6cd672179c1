/**
 * One subject in a process of its own: what other libraries have compiled, and what they keep in the heap, does not
 * count in its figures. Asked by `apart.ts`.
 */
import type { Run, SubjectName } from "./subject.ts"
import { load } from "./subjects.ts"
import { resetTally, tally, type Workload } from "./workload.ts"

type Question =
  | { readonly ask: "setup"; readonly workload: Workload }
  | { readonly ask: "run"; readonly workload: Workload; readonly units: number }
  | { readonly ask: "close" }

const subject = await load(process.argv[2] as SubjectName)
const runs = new Map<Workload, Run>()

const answer = async (question: Question): Promise<unknown> => {
  switch (question.ask) {
    case "setup": {
      const run = await subject.setup(question.workload)
      if (run !== undefined) runs.set(question.workload, run)
      return { hasWorkload: run !== undefined }
    }
    case "run": {
      resetTally()
      const start = process.hrtime.bigint()
      const own = await runs.get(question.workload)!(question.units)
      const seen = Number(process.hrtime.bigint() - start)
      return { ns: own ?? seen, tally }
    }
    case "close":
      await subject.close?.()
      return {}
  }
}

process.on("message", (question: Question) => {
  answer(question).then(
    (value) => {
      process.send!({ value })
      if (question.ask === "close") process.disconnect()
    },
    (error: unknown) => process.send!({ error: error instanceof Error ? `${error.stack}` : String(error) })
  )
})
process.send!({ value: { packages: subject.packages } })
