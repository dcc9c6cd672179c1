/**
 * Every ```` ```ts ```` fence of the documentation, and of the docstrings, is a module of its own that compiles and runs.
 *
 * - A fence ```` ```text output ```` that comes next is its exact output.
 * - ```` ```ts no-run ```` is compiled only.
 */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { samples } from "./markdown.ts"
import { root, run, runOk } from "./support.ts"

const dir = join(root, ".cache", "samples")

const tsconfig = {
  extends: "../../tsconfig.base.json",
  compilerOptions: {
    rootDir: "../..",
    composite: false,
    incremental: false,
    tsBuildInfoFile: null,
    declarationMap: false,
    noEmit: true,
    noUnusedLocals: false,
    types: ["node"]
  },
  include: ["."]
}

const files = samples.map((sample) => ({
  ...sample,
  path: join(dir, `${sample.file.replace(/\W+/g, "-")}-line-${sample.line}.ts`)
}))

beforeAll(() => {
  rmSync(dir, { recursive: true, force: true })
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, "tsconfig.json"), JSON.stringify(tsconfig))
  for (const { path, code } of files) writeFileSync(path, code)
})

it("samples compile", async () => {
  assert.isNotEmpty(files)
  const { stdout } = await run("tsc", ["-p", dir])
  assert.strictEqual(stdout, "")
})

describe("samples run", () => {
  for (const { file, line, tags, path, output } of files) {
    it.skipIf(tags.includes("no-run"))(`${file}, line ${line}`, async () => {
      const stdout = await runOk("node", ["--conditions=@event-flow/source", path])
      if (output !== undefined) assert.strictEqual(stdout.trimEnd(), output.trimEnd())
    })
  }
})
