/** A broken promise as text. */
import { describe, type Fault } from "../../Fault.ts"
import type { Recording } from "../../Recording.ts"

interface Fields {
  readonly invariant: string
  readonly detail: string
  readonly seed: number | undefined
  readonly recording: Recording
  readonly workload: ReadonlyArray<string>
  readonly faults: ReadonlyArray<Fault>
  readonly story: ReadonlyArray<{
    readonly time: number
    readonly process: string
    readonly text: string
    readonly isFault: boolean
  }>
  readonly flow: object | undefined
  readonly faultsFound: number
  readonly tries: number
}

export const render = (finding: Fields): string => {
  const { recording, story } = finding
  const width = Math.max(6, ...story.map(({ process }) => process.length))
  return [
    `${finding.invariant}: BROKEN`,
    ...indented(finding.detail.split("\n")),
    "",
    ...(finding.seed === undefined ? [] : [`Found by: Simulation.check(scenario, { seed: ${finding.seed} })`]),
    `Replay:   Simulation.replay(scenario, ${code(recording)})`,
    `Shrunk in ${finding.tries} runs from ${count(finding.faultsFound, "fault")} to ${finding.faults.length}; ${
      describeSchedule(recording)
    }`,
    "",
    "Workload:",
    ...indented(finding.workload),
    "Faults:",
    ...indented(finding.faults.length === 0 ? ["none"] : finding.faults.map(describe)),
    "",
    "What happened:",
    ...story.map(({ isFault, process, text, time }) =>
      `${String(Math.round(time)).padStart(7)} ms  ${process.padEnd(width)}  ${isFault ? "⚡ " : ""}${text}`
    ),
    ...(finding.flow === undefined ? [] : ["", "The flow:", String(finding.flow)])
  ].join("\n")
}

const indented = (lines: ReadonlyArray<string>): ReadonlyArray<string> => lines.map((line) => `  ${line}`)

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`

const describeSchedule = ({ schedule = {} }: Recording): string => {
  const { latency = 0, order = "fifo", pause = 0, preemption = 0 } = schedule
  const disorder = [
    ...(order === "random" ? ["in any order"] : []),
    ...(preemption > 0 ? [`preempted at ${preemption} of the operations`] : []),
    ...(latency > 0 ? [`latency up to ${latency} ms`] : []),
    ...(pause > 0 ? [`clients pause up to ${pause} ms`] : [])
  ]
  return disorder.length === 0 ? "all runs in order, at once" : disorder.join(", ")
}

/** As it is written in a program, without what is the default. */
const code = ({ faults = [], observed, schedule = {}, seed, without = [] }: Recording): string => {
  const disorder = Object.entries(schedule).filter(([, value]) => value !== 0 && value !== "fifo")
  return literal({
    ...(seed === undefined || seed === 0 ? {} : { seed }),
    ...(disorder.length === 0 ? {} : { schedule: Object.fromEntries(disorder) }),
    ...(faults.length === 0 ? {} : { faults }),
    ...(without.length === 0 ? {} : { without }),
    ...(observed === false ? { observed } : {})
  })
}

const literal = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  const fields = Object.entries(value).map(([name, member]) => `${name}: ${literal(member)}`)
  return fields.length === 0 ? "{}" : `{ ${fields.join(", ")} }`
}
