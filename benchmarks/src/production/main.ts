/**
 * `npm run bench:production -w benchmarks`: what a command or a message costs in the configurations that people run,
 * beside the same program by hand. CPU time of the process, the least of alternating samples.
 */
import { type ChildProcess, fork } from "node:child_process"
import { writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { versionOf } from "../versions.ts"
import { depth, fanOut, seatOf, type Tally } from "../workload.ts"
import type { Question } from "./child.ts"
import {
  concurrentSends,
  type ConfigurationName,
  configurationNames,
  configurations,
  descriptions,
  nestedSends,
  type SubjectName,
  subjectNames,
  type Workload,
  workloads
} from "./configurations.ts"

const { values } = parseArgs({
  options: {
    config: { type: "string" },
    only: { type: "string" },
    subject: { type: "string" },
    reps: { type: "string", default: "9" },
    /** CPU milliseconds of a sample. */
    sample: { type: "string", default: "150" },
    out: { type: "string" }
  }
})

const chosen = <A extends string>(all: ReadonlyArray<A>, given: string | undefined): ReadonlyArray<A> => {
  if (given === undefined) return all
  const unknown = given.split(",").find((text) => !all.some((name) => name === text))
  if (unknown !== undefined) throw new Error(`There is no ${unknown}; there are ${all.join(", ")}`)
  return all.filter((name) => given.split(",").includes(name))
}

const names = chosen(configurationNames, values.config)
const wanted = chosen(workloads, values.only)
const subjects = chosen(subjectNames, values.subject)
const repetitions = Number(values.reps)
const sampleNs = Number(values.sample) * 1e6
/** Of each workload, until its code is compiled. */
const warmUpNs = 600e6

interface Sampled {
  readonly ns: number
  readonly tally: Tally
}

class Child {
  readonly subject: SubjectName
  readonly #process: ChildProcess
  constructor(subject: SubjectName, name: ConfigurationName) {
    this.subject = subject
    this.#process = fork(join(import.meta.dirname, "child.ts"), [subject, name], {
      execArgv: ["--conditions=@event-flow/source"],
      serialization: "advanced"
    })
  }
  reply<A>(): Promise<A> {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`the process of ${this.subject} ended`))
      this.#process.once("exit", ended)
      this.#process.once("message", ({ error, value }: { readonly value?: A; readonly error?: string }) => {
        this.#process.off("exit", ended)
        if (error === undefined) resolve(value as A)
        else reject(new Error(`${this.subject}: ${error}`))
      })
    })
  }
  ask<A>(question: Question): Promise<A> {
    const answer = this.reply<A>()
    this.#process.send(question)
    return answer
  }
  end(): void {
    this.#process.kill()
  }
}

const handlersOf: Record<Workload, number> = {
  W1: 0,
  W2: 1,
  W3: 3 * fanOut,
  W5: depth,
  W6: 0,
  "W6-read": 0,
  nested: 0,
  concurrent: 0,
  consume: 1
}

const commandsOf = (workload: Workload): number =>
  workload === "consume" ? 0 : workload === "nested" ? 1 + nestedSends : workload === "concurrent" ? concurrentSends : 1

/** Fails unless exactly the work of `units` units was done. */
const checked = (child: Child, workload: Workload, units: number, { ns, tally }: Sampled): number => {
  const expect = (what: string, actual: number, expected: number): void => {
    if (actual !== expected) {
      throw new Error(`${child.subject}, ${workload}: ${units} units must give ${expected} ${what}, got ${actual}`)
    }
  }
  expect("command handler runs", tally.commands, units * commandsOf(workload))
  expect("handler runs", tally.handlers, units * handlersOf[workload])
  expect("messages", tally.messages, workload.startsWith("W6") ? units : 0)
  if (workload !== "consume") {
    let seats = 0
    for (let unit = 0; unit < units; unit++) seats += seatOf(unit)
    expect("as sum of the responses", tally.answers, seats)
    const inner = workload === "nested" ? nestedSends : workload === "concurrent" ? concurrentSends : 0
    expect("as sum of the inner responses", tally.nested, seats * inner)
  }
  return ns / units
}

