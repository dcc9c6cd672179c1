/**
 * `npm run bench:outbox -w benchmarks`: what the outbox costs a command, how fast
 * relays publish, and how soon, on a PostgreSQL that is durable. Each sample runs
 * in processes of its own and on a database of its own; the order of the subjects
 * turns from round to round, and medians count.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { dirname, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { startServer } from "../postgres.ts"
import { versionOf } from "../versions.ts"
import type { Lag, Report, Task } from "./work.ts"
import { keys } from "./work.ts"

const { values: options } = parseArgs({
  options: {
    reps: { type: "string", default: "5" },
    rows: { type: "string", default: "50000" },
    commands: { type: "string", default: "2000" },
    commits: { type: "string", default: "1000" },
    only: { type: "string", multiple: true },
    subject: { type: "string", multiple: true },
    check: { type: "boolean", default: false },
    out: { type: "string" }
  }
})
const rounds = Number(options.reps)
const rows = Number(options.rows)
const commands = Number(options.commands)
const commits = Number(options.commits)

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

interface Subject {
  readonly name: string
  readonly file: string
  readonly args?: ReadonlyArray<string>
  /** Slow ones get fewer rows. */
  readonly share?: number
}

const ours: Subject = { name: "event-flow", file: "eventFlow.ts" }
const byHand: Subject = { name: "by hand", file: "byHand.ts" }
const relaySubjects: ReadonlyArray<Subject> = [
  ours,
  byHand,
  { name: "effect PersistedQueue", file: "persistedQueue.ts", share: 0.08 }
]
const commandSubjects: ReadonlyArray<Subject> = [
  ours,
  byHand,
  { name: "by hand, pg_notify in the transaction", file: "byHand.ts", args: ["notify"] }
]

const isChosen = ({ name }: Subject) => options.subject === undefined || options.subject.includes(name)
const isOn = (workload: string) => options.only === undefined || options.only.includes(workload)

/** Runs statements on the server, over a connection that is closed again: a database with users cannot be a template. */
const execute = (url: string, ...statements: ReadonlyArray<string>): Promise<ReadonlyArray<unknown>> =>
  Effect.runPromise(
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      let last: ReadonlyArray<unknown> = []
      for (const statement of statements) last = yield* sql.unsafe(statement)
      return last
    }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))
  )

interface Pending<A> {
  readonly promise: Promise<A>
  readonly resolve: (value: A) => void
  readonly reject: (error: unknown) => void
}

const pending = <A>(): Pending<A> => {
  let resolve!: (value: A) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<A>((succeed, fail) => {
    resolve = succeed
    reject = fail
  })
  return { promise, resolve, reject }
}

const patience = 180_000

/** A process of a subject. */
class Worker {
  readonly #child: ChildProcess
  readonly ready: Promise<void>
  readonly done: Promise<unknown>
  onPublished: (report: Extract<Report, { readonly _tag: "Published" }>) => void = () => {}

  constructor(subject: Subject, task: Task) {
    const args = ["--conditions=@event-flow/source", "--no-warnings", here(subject.file), JSON.stringify(task)]
    this.#child = spawn(process.execPath, [...args, ...subject.args ?? []], {
      stdio: ["ignore", "inherit", "inherit", "ipc"]
    })
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), patience)
    const isReady = pending<void>()
    const isDone = pending<unknown>()
    this.#child.on("message", (report: Report) => {
      if (report._tag === "Ready") isReady.resolve(undefined)
      else if (report._tag === "Done") isDone.resolve(report.result)
      else this.onPublished(report)
    })
    this.#child.once("exit", () => {
      clearTimeout(timer)
      const error = new Error(`${subject.name} ended without a result: ${JSON.stringify(task)}`)
      isReady.reject(error)
      isDone.reject(error)
    })
    this.ready = isReady.promise
    this.done = isDone.promise
    this.ready.catch(() => {})
    this.done.catch(() => {})
  }

  send(message: object): void {
    this.#child.send(message)
  }

  end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return Promise.resolve()
    return new Promise((resolve) => {
      this.#child.once("exit", () => resolve())
      this.#child.kill("SIGKILL")
    })
  }
}

const server = await startServer()
let databases = 0

