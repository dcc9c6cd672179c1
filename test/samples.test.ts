/**
 * Every ```` ```ts ```` fence of the documentation, and of the docstrings, is a module of its own that compiles and runs.
 *
 * - A fence ```` ```text output ```` that comes next is its exact output.
 * - ```` ```ts no-run ```` is compiled only.
 *
 * So are the mistakes of the packages' AGENTS.md: each line that does not compile is one that it says so of.
 */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { mistakesFiles } from "../scripts/agents.ts"
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
  for (const file of mistakesFiles) cpSync(join(root, file), join(dir, file.replaceAll("/", "-")))
})

it("samples compile", async () => {
  assert.isNotEmpty(files)
  const { stdout } = await run("tsc", ["-p", dir])
  assert.strictEqual(stdout, "")
})

describe("samples run", () => {
  for (const { file, line, tags, path, output } of files) {
    const isRun = !tags.includes("no-run")
    const title = `${file}, line ${line}`
    it.runIf(isRun)(isRun ? title : `${title} (skipped: compiled only, it asks for more than a process)`, async () => {
      const stdout = await runOk("node", ["--conditions=@event-flow/source", path])
      if (output !== undefined) assert.strictEqual(stdout.trimEnd(), output.trimEnd())
    })
  }
})
