/** The same seed gives the same run, to the byte: in another process, in another time zone, and after other seeds. */
import { assert, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import { join } from "node:path"
import { promisify } from "node:util"
import { traced } from "./traced.ts"

const run = promisify(execFile)

const inProcess = async (timeZone: string, others: number): Promise<string> => {
  const script = join(import.meta.dirname, "traced.ts")
  const { stdout } = await run("node", ["--conditions=@event-flow/source", script, String(others)], {
    env: { ...process.env, TZ: timeZone, NODE_OPTIONS: undefined }
  })
  return stdout.trim()
}

it("40 seeds: ids and times of messages, log lines, faults, trees", async () => {
  const here = traced(0)
  assert.isAbove(here.length, 40_000)
  // It has what it should have
  for (const part of ["logs ", "\"id\":\"01b8dac", "correlationid", "2030-01-01T00:00:0", "└─ •"]) {
    assert.include(here, part)
  }
  const hash = createHash("sha256").update(here).digest("hex")
  const elsewhere = await Promise.all([
    inProcess("UTC", 0),
    inProcess("Asia/Kolkata", 0),
    inProcess("America/New_York", 300)
  ])
  assert.deepStrictEqual(elsewhere, [hash, hash, hash])
}, 240_000)