/** A database for one sample, empty or as the template is. */
const withDatabase = async <A>(template: string | undefined, use: (url: string) => Promise<A>): Promise<A> => {
  const name = `bench_${process.pid}_${databases++}`
  // Copying the files begins and ends with a checkpoint: all samples begin after one
  await execute(
    server.url,
    template === undefined
      ? `CREATE DATABASE ${name}`
      : `CREATE DATABASE ${name} TEMPLATE ${template} STRATEGY file_copy`
  )
  const url = new URL(server.url)
  url.pathname = `/${name}`
  try {
    return await use(url.href)
  } finally {
    await execute(server.url, `DROP DATABASE ${name} WITH (FORCE)`)
  }
}

/** A database with rows that wait, which samples copy. */
const fill = async (subject: Subject, count: number): Promise<string> => {
  const name = `filled_${process.pid}_${databases++}`
  await execute(server.url, `CREATE DATABASE ${name}`)
  const url = new URL(server.url)
  url.pathname = `/${name}`
  const worker = new Worker(subject, { role: "fill", url: url.href, rows: count })
  await worker.done
  await worker.end()
  await execute(url.href, "VACUUM ANALYZE")
  return name
}

/** All rows are published, and each once; in the order of their keys, as far as one process can tell. */
const check = (numbers: ReadonlyArray<ReadonlyArray<number>>, total: number, isOrdered: boolean): void => {
  const all = numbers.flat()
  if (new Set(all).size !== total || all.length !== total) {
    throw new Error(`${all.length} rows, ${new Set(all).size} different ones, for ${total}`)
  }
  if (!isOrdered) return
  for (const ofProcess of numbers) {
    const last = new Map<number, number>()
    for (const number of ofProcess) {
      if ((last.get(number % keys) ?? -1) > number) throw new Error(`row ${number} is out of order`)
      last.set(number % keys, number)
    }
  }
}

/** Rows a second, from so many processes at once. A quarter more rows than are measured come first. */
const relaySample = async (subject: Subject, url: string, relays: number, count: number): Promise<number> => {
  const warmUp = Math.round(count / 4)
  const total = warmUp + count
  const workers = Array.from(
    { length: relays },
    () => new Worker(subject, { role: "relay", url, check: options.check })
  )
  try {
    await Promise.all(workers.map(({ ready }) => ready))
    let seen = 0
    let start = 0
    let counted = 0
    const numbers = workers.map((): Array<number> => [])
    const end = pending<number>()
    for (const [i, worker] of workers.entries()) {
      worker.onPublished = (report) => {
        seen += report.rows
        if (report.numbers !== undefined) numbers[i]!.push(...report.numbers)
        if (start === 0 && seen >= warmUp) {
          start = report.at
          counted = total - seen
        }
        if (seen >= total) end.resolve(report.at)
      }
      worker.done.catch(end.reject)
    }
    for (const worker of workers) worker.send({})
    const seconds = (await end.promise - start) / 1000
    if (options.check) {
      // What comes too often comes afterwards
      await new Promise((resolve) => setTimeout(resolve, 500))
      check(numbers, total, subject.file !== "persistedQueue.ts")
    }
    return Math.round(counted / seconds)
  } finally {
    await Promise.all(workers.map((worker) => worker.end()))
  }
}

const commandSample = async (subject: Subject, url: string, concurrency: number, count: number): Promise<number> => {
  // Long enough for everything to be compiled: a program sends commands for longer than a benchmark
  const worker = new Worker(subject, { role: "command", url, warmUp: count, count, concurrency })
  try {
    return await worker.done as number
  } finally {
    await worker.end()
  }
}

const lagSample = async (url: string, isSameProcess: boolean): Promise<Lag> => {
  const writer = new Worker(ours, { role: "lag", url, warmUp: 100, count: commits, relays: isSameProcess })
  const workers = [writer]
  try {
    await writer.ready
    if (!isSameProcess) {
      const relay = new Worker(ours, { role: "relay", url, check: true })
      workers.push(relay)
      relay.onPublished = ({ at, numbers }) => writer.send({ at, numbers })
      await relay.ready
      relay.send({})
    }
    writer.send({})
    return await writer.done as Lag
  } finally {
    await Promise.all(workers.map((worker) => worker.end()))
  }
}

