/** An orchestrator ends a program with SIGTERM, and kills it when it has not ended in time (Kubernetes: 30 seconds). */
import { assert, it } from "@effect/vitest"
import { start as startProgram } from "./support.ts"

it("a consumer that only waits for a retry ends at SIGTERM, long before its grace period is over", async () => {
  const program = startProgram("../test/fixtures/retrying.ts")
  await program.printed(/waiting/)
  const start = performance.now()
  program.kill("SIGTERM")
  const { code, stderr } = await program.ended
  const seconds = (performance.now() - start) / 1000
  assert.strictEqual(code, 130, stderr)
  // It takes some milliseconds, on a machine that does nothing else
  assert.isBelow(seconds, 15)
}, 60_000)
