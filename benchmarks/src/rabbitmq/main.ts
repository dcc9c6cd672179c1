/**
 * `npm run bench:rabbitmq -w benchmarks`: publishing and consuming on a real
 * server, against the bare client. Each sample runs in a process of its own, with
 * a warm-up; the order of the subjects turns from round to round, and medians
 * count.
 */
import { RabbitTopology } from "@event-flow/rabbitmq-layer"
import { connect } from "amqplib"
import { Effect, References } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { dirname, resolve } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { versionOf } from "../versions.ts"
import { group, type Result, type Task } from "./work.ts"

const { values: options } = parseArgs({
  options: {
    reps: { type: "string", default: "11" },
    count: { type: "string", default: "50000" },
    only: { type: "string" },
    out: { type: "string" }
  }
})

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

const subjects = [
  { name: "event-flow", file: here("eventFlow.ts") },
  { name: "amqplib by hand", file: here("amqplib.ts") }
]
const workloads = (["publish", "consume"] as const).filter((workload) =>
  [undefined, workload].includes(options.only as never)
)

/** The server that `npm run rabbitmq` starts, or the one of RABBITMQ_URL. */
const startServer = async (): Promise<{ readonly url: string; readonly end: () => Promise<void> }> => {
  const given = process.env["RABBITMQ_URL"]
  if (given !== undefined) return { url: given, end: () => Promise.resolve() }
  const child: ChildProcess = spawn(process.execPath, [here("../../../scripts/rabbitmq.ts")], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  for await (const line of createInterface({ input: child.stdout! })) {
    const url = /^RABBITMQ_URL=(.+)$/.exec(line)?.[1]
    if (url === undefined) continue
    return {
      url,
      end: () =>
        new Promise((resolve) => {
          child.once("exit", () => resolve())
          child.kill("SIGINT")
        })
    }
  }
  throw new Error("RabbitMQ did not start")
}

const sample = (file: string, task: Task): Promise<Result> =>
  new Promise((resolve, reject) => {
    const args = ["--conditions=@event-flow/source", "--no-warnings", file, JSON.stringify(task)]
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] })
    let output = ""
    const patience = setTimeout(() => child.kill("SIGKILL"), 120_000)
    child.stdout.on("data", (data: Buffer) => output += data.toString())
    child.once("exit", () => {
      clearTimeout(patience)
      const line = output.trim().split("\n").findLast((line) => line.startsWith(`{"perSecond"`))
      if (line === undefined) reject(new Error(`${file} ended without a result: ${output}`))
      else resolve(JSON.parse(line) as Result)
    })
  })

const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : Math.round((sorted[middle - 1]! + sorted[middle]!) / 2)
}

const quietly = Effect.provideService(References.MinimumLogLevel, "Warn")

const count = Number(options.count)
const warmUp = Math.round(count / 4)
const rounds = Number(options.reps)
const server = await startServer()
const { url } = server
let topics = 0
const results: Array<{ readonly workload: string; readonly subject: string; readonly perSecond: number }> = []
const ensure = (group: string, topic: string) =>
  RabbitTopology.RabbitTopology.use((topology) => topology.ensure(RabbitTopology.specs(group, [topic]))).pipe(
    Effect.provide(RabbitTopology.layer({ url }))
  )

const details: Array<unknown> = []
try {
  const connection = await connect(url)
  const channel = await connection.createChannel()
  for (const workload of workloads) {
    const samples = new Map(subjects.map(({ name }) => [name, [] as Array<Result>]))
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < subjects.length; i++) {
        const { file, name } = subjects[(round + i) % subjects.length]!
        // A durable quorum queue, as the layer makes it; new, so that no sample pays for the one before
        const topic = `bench-${process.pid}-${topics++}`
        const queue = RabbitTopology.queueName(group, topic)
        await Effect.runPromise(quietly(ensure(group, topic)))
        const task = { url, topic, queue, warmUp, count }
        if (workload === "consume") await sample(subjects[1]!.file, { ...task, workload: "publish" })
        const result = await sample(file, { ...task, workload })
        samples.get(name)!.push(result)
        await channel.deleteQueue(queue)
        // Deleting goes on in the background
        await new Promise((resolve) => setTimeout(resolve, 1_000))
        const { cpuPerMessage, perSecond } = result
        print(
          `${workload} ${round + 1}/${rounds} ${name}: ${perSecond.toLocaleString("en")} a second, ${cpuPerMessage} us`
        )
      }
    }
    for (const [subject, taken] of samples) {
      const rates = taken.map(({ perSecond }) => perSecond)
      results.push({ workload, subject, perSecond: median(rates) })
      details.push({
        workload,
        subject,
        slowest: Math.min(...rates),
        fastest: Math.max(...rates),
        cpuPerMessage: median(taken.map(({ cpuPerMessage }) => cpuPerMessage))
      })
    }
  }
  await connection.close()
} finally {
  await server.end()
}

print("")
for (const { perSecond, subject, workload } of results) {
  print(`${workload.padEnd(8)} ${subject.padEnd(24)} ${perSecond.toLocaleString("en").padStart(9)}`)
}

const isWhole = options.only === undefined && count === 50_000
const out = options.out ?? (isWhole ? here("../../results/rabbitmq.json") : undefined)
if (out !== undefined) {
  mkdirSync(dirname(resolve(out)), { recursive: true })
  writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`)
  const meta = {
    date: new Date().toISOString(),
    cpus: `${availableParallelism()} x ${cpus()[0]?.model ?? "?"}`,
    node: process.version,
    versions: ["@event-flow/rabbitmq-layer", "amqplib"].map(versionOf),
    messages: count,
    rounds,
    details
  }
  writeFileSync(out.replace(/\.json$/, ".meta.json"), `${JSON.stringify(meta, null, 2)}\n`)
}
