/**
 * `npm run bench:kafka -w benchmarks`: publishing and consuming on a real broker,
 * against other clients. Each sample runs in a process of its own, with a
 * warm-up; the order of the subjects turns from round to round, and medians
 * count.
 */
import { Admin } from "@platformatic/kafka"
import { spawn, spawnSync } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { dirname, resolve } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { versionOf } from "../versions.ts"
import type { Result, Task } from "./work.ts"
import { partitions } from "./work.ts"

const { values: options } = parseArgs({
  options: {
    reps: { type: "string", default: "5" },
    count: { type: "string", default: "200000" },
    only: { type: "string" },
    subject: { type: "string", multiple: true },
    out: { type: "string" }
  }
})

interface Subject {
  readonly name: string
  readonly version: string
  readonly command: ReadonlyArray<string>
  /** Slow ones get fewer messages. */
  readonly share?: number
  readonly only?: Task["workload"]
}

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))
const withSource = [process.execPath, "--conditions=@event-flow/source", "--no-warnings"]
/** Where @confluentinc/kafka-javascript is installed, and the Node that it is compiled for. */
const confluentDirectory = process.env["CONFLUENT_DIRECTORY"]
const confluentNode = process.env["CONFLUENT_NODE"] ?? process.execPath

/** Where effect-kafka is installed, with Effect 3 and the clients that it takes. */
const effectKafkaDirectory = process.env["EFFECT_KAFKA_DIRECTORY"]

const skipped: Record<string, string> = {}
const subjects: Array<Subject> = [
  { name: "event-flow", version: versionOf("@event-flow/kafka-layer"), command: [...withSource, here("eventFlow.ts")] },
  {
    name: "event-flow, Subscriber port alone",
    version: versionOf("@event-flow/kafka-layer"),
    command: [...withSource, here("port.ts")],
    only: "consume"
  },
  {
    name: "@platformatic/kafka by hand",
    version: versionOf("@platformatic/kafka"),
    command: [...withSource, here("platformatic.ts")]
  },
  {
    name: "@platformatic/kafka by hand, decoding, in order per key",
    version: versionOf("@platformatic/kafka"),
    command: [...withSource, here("platformaticDecoding.ts")],
    only: "consume"
  },
  { name: "kafkajs", version: versionOf("kafkajs"), command: [...withSource, here("kafkajs.ts")], share: 0.2 }
]
if (confluentDirectory === undefined) {
  skipped["@confluentinc/kafka-javascript"] =
    "CONFLUENT_DIRECTORY does not say where it is installed: without its prebuilt binary it must be compiled"
} else {
  const { version } = JSON.parse(
    spawnSync(confluentNode, [
      "-p",
      `JSON.stringify(require(${
        JSON.stringify(`${confluentDirectory}/node_modules/@confluentinc/kafka-javascript/package.json`)
      }))`
    ], { encoding: "utf8" }).stdout
  ) as { version: string }
  subjects.push({
    name: "@confluentinc/kafka-javascript",
    version: `@confluentinc/kafka-javascript@${version} (node ${
      spawnSync(confluentNode, ["-v"], { encoding: "utf8" }).stdout.trim()
    })`,
    command: [confluentNode, here("confluent.mjs")]
  })
}
if (effectKafkaDirectory === undefined) {
  skipped["effect-kafka"] =
    "EFFECT_KAFKA_DIRECTORY does not say where it is installed: it is made for Effect 3, which cannot be beside Effect 4"
} else {
  const command = [process.execPath, "--no-warnings", here("effectKafka.mjs")]
  const { publishes, version } = JSON.parse(
    spawnSync(command[0]!, [...command.slice(1), "describe"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"]
    }).stdout
  ) as { readonly version: string; readonly publishes: "confluent" | "kafkajs" }
  subjects.push({ name: "effect-kafka", version, command, share: publishes === "kafkajs" ? 0.2 : 1 })
}
const chosen = subjects.filter(({ name }) => options.subject === undefined || options.subject.includes(name))
const workloads = (["publish", "consume"] as const).filter((workload) =>
  options.only === undefined || options.only === workload
)

/** The broker that `npm run kafka` starts, or the one of KAFKA_BOOTSTRAP_SERVERS. */
const startBroker = async (): Promise<
  { readonly servers: ReadonlyArray<string>; readonly end: () => Promise<void> }
