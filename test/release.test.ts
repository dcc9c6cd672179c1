/** A release, on a copy of what it changes: what `npm run release:version` does, except for the lock, which needs npm's registry. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { libraries, packages, readJson, root, runOk } from "./support.ts"

const config = readJson(".changeset/config.json")

it("all packages are one group, and those that are published are for everybody", () => {
  assert.deepStrictEqual(config.fixed, [["@event-flow/*"]])
  assert.strictEqual(config.access, "public")
  assert.strictEqual(config.baseBranch, "main")
})

describe("a change of core", () => {
  let copy = ""
  const read = (path: string): string => readFileSync(join(copy, path), "utf8")
  const readCopy = (path: string) => JSON.parse(read(path))
  const git = (...args: ReadonlyArray<string>) =>
    runOk(
      "git",
      ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false", ...args],
      copy
    )
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(copy, path)), { recursive: true })
    writeFileSync(join(copy, path), text)
  }

  beforeAll(async () => {
    copy = mkdtempSync(join(tmpdir(), "event-flow-release-"))
    const files = globSync([
      "package.json",
      "package-lock.json",
      "{packages/*,benchmarks}/package.json",
      ".changeset/config.json"
    ], {
      cwd: root
    })
    for (const file of files) {
      mkdirSync(dirname(join(copy, file)), { recursive: true })
      cpSync(join(root, file), join(copy, file))
    }
    cpSync(join(root, "scripts", "rootVersion.mjs"), join(copy, "scripts", "rootVersion.mjs"))
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"), "dir")
    write(".gitignore", "node_modules\n")
    await git("init", "--quiet", "--initial-branch=main")
    await git("add", ".")
    await git("commit", "--quiet", "--message=before")
    await git("checkout", "--quiet", "-b", "change")
    write(".changeset/some-change.md", "---\n\"@event-flow/core\": minor\n---\n\nA command can be undone.\n")
    await git("add", ".")
    await git("commit", "--quiet", "--message=change")
    await runOk("changeset", ["status", "--output=status.json"], copy)
    await runOk("changeset", ["version"], copy)
    await runOk("node", ["scripts/rootVersion.mjs"], copy)
    return () => rmSync(copy, { recursive: true, force: true })
  }, 60_000)

  it("is announced for every package, with one version", () => {
    const { releases } = readCopy("status.json") as {
      readonly releases: ReadonlyArray<{ readonly name: string; readonly type: string; readonly newVersion: string }>
    }
    assert.includeMembers(releases.map(({ name }) => name), libraries.map(({ json }) => json.name))
    for (const { name, newVersion, type } of releases) {
      assert.deepStrictEqual({ newVersion, type }, { newVersion: "0.2.0", type: "minor" }, name)
    }
  })

  it("gives every package that version, and the ranges that go with it", () => {
    const all = [
      "package.json",
      "benchmarks/package.json",
      ...packages.map(({ folder }) => `packages/${folder}/package.json`)
    ]
    for (const path of all) {
      const json = readCopy(path)
      assert.strictEqual(json.version, "0.2.0", path)
      for (const field of ["dependencies", "devDependencies", "peerDependencies"]) {
        for (const [name, range] of Object.entries(json[field] ?? {})) {
          if (!name.startsWith("@event-flow/")) continue
          assert.strictEqual(range, field === "peerDependencies" ? "^0.2.0" : "0.2.0", `${path}: ${name}`)
        }
      }
    }
  })

  it("is in the changelog of its package, and its changeset is gone", () => {
    assert.include(read("packages/core/CHANGELOG.md"), "## 0.2.0")
    assert.include(read("packages/core/CHANGELOG.md"), "A command can be undone.")
    for (const { folder } of libraries) assert.include(read(`packages/${folder}/CHANGELOG.md`), "## 0.2.0")
    assert.isFalse(existsSync(join(copy, ".changeset/some-change.md")))
  })
})
