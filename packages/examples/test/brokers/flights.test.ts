/** The flights example on real brokers: its totals are those of a run in memory. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { findSource, startKafka } from "@event-flow/test-support/kafkaServer"
import { find, start as startRabbitmq } from "@event-flow/test-support/rabbitServer"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { realFlights, start } from "../support.ts"

interface Server {
  /** What a user sets to reach it. */
  readonly env: Record<string, string>
  readonly dispose: () => Promise<void>
}

const kafka = findSource()
const rabbitmq = await find()

const brokers: ReadonlyArray<{
  readonly name: string
  /** Why there is none. */
  readonly reason: string | undefined
  readonly start: () => Promise<Server>
}> = [
  {
    name: "kafka",
    reason: kafka.kind === "none" ? kafka.reason : undefined,
    start: async () => {
      const { bootstrapServers, dispose } = await startKafka(kafka)
      return { env: { KAFKA_BOOTSTRAP_SERVERS: bootstrapServers.join() }, dispose }
    }
  },
  {
    name: "rabbitmq",
    reason: rabbitmq._tag === "None" ? rabbitmq.reason : undefined,
    start: async () => {
      if (rabbitmq._tag === "None") throw new Error(rabbitmq.reason)
      const { dispose, url } = await startRabbitmq(rabbitmq)
      return { env: { RABBITMQ_URL: url }, dispose }
    }
  }
]

const flights = async (args: ReadonlyArray<string>, env: Record<string, string> = {}) => {
  const { code, stderr, stdout } = await start("flights/main.ts", args, env).ended
  assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" }, stdout)
  return stdout
}

/** The report without what differs from run to run. */
const totals = (stdout: string) =>
  stdout.replaceAll(/^[\d.]+ s(?:,| from).*\n/gm, "").replace(/^Where the time.*\n\n(?:.+\n)+/m, "")

/** The sections between two titles. */
const between = (stdout: string, from: string, to: string) => {
  const start = stdout.indexOf(from)
  const end = stdout.indexOf(to, start)
  assert.isTrue(start >= 0 && end > start, `from ${from} to ${to} in\n${stdout}`)
  return stdout.slice(start, end)
}

const recorded = (stdout: string) => between(totals(stdout), "flights recorded", "The delay board").trimEnd()
const board = (stdout: string) => between(stdout, "The delay board", "What went through").trimEnd()

const count = (stdout: string, row: string, what: string) => {
  const line = stdout.split("\n").find((line) => line.includes(row))
  return new RegExp(`([\\d,]+) ${what}`).exec(line ?? "")?.[1]
}

describe.each(brokers)("flights on $name", ({ name, reason, start: startServer }) => {
  if (reason !== undefined && process.env["CI"] !== "true") {
    it.skip(`no server: ${reason}`, () => {})
    return
  }

  let server: Server | undefined
  let directory: string | undefined
  let some: string
  let memory: { readonly all: string; readonly some: string }
  beforeAll(async () => {
    server = await startServer()
    directory = mkdtempSync(join(tmpdir(), "event-flow-flights-"))
    some = join(directory, "some.json")
    const records: ReadonlyArray<unknown> = JSON.parse(readFileSync(realFlights, "utf8"))
    writeFileSync(some, JSON.stringify(records.slice(0, 3000)))
    memory = { all: await flights([]), some: await flights(["--file", some]) }
  })
  afterAll(async () => {
    await server?.dispose()
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true })
  })

  it("in one process, again and again", async () => {
    assert.strictEqual(totals(await flights(["--broker", name], server!.env)), totals(memory.all))
    for (let i = 0; i < 2; i++) {
      const stdout = await flights(["--broker", name, "--file", some], server!.env)
      assert.strictEqual(totals(stdout), totals(memory.some))
    }
  })

  it("in two processes, one after the other", async () => {
    const published = await flights(["--broker", name, "--role", "publish"], server!.env)
    const [, run] = /^Run ([\w-]+)\./.exec(published) ?? []
    assert.isDefined(run, published)
    const consumed = await flights(["--broker", name, "--role", "consume", "--run", run!], server!.env)
    assertTotals(memory.all, published, consumed)
  })

  it("in two processes, the consumer first", async () => {
    const env = server!.env
    const run = ["--broker", name, "--run", `test-${crypto.randomUUID()}`]
    const [consumed, published] = await Promise.all([
      flights([...run, "--role", "consume"], env),
      flights([...run, "--role", "publish", "--file", some], env)
    ])
    assertTotals(memory.some, published, consumed)
  })

  const assertTotals = (memory: string, published: string, consumed: string) => {
    assert.strictEqual(between(totals(published), "flights recorded", "What went").trimEnd(), recorded(memory))
    assert.strictEqual(board(consumed), board(memory))
    const longDelays = count(memory, "LongDelay.v1", "published")
    assert.isDefined(longDelays)
    assert.strictEqual(count(published, "LongDelay.v1", "published"), longDelays)
    assert.strictEqual(count(consumed, "LongDelay.v1", "handled"), longDelays)
    assert.strictEqual(count(consumed, "RunEnded.v1", "handled"), "1")
  }
})
