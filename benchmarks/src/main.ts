import { mkdirSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { dirname, resolve } from "node:path"
import { parseArgs } from "node:util"
import { loadApart } from "./apart.ts"
import { measure, table } from "./harness.ts"
import type { Subject, SubjectName } from "./subject.ts"
import { Unavailable } from "./subject.ts"
import { load, names } from "./subjects.ts"
import type { Workload } from "./workload.ts"
import { descriptions, workloads } from "./workload.ts"

const usage = `npm run bench [-- options]
  --only W2       this workload only (may be repeated, or be a list: W1,W2)
  --subject x     this subject only: ${names.join(", ")} (likewise)
  --reps N        samples of each subject and workload (9)
  --quick         3 samples of 30 ms in place of 9 of 150 ms
  --out file      where to write the results; a run with --only, --subject or --quick writes only if this is given`

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const fail = (message: string): never => {
  process.stderr.write(`${message}\n${usage}\n`)
  return process.exit(2)
}

const { values } = (() => {
  try {
    return parseArgs({
      options: {
        only: { type: "string", multiple: true },
        subject: { type: "string", multiple: true },
        reps: { type: "string" },
        quick: { type: "boolean", default: false },
        out: { type: "string" },
        help: { type: "boolean", default: false }
      }
    })
  } catch (error) {
    return fail((error as Error).message)
  }
})()

const choose = <A extends string>(
  kind: string,
  all: ReadonlyArray<A>,
  given?: ReadonlyArray<string>
): ReadonlyArray<A> => {
  const asked = given?.flatMap((text) => text.split(",")).map((text) => text.trim())
  const unknown = asked?.find((text) => !all.some((name) => name === text))
  if (unknown !== undefined) {
    return fail(`There is no ${kind} ${unknown}.`)
  }
  return asked === undefined ? all : all.filter((name) => asked.includes(name))
}

if (values.help) {
  print(usage)
  process.exit(0)
}

const chosenWorkloads: ReadonlyArray<Workload> = choose("workload", workloads, values.only)
const chosenNames: ReadonlyArray<SubjectName> = choose("subject", names, values.subject)
const repetitions = values.reps === undefined ? (values.quick ? 3 : 9) : Number(values.reps)
if (!Number.isInteger(repetitions) || repetitions < 1) {
  fail("--reps takes a whole number from 1.")
}
const sampleMs = values.quick ? 30 : 150

const subjects: Array<Subject> = []
const skipped: Record<string, string> = {}
const skip = (name: SubjectName, reason: string): void => {
  skipped[name] = reason
  print(`${name}: left out, ${reason}`)
}
for (const name of chosenNames) {
  try {
    // python-cqrs is a process of its own already
    subjects.push(name === "python-cqrs" ? await load(name) : await loadApart(name))
  } catch (error) {
    if (!(error instanceof Unavailable)) {
      throw error
    }
    skip(name, error.message)
  }
}

try {
  const measurements = await measure(subjects, {
    workloads: chosenWorkloads,
    repetitions,
    sampleMs,
    log: (line) => process.stderr.write(`${line}\n`),
    onGone: skip
  })
  const reference = (["event-flow", "effect"] as const).find((name) =>
    subjects.some((subject) => subject.name === name)
  )
  print("")
  for (const workload of chosenWorkloads) {
    print(`${workload}  ${descriptions[workload]}`)
  }
  print(`\nMedian microseconds of one unit${reference === undefined ? "" : ` (in brackets: times ${reference})`}\n`)
  print(table(measurements, reference))

  const whole = values.only === undefined && values.subject === undefined && !values.quick
  if (whole || values.out !== undefined) {
    const file = resolve(values.out ?? resolve(import.meta.dirname, "../results/in-process.json"))
    const metaFile = file.replace(/(\.json)?$/, ".meta.json")
    const results = measurements.filter(({ subject }) => subject !== "plain").map(({ workload, subject, ns }) => ({
      workload,
      subject,
      ns: Math.round(ns)
    }))
    const meta = {
      date: new Date().toISOString(),
      node: process.version,
      platform: `${process.platform} ${process.arch}`,
      cpu: cpus()[0]?.model ?? "unknown",
      cores: availableParallelism(),
      repetitions,
      sampleMs,
      packages: Object.fromEntries(subjects.map((subject) => [subject.name, subject.packages])),
      skipped,
      // The spread tells how far the medians of this machine can be trusted.
      spread: measurements.map(({ workload, subject, fastest, slowest, units }) => ({
        workload,
        subject,
        fastest: Math.round(fastest),
        slowest: Math.round(slowest),
        units
      }))
    }
    mkdirSync(dirname(file), { recursive: true })
    // One result a line: a new run can be compared by diff.
    writeFileSync(file, `[\n${results.map((result) => `  ${JSON.stringify(result)}`).join(",\n")}\n]\n`)
    writeFileSync(metaFile, `${JSON.stringify(meta, undefined, 2)}\n`)
    print(`\nwritten to ${file}`)
  } else {
    print("\nnot written: not the whole run (see --out)")
  }
} finally {
  for (const subject of subjects) {
    await subject.close?.()
  }
}
