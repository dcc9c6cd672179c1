/** The flights example on real brokers: its totals are those of a run in memory. */
import { afterAll, assert, beforeAll, it } from "@effect/vitest"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { realFlights, start } from "../support.ts"

const brokers = [
  { name: "kafka", setting: "KAFKA_BOOTSTRAP_SERVERS" },
  { name: "rabbitmq", setting: "RABBITMQ_URL" }
] as const

/** Of a smaller run than that of all records. */
let some: string
let directory: string
let memory: { readonly all: string; readonly some: string }

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

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "event-flow-flights-"))
  some = join(directory, "some.json")
  const records: ReadonlyArray<unknown> = JSON.parse(readFileSync(realFlights, "utf8"))
  writeFileSync(some, JSON.stringify(records.slice(0, 3000)))
  memory = { all: await flights([]), some: await flights(["--file", some]) }
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const assertTotals = (memory: string, published: string, consumed: string) => {
  assert.strictEqual(between(totals(published), "flights recorded", "What went").trimEnd(), recorded(memory))
  assert.strictEqual(board(consumed), board(memory))
  const longDelays = count(memory, "LongDelay.v1", "published")
  assert.isDefined(longDelays)
  assert.strictEqual(count(published, "LongDelay.v1", "published"), longDelays)
  assert.strictEqual(count(consumed, "LongDelay.v1", "handled"), longDelays)
  assert.strictEqual(count(consumed, "RunEnded.v1", "handled"), "1")
}

for (const { name, setting } of brokers) {
  const { address, withServer } = serverTests(name)
  // What a user sets to reach it
  const env = { [setting]: address ?? "" }

  withServer(`flights on ${name}`, () => {
    it("in one process, again and again", async () => {
      assert.strictEqual(totals(await flights(["--broker", name], env)), totals(memory.all))
      for (let i = 0; i < 2; i++) {
        const stdout = await flights(["--broker", name, "--file", some], env)
        assert.strictEqual(totals(stdout), totals(memory.some))
      }
    })

    it("in two processes, one after the other", async () => {
      const published = await flights(["--broker", name, "--role", "publish"], env)
      const [, run] = /^Run ([\w-]+)\./.exec(published) ?? []
      assert.isDefined(run, published)
      const consumed = await flights(["--broker", name, "--role", "consume", "--run", run!], env)
      assertTotals(memory.all, published, consumed)
    })

    it("in two processes, the consumer first", async () => {
      const run = ["--broker", name, "--run", `test-${crypto.randomUUID()}`]
      const [consumed, published] = await Promise.all([
        flights([...run, "--role", "consume"], env),
        flights([...run, "--role", "publish", "--file", some], env)
      ])
      assertTotals(memory.some, published, consumed)
    })
  })
}