> => {
  const given = process.env["KAFKA_BOOTSTRAP_SERVERS"]
  if (given !== undefined) return { servers: given.split(","), end: () => Promise.resolve() }
  const child: ChildProcess = spawn(process.execPath, [here("../../../scripts/kafka.ts")], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  for await (const line of createInterface({ input: child.stdout! })) {
    const servers = /^KAFKA_BOOTSTRAP_SERVERS=(.+)$/.exec(line)?.[1]
    if (servers === undefined) continue
    return {
      servers: servers.split(","),
      end: () =>
        new Promise((resolve) => {
          child.once("exit", () => resolve())
          child.kill("SIGINT")
        })
    }
  }
  throw new Error("Kafka did not start")
}

const sample = (subject: Subject, task: Task): Promise<Result> =>
  new Promise((resolve, reject) => {
    const [command, ...args] = [...subject.command, JSON.stringify(task)]
    const child = spawn(command!, args, { stdio: ["ignore", "pipe", "inherit"] })
    let output = ""
    const patience = setTimeout(() => child.kill("SIGKILL"), 180_000)
    child.stdout.on("data", (data: Buffer) => output += data.toString())
    child.once("exit", () => {
      clearTimeout(patience)
      const line = output.trim().split("\n").findLast((line) => line.startsWith(`{"perSecond"`))
      if (line === undefined) reject(new Error(`${subject.name} ended without a result: ${output}`))
      else resolve(JSON.parse(line) as Result)
    })
  })

const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : Math.round((sorted[middle - 1]! + sorted[middle]!) / 2)
}

const broker = await startBroker()
const admin = new Admin({ clientId: "bench", bootstrapBrokers: [...broker.servers], retries: 5 })
let topics = 0
const newTopic = async (): Promise<string> => {
  const topic = `bench-${process.pid}-${topics++}`
  await admin.createTopics({ topics: [{ topic, partitions, replicas: 1 }] })
  return topic
}

const count = Number(options.count)
const warmUp = Math.round(count / 4)
const rounds = Number(options.reps)
const results: Array<{ readonly workload: string; readonly subject: string; readonly perSecond: number }> = []
const details: Array<unknown> = []
try {
  for (const workload of workloads) {
    // One topic for all who consume: each has a group of its own
    let filled: string | undefined
    if (workload === "consume") {
      filled = await newTopic()
      await sample(subjects[0]!, { workload: "publish", servers: broker.servers, topic: filled, warmUp, count })
    }
    const running = chosen.filter(({ only }) => only === undefined || only === workload)
    const samples = new Map<Subject, Array<Result>>(running.map((subject) => [subject, []]))
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < running.length; i++) {
        const subject = running[(round + i) % running.length]!
        const share = workload === "publish" ? subject.share ?? 1 : 1
        const result = await sample(subject, {
          workload,
          servers: broker.servers,
          topic: filled ?? await newTopic(),
          warmUp: Math.round(warmUp * share),
          count: Math.round(count * share)
        })
        samples.get(subject)!.push(result)
        print(
          `${workload} ${round + 1}/${rounds} ${subject.name}: ${
            result.perSecond.toLocaleString("en")
          } a second, ${result.rss} MiB`
        )
      }
    }
    for (const [subject, taken] of samples) {
      const rates = taken.map(({ perSecond }) => perSecond)
      results.push({ workload, subject: subject.name, perSecond: median(rates) })
      details.push({
        workload,
        subject: subject.name,
        slowest: Math.min(...rates),
        fastest: Math.max(...rates),
        rss: median(taken.map(({ rss }) => rss))
      })
    }
  }
} finally {
  await admin.close()
  await broker.end()
}

print("")
for (const { perSecond, subject, workload } of results) {
  print(`${workload.padEnd(8)} ${subject.padEnd(56)} ${perSecond.toLocaleString("en").padStart(9)}`)
}
for (const [name, reason] of Object.entries(skipped)) print(`left out: ${name}: ${reason}`)

const isWhole = options.only === undefined && options.subject === undefined && count === 200_000
const out = options.out ?? (isWhole ? here("../../results/kafka.json") : undefined)
if (out !== undefined) {
  mkdirSync(dirname(resolve(out)), { recursive: true })
  writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`)
  const meta = {
    date: new Date().toISOString(),
    cpus: `${availableParallelism()} x ${cpus()[0]?.model ?? "?"}`,
    node: process.version,
    versions: [...new Set(subjects.map(({ version }) => version))],
    messages: count,
    rounds,
    skipped,
    details
  }
  writeFileSync(out.replace(/\.json$/, ".meta.json"), `${JSON.stringify(meta, null, 2)}\n`)
}
