import { assert, it } from "@effect/vitest"
import { run } from "./support.ts"

it("a floating Effect fails the plain build", async () => {
  const { code, stdout } = await run("tsc", ["-b", "test/fixtures/floating-effect"])
  assert.match(stdout, /main\.ts\(5,3\): error TS377001/)
  assert.lengthOf(stdout.trim().split("\n"), 1)
  assert.notStrictEqual(code, 0)
})
