/** The program on the command line. */
import { assert, it } from "@effect/vitest"
import { start } from "../support.ts"

it("npm run simulate: all promises kept", async () => {
  const { code, stdout } = await start("simulate/main.ts", ["--seeds", "30"]).ended
  assert.strictEqual(code, 0)
  assert.match(stdout, /^30 runs, \d+ faults, \d+ steps: all promises kept\n\n30 seeds in [\d.]+ s\n$/)
}, 120_000)

it("npm run simulate -- --bug paid-twice: the shortest run that shows it", async () => {
  const { code, stderr, stdout } = await start("simulate/main.ts", ["--bug", "paid-twice"]).ended
  assert.strictEqual(code, 1)
  assert.match(stdout, /^always: money matches the orders: BROKEN\n/)
  assert.include(stdout, "it is done, and fails for the caller")
  assert.include(stderr, "a promise was broken")
}, 120_000)
