/**
 * Measures subjects against each other: everything is warmed up first, then each round takes one sample of every
 * workload from every subject, in an order that turns from round to round, and the median over the rounds counts. So
 * a slow spell of the machine falls on all subjects, and on no more than a round or two of each.
 */
import type { Run, Subject, SubjectName } from "./subject.ts"
import { Unavailable } from "./subject.ts"
import type { Workload } from "./workload.ts"
import { checkTally, resetTally } from "./workload.ts"

export interface Options {
  readonly workloads: ReadonlyArray<Workload>
  readonly repetitions: number
  /** How long one sample should take. */
  readonly sampleMs: number
  readonly log: (line: string) => void
  /** A subject that became `Unavailable` on the way is left out of the results. */
  readonly onGone: (subject: SubjectName, reason: string) => void
}

export interface Measurement {
  readonly workload: Workload
  readonly subject: SubjectName
  /** Median nanoseconds of one unit. */
  readonly ns: number
  readonly fastest: number
  readonly slowest: number
  readonly units: number
  readonly samples: number
}

interface Task {
  readonly workload: Workload
  readonly subject: Subject
  readonly run: Run
  units: number
  readonly samples: Array<number>
}

/** Of each subject and workload, also in a quick run: half-warm code would be measured otherwise. */
const warmUpMs = 400

/** Nanoseconds of one unit. */
const sample = async (task: Task): Promise<number> => {
  resetTally()
  // No forced collection: what the subject before left is young and dead, so it costs nothing, whereas the first
  // tens of milliseconds after a full collection run at half speed.
  const start = process.hrtime.bigint()
  const own = await task.run(task.units)
  const seen = Number(process.hrtime.bigint() - start)
  try {
    checkTally(task.workload, task.units, task.subject.name === "ideal")
  } catch (cause) {
    throw new Error(`${task.subject.name} did not do the work`, { cause })
  }
  return (own ?? seen) / task.units
}

/** Finds how many units make a sample, and runs for long enough to have everything compiled. */
const warmUp = async (task: Task, sampleMs: number): Promise<void> => {
  const end = performance.now() + warmUpMs
  let ns = await sample(task)
  while (ns * task.units < sampleMs * 0.5e6) {
    task.units *= 2
    ns = await sample(task)
  }
  do {
    task.units = Math.max(1, Math.round(sampleMs * 1e6 / ns))
    ns = await sample(task)
  } while (performance.now() < end)
  task.units = Math.max(1, Math.round(sampleMs * 1e6 / ns))
}

const median = (sorted: ReadonlyArray<number>): number => {
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const measure = async (subjects: ReadonlyArray<Subject>, options: Options): Promise<Array<Measurement>> => {
  const gone = new Set<SubjectName>()
  const unlessGone = async (subject: Subject, work: () => Promise<void>): Promise<void> => {
    if (gone.has(subject.name)) {
      return
    }
    try {
      await work()
    } catch (error) {
      if (!(error instanceof Unavailable)) {
        throw error
      }
      gone.add(subject.name)
      options.onGone(subject.name, error.message)
    }
  }

  const byWorkload: Array<Array<Task>> = []
  for (const workload of options.workloads) {
    const tasks: Array<Task> = []
    for (const subject of subjects) {
      await unlessGone(subject, async () => {
        const run = await subject.setup(workload)
        if (run !== undefined) {
          tasks.push({ workload, subject, run, units: 1, samples: [] })
        }
      })
    }
    byWorkload.push(tasks)
  }
  // All workloads before the first sample: a program runs all of its code, and so do the inline caches measured here.
  for (const [i, tasks] of byWorkload.entries()) {
    options.log(`warming up ${options.workloads[i]}`)
    for (const task of tasks) {
      await unlessGone(task.subject, () => warmUp(task, options.sampleMs))
    }
  }
  for (let round = 0; round < options.repetitions; round++) {
    options.log(`round ${round + 1} of ${options.repetitions}`)
    for (const tasks of byWorkload) {
      for (let i = 0; i < tasks.length; i++) {
        // Each starts in turn, and every other round runs backwards, so no subject always follows the same one.
        const turn = round % 2 === 0 ? i : tasks.length - 1 - i
        const task = tasks[(turn + (round >> 1)) % tasks.length]!
        await unlessGone(task.subject, async () => {
          task.samples.push(await sample(task))
        })
      }
    }
  }
  return byWorkload.flat().filter((task) => !gone.has(task.subject.name)).map((task) => {
    const sorted = task.samples.toSorted((a, b) => a - b)
    return {
      workload: task.workload,
      subject: task.subject.name,
      ns: median(sorted),
      fastest: sorted[0]!,
      slowest: sorted[sorted.length - 1]!,
      units: task.units,
      samples: sorted.length
    }
  })
}

const micros = (ns: number): string => {
  const us = ns / 1000
  return us >= 1000 ? us.toFixed(0) : us >= 10 ? us.toFixed(1) : us.toFixed(2)
}

/** Microseconds of one unit, and how many times those of `reference` that is. */
export const table = (measurements: ReadonlyArray<Measurement>, reference: SubjectName | undefined): string => {
  const workloads = [...new Set(measurements.map((measurement) => measurement.workload))]
  const subjects = [...new Set(measurements.map((measurement) => measurement.subject))]
  const find = (workload: Workload, subject: SubjectName): Measurement | undefined =>
    measurements.find((measurement) => measurement.workload === workload && measurement.subject === subject)
  const cell = (workload: Workload, subject: SubjectName): string => {
    const measurement = find(workload, subject)
    if (measurement === undefined) {
      return ""
    }
    const base = reference === undefined ? undefined : find(workload, reference)
    return base === undefined
      ? micros(measurement.ns)
      : `${micros(measurement.ns)} (${(measurement.ns / base.ns).toFixed(2)})`
  }
  const rows = [
    ["", ...workloads],
    ...subjects.map((subject) => [subject, ...workloads.map((workload) => cell(workload, subject))])
  ]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows
    .map((row) =>
      row.map((text, column) => column === 0 ? text.padEnd(widths[0]!) : text.padStart(widths[column]!)).join("  ")
    )
    .join("\n")
}
