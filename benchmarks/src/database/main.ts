/**
 * `npm run bench:database -w benchmarks`: messages a second of a consumer that writes to a PostgreSQL that is durable,
 * with an inbox, one by one and in batches. Samples alternate in one process; medians count.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { writeFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"
import { parseArgs } from "node:util"
import { startServer } from "../postgres.ts"
import { versionOf } from "../versions.ts"

import { batchSize, type Run, setUp, subjects } from "./subjects.ts"

const { values } = parseArgs({
  options: {
    reps: { type: "string", default: "5" },
    concurrency: { type: "string", default: "16" },
    out: { type: "string" }
  }
})
const repetitions = Number(values.reps)
const concurrency = Number(values.concurrency)
type Name = keyof typeof subjects
/** About a second of each. */
const counts: Record<Name, number> = {
  "event-flow, one by one": 1_500,
  "event-flow, batches, one by one in each": 4_000,
  "event-flow, batch handler": 15_000,
  "by hand, one by one": 1_500,
  "by hand, batches, one by one in each": 4_000,
  "by hand, batches, one statement in each": 15_000
}

const server = await startServer()
const admin = PgClient.layer({ url: Redacted.make(server.url), maxConnections: 1 })
const database = `bench_${process.pid}`
const url = new URL(server.url)
url.pathname = `/${database}`

const program = Effect.gen(function*() {
  yield* setUp
  const runs = new Map<Name, Run>()
  for (const name of Object.keys(subjects) as Array<Name>) runs.set(name, yield* subjects[name](concurrency))
  const samples = new Map<Name, Array<number>>(Array.from(runs.keys(), (name) => [name, []]))
  const sql = yield* SqlClient.SqlClient
  let expected = 0
  for (let round = -1; round < repetitions; round++) {
    for (const [name, run] of runs) {
      const start = performance.now()
      yield* run(counts[name])
      expected += counts[name]
      if (round >= 0) samples.get(name)!.push(counts[name] / (performance.now() - start) * 1000)
    }
  }
  const [total] = yield* sql<{ readonly n: string }>`SELECT sum(n) AS n FROM account`
  if (Number(total!.n) !== expected) throw new Error(`${expected} messages must be counted, got ${total!.n}`)
  return Array.from(samples, ([subject, taken]) => {
    const sorted = taken.toSorted((a, b) => a - b)
    return { subject, concurrency, perSecond: Math.round(sorted[sorted.length >> 1]!), samples: sorted.map(Math.round) }
  })
}).pipe(
  Effect.scoped,
  Effect.provide(PgClient.layer({ url: Redacted.make(url.href), maxConnections: concurrency * 3 + 4 }))
)

try {
  const execute = (text: string) =>
    Effect.runPromise(SqlClient.SqlClient.use((sql) => sql.unsafe(text)).pipe(Effect.provide(admin)))
  await execute(`CREATE DATABASE ${database}`)
  const results = await Effect.runPromise(program)
  await execute(`DROP DATABASE ${database} WITH (FORCE)`)
  const base = results[0]!.perSecond
  for (const { perSecond, subject } of results) {
    process.stdout.write(
      `${subject.padEnd(42)} ${String(perSecond).padStart(6)} a second  ${(perSecond / base).toFixed(1)}x\n`
    )
  }
  if (values.out !== undefined) {
    const lines = results.map(({ perSecond, subject }) => `  ${JSON.stringify({ subject, concurrency, perSecond })}`)
    writeFileSync(values.out, `[\n${lines.join(",\n")}\n]\n`)
    const meta = {
      date: new Date().toISOString(),
      node: process.version,
      cpu: cpus()[0]?.model ?? "unknown",
      cores: availableParallelism(),
      batchSize,
      repetitions,
      packages: ["@event-flow/core", "@event-flow/sql-layer", "@effect/sql-pg", "effect"].map(versionOf),
      samples: results.map(({ samples, subject }) => ({ subject, samples }))
    }
    writeFileSync(values.out.replace(/(\.json)?$/, ".meta.json"), `${JSON.stringify(meta, undefined, 2)}\n`)
  }
} finally {
  await server.end()
}
process.exit(0)