interface Task {
  readonly child: Child
  readonly workload: Workload
  units: number
  readonly samples: Array<number>
}

const sample = async ({ child, units, workload }: Task): Promise<number> =>
  checked(child, workload, units, await child.ask<Sampled>({ ask: "run", workload, units }))

const results: Array<{
  readonly workload: Workload
  readonly config: ConfigurationName
  readonly subject: SubjectName
  readonly ns: number
  readonly median: number
}> = []

for (const name of names) {
  const children = subjects.map((subject) => new Child(subject, name))
  try {
    await Promise.all(children.map((child) => child.reply()))
    const tasks: Array<Array<Task>> = []
    for (const workload of wanted) {
      const row: Array<Task> = []
      for (const child of children) {
        const { hasWorkload } = await child.ask<{ readonly hasWorkload: boolean }>({ ask: "setup", workload })
        if (!hasWorkload) continue
        const task: Task = { child, workload, units: 1, samples: [] }
        row.push(task)
        let spent = 0
        while (spent < warmUpNs) {
          const ns = await sample(task)
          spent += ns * task.units
          task.units = Math.max(1, Math.min(task.units * 4, Math.round(sampleNs / Math.max(ns, 1))))
        }
      }
      tasks.push(row)
    }
    for (let round = 0; round < repetitions; round++) {
      for (const row of tasks) {
        // Each starts in turn
        for (let i = 0; i < row.length; i++) {
          const task = row[(i + round) % row.length]!
          task.samples.push(await sample(task))
        }
      }
    }
    for (const row of tasks) {
      for (const { child: { subject }, samples, workload } of row) {
        const sorted = samples.toSorted((a, b) => a - b)
        results.push({
          workload,
          config: name,
          subject,
          ns: Math.round(sorted[0]!),
          median: Math.round(sorted[sorted.length >> 1]!)
        })
      }
    }
    process.stdout.write(`\n${name}: ${configurations[name].description}\n${table(name)}\n`)
  } finally {
    for (const child of children) child.end()
  }
}

/** Microseconds of a unit, and how many times the program by hand that is. */
function table(name: ConfigurationName): string {
  const find = (workload: Workload, subject: SubjectName) =>
    results.find((result) => result.workload === workload && result.config === name && result.subject === subject)?.ns
  const rows = [
    ["", ...wanted],
    ...subjects.map((subject) => [
      subject,
      ...wanted.map((workload) => {
        const ns = find(workload, subject)
        const byHand = find(workload, "by-hand")
        if (ns === undefined) return ""
        return (ns / 1000).toFixed(2) +
          (byHand === undefined || subject === "by-hand" ? "" : ` (${(ns / byHand).toFixed(2)})`)
      })
    ])
  ]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row.map((text, i) => i === 0 ? text.padEnd(widths[0]!) : text.padStart(widths[i]!)).join("  ")
  )
    .join("\n")
}

for (const workload of wanted) process.stdout.write(`\n${workload}  ${descriptions[workload]}`)
process.stdout.write("\n")

const isWhole = values.config === undefined && values.only === undefined && values.subject === undefined
if (isWhole || values.out !== undefined) {
  const file = resolve(values.out ?? join(import.meta.dirname, "../../results/in-process-production.json"))
  const lines = results.map(({ config, ns, subject, workload }) =>
    `  ${JSON.stringify({ workload, config, subject, ns })}`
  )
  writeFileSync(file, `[\n${lines.join(",\n")}\n]\n`)
  writeFileSync(
    file.replace(/(\.json)?$/, ".meta.json"),
    `${
      JSON.stringify(
        {
          date: new Date().toISOString(),
          node: process.version,
          platform: `${process.platform} ${process.arch}`,
          cpu: cpus()[0]?.model ?? "unknown",
          cores: availableParallelism(),
          repetitions,
          measured: "CPU time of the process, the least of the samples",
          packages: [versionOf("@event-flow/core"), versionOf("effect")],
          medians: results.map(({ config, median, subject, workload }) => ({ workload, config, subject, ns: median }))
        },
        undefined,
        2
      )
    }\n`
  )
  process.stdout.write(`written to ${file}\n`)
}
