import { assert, describe, it } from "@effect/vitest"
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { libraries, packages, root, run } from "./support.ts"

/** Lints files with the configuration of the repository, as if they were part of it. */
const lint = async (files: Record<string, string>): Promise<ReadonlyArray<string>> => {
  const dir = mkdtempSync(join(tmpdir(), "event-flow-lint-"))
  try {
    cpSync(join(root, ".oxlintrc.json"), join(dir, ".oxlintrc.json"))
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(dir, path)), { recursive: true })
      writeFileSync(join(dir, path), content)
    }
    const { stdout } = await run("oxlint", ["--format", "json"], dir)
    const { diagnostics } = JSON.parse(stdout) as {
      readonly diagnostics: ReadonlyArray<{ readonly code: string; readonly filename: string }>
    }
    return diagnostics.map(({ code, filename }) => `${filename}: ${code}`).sort()
  } finally {
    rmSync(dir, { recursive: true })
  }
}

const importing = (...specifiers: ReadonlyArray<string>) =>
  specifiers.map((specifier, i) => `import * as m${i} from "${specifier}"\nexport const v${i} = m${i}\n`).join("")

describe("lint finds", () => {
  it("circular imports, at any distance, of types too", async () => {
    assert.deepStrictEqual(
      await lint({
        "packages/core/src/A.ts": importing("./B.ts"),
        "packages/core/src/B.ts": importing("./internal/c.ts"),
        "packages/core/src/internal/c.ts": "export type { v0 } from \"../A.ts\"\n",
        "packages/core/src/D.ts": importing("./A.ts")
      }),
      [
        "packages/core/src/A.ts: import(no-cycle)",
        "packages/core/src/B.ts: import(no-cycle)",
        "packages/core/src/internal/c.ts: import(no-cycle)"
      ]
    )
  })

  it("in core, imports of anything but effect's modules", async () => {
    assert.deepStrictEqual(
      await lint({
        "packages/core/src/Ok.ts": importing("effect/Effect", "effect/sql/SqlClient"),
        "packages/core/src/Barrel.ts": importing("effect"),
        "packages/core/src/Node.ts": importing("node:fs"),
        "packages/core/src/Bare.ts": importing("path"),
        "packages/core/src/testing/Platform.ts": importing("@effect/platform-node"),
        "packages/core/src/Upwards.ts": importing("@event-flow/kafka-layer/KafkaBroker")
      }),
      [
        "packages/core/src/Bare.ts: import(no-nodejs-modules)",
        "packages/core/src/Barrel.ts: eslint(no-restricted-imports)",
        "packages/core/src/Node.ts: import(no-nodejs-modules)",
        "packages/core/src/Upwards.ts: eslint(no-restricted-imports)",
        "packages/core/src/testing/Platform.ts: eslint(no-restricted-imports)"
      ]
    )
  })

  it("in a layer, imports of another layer, of the examples or of test support", async () => {
    assert.deepStrictEqual(
      await lint({
        "packages/sql-layer/src/Ok.ts": importing("@event-flow/core", "@event-flow/core/Broker", "node:fs"),
        "packages/sql-layer/src/Barrel.ts": importing("effect"),
        "packages/sql-layer/src/Sibling.ts": importing("@event-flow/kafka-layer"),
        "packages/sql-layer/src/Upwards.ts": importing("@event-flow/examples/flights"),
        "packages/sql-layer/src/Testing.ts": importing("@event-flow/test-support/proxy"),
        "packages/test-support/src/ok.ts": "console.log(1)\n",
        "packages/examples/src/Ok.ts": importing("effect", "@event-flow/sql-layer", "@event-flow/core/Broker")
      }),
      [
        "packages/sql-layer/src/Barrel.ts: eslint(no-restricted-imports)",
        "packages/sql-layer/src/Sibling.ts: eslint(no-restricted-imports)",
        "packages/sql-layer/src/Testing.ts: eslint(no-restricted-imports)",
        "packages/sql-layer/src/Upwards.ts: eslint(no-restricted-imports)"
      ]
    )
  })
})

describe("dependencies point one way", () => {
  const dependenciesOf = ({ json }: (typeof packages)[number]) =>
    Object.keys({ ...json.dependencies, ...json.peerDependencies })

  it("core depends on effect alone", () => {
    const core = packages.find(({ folder }) => folder === "core")!
    assert.deepStrictEqual(dependenciesOf(core), ["effect"])
  })

  it("a library depends on no package of the repository but core", () => {
    for (const library of libraries) {
      assert.isEmpty(
        dependenciesOf(library).filter((name) => name.startsWith("@event-flow/") && name !== "@event-flow/core"),
        library.json.name
      )
    }
  })
})