const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : Math.round((sorted[middle - 1]! + sorted[middle]!) / 2)
}

const results: Array<
  & { readonly workload: string; readonly subject: string }
  & ({ readonly perSecond: number } | Lag)
> = []
const details: Array<unknown> = []

const compare = async (
  workload: string,
  subjects: ReadonlyArray<Subject>,
  sample: (subject: Subject) => Promise<number>
): Promise<void> => {
  const running = subjects.filter(isChosen)
  const samples = new Map<Subject, Array<number>>(running.map((subject) => [subject, []]))
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < running.length; i++) {
      const subject = running[(round + i) % running.length]!
      const perSecond = await sample(subject)
      samples.get(subject)!.push(perSecond)
      print(`${workload} ${round + 1}/${rounds} ${subject.name}: ${perSecond.toLocaleString("en")} a second`)
    }
  }
  for (const [subject, rates] of samples) {
    results.push({ workload, subject: subject.name, perSecond: median(rates) })
    details.push({ workload, subject: subject.name, slowest: Math.min(...rates), fastest: Math.max(...rates) })
  }
}

const started = performance.now()
let settings: unknown
try {
  settings = await execute(
    server.url,
    `SELECT name, setting FROM pg_settings WHERE name IN (
      'server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers'
    )`
  )
  if (isOn("relay-1") || isOn("relay-4")) {
    const filled = new Map<Subject, string>()
    const countOf = (subject: Subject) => Math.round(rows * (subject.share ?? 1))
    for (const subject of relaySubjects.filter(isChosen)) {
      filled.set(subject, await fill(subject, countOf(subject) + Math.round(countOf(subject) / 4)))
    }
    for (const relays of [1, 4]) {
      if (!isOn(`relay-${relays}`)) continue
      await compare(
        `relay-${relays}`,
        relaySubjects,
        (subject) => withDatabase(filled.get(subject), (url) => relaySample(subject, url, relays, countOf(subject)))
      )
    }
    for (const name of filled.values()) await execute(server.url, `DROP DATABASE ${name}`)
  }
  for (const concurrency of [1, 8]) {
    if (!isOn(`command-${concurrency}`)) continue
    await compare(
      `command-${concurrency}`,
      commandSubjects,
      (subject) =>
        withDatabase(
          undefined,
          (url) => commandSample(subject, url, concurrency, commands * (concurrency === 1 ? 1 : 2))
        )
    )
  }
  if (isOn("lag")) {
    for (const subject of ["relay in the same process", "relay in another process"]) {
      const lag = await withDatabase(undefined, (url) => lagSample(url, subject.includes("same")))
      print(`lag ${subject}: p50 ${lag.p50Millis} ms, p99 ${lag.p99Millis} ms, at most ${lag.maxMillis} ms`)
      results.push({ workload: "lag", subject, ...lag })
    }
  }
} finally {
  await server.end()
}

print("")
for (const result of results) {
  const figures = "perSecond" in result
    ? result.perSecond.toLocaleString("en").padStart(9)
    : `p50 ${result.p50Millis} ms, p99 ${result.p99Millis} ms, at most ${result.maxMillis} ms`
  print(`${result.workload.padEnd(10)} ${result.subject.padEnd(38)} ${figures}`)
}

const isWhole = options.only === undefined && options.subject === undefined && rows === 50_000 && !options.check
const out = options.out ?? (isWhole ? here("../../results/outbox.json") : undefined)
if (out !== undefined) {
  mkdirSync(dirname(resolve(out)), { recursive: true })
  writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`)
  const meta = {
    date: new Date().toISOString(),
    cpus: `${availableParallelism()} x ${cpus()[0]?.model ?? "?"}`,
    node: process.version,
    versions: ["@event-flow/sql-layer", "@effect/sql-pg", "effect"].map(versionOf),
    settings,
    rows,
    commands,
    commits,
    rounds,
    seconds: Math.round((performance.now() - started) / 1000),
    details
  }
  writeFileSync(out.replace(/\.json$/, ".meta.json"), `${JSON.stringify(meta, null, 2)}\n`)
}
