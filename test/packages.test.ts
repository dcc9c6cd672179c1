/** Each published package has what npm, its pages and its users need. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { libraries, packages, readJson, root } from "./support.ts"

const repository = "https://github.com/event-flow/event-flow"
const rootJson = readJson("package.json")
const read = (file: string): string => readFileSync(join(root, file), "utf8")

it("the repository says where it is, and which Node its scripts need", () => {
  assert.strictEqual(rootJson.repository.url, `git+${repository}.git`)
  assert.strictEqual(rootJson.homepage, `${repository}#readme`)
  assert.strictEqual(rootJson.bugs.url, `${repository}/issues`)
  assert.strictEqual(rootJson.engines.node, ">=20")
})

for (const { folder, json: { name } } of libraries) {
  describe(name, () => {
    const json = readJson(`packages/${folder}/package.json`)

    it("says where it comes from", () => {
      assert.deepStrictEqual(json.repository, {
        type: "git",
        url: `git+${repository}.git`,
        directory: `packages/${folder}`
      })
      assert.strictEqual(json.homepage, `${repository}/tree/main/packages/${folder}#readme`)
      assert.strictEqual(json.bugs.url, `${repository}/issues`)
    })

    it("says what it is", () => {
      assert.match(json.description, /^[A-Z].{20,120}[^.]$/)
      assert.isAtLeast(json.keywords.length, 5)
      assert.includeMembers(json.keywords, ["effect", "typescript"])
      assert.strictEqual(json.license, "MIT")
      assert.strictEqual(read(`packages/${folder}/LICENSE`), read("LICENSE"))
      assert.match(json.engines.node, /^>=\d+(\.\d+\.\d+)?$/)
    })

    it("is published for everybody, with a statement of where it was built", () => {
      assert.deepStrictEqual(json.publishConfig, { access: "public", provenance: true })
      for (const file of ["AGENTS.md", "CHANGELOG.md", "dist", "src"]) assert.include(json.files, file)
      assert.strictEqual(json.type, "module")
      assert.deepStrictEqual(json.sideEffects, [])
    })

    it("leaves the choice of what it shares with a program to the program, within a range", () => {
      assert.isUndefined(json.dependencies, "a package that a program may share is a peer")
      for (const [peer, range] of Object.entries<string>(json.peerDependencies)) {
        assert.match(range, /^[~^]\d+\.\d+\.\d+$/, peer)
        if (peer === "effect" || name === "@event-flow/core") continue
        const [major, minor] = range.slice(1).split(".")
        const used = peer.startsWith("@event-flow/")
          ? packages.find((other) => other.json.name === peer)!.json.version
          : json.devDependencies[peer]
        assert.match(used, new RegExp(`^${major}\\.${minor}\\.\\d+$`), `the tests run with ${peer} ${used}`)
      }
      assert.strictEqual(json.peerDependencies.effect, "~4.1.0")
    })

    it("has a README that stands for itself", () => {
      const readme = read(`packages/${folder}/README.md`)
      assert.isTrue(readme.startsWith(`# ${name}\n`))
      const [, install] = /^```sh\n(npm install [^\n]+)\n/m.exec(readme)!
      const needed = Object.keys(json.peerDependencies).filter((peer) => !json.peerDependenciesMeta?.[peer]?.optional)
      assert.sameMembers(install!.split(" ").slice(2), [name, ...needed])
      assert.match(readme, /^```ts/m)
      assert.match(readme, /^## Further$/m)
      for (const file of [`packages/${folder}/AGENTS.md`, "CHANGELOG.md", "SECURITY.md", "LICENSE"]) {
        assert.include(readme, `(${repository}/blob/main/${file})`)
      }
      const others = libraries.filter((library) => library.folder !== folder)
      for (const other of others) assert.include(readme, `(${repository}/tree/main/packages/${other.folder})`)
    })
  })
}

it("no file of the repository is at another address of it", () => {
  const files = ["package.json", ".changeset/config.json", "SECURITY.md", "CONTRIBUTING.md", "README.md"]
  for (const file of files) {
    assert.isTrue(existsSync(join(root, file)), file)
    for (const [address] of read(file).matchAll(/github\.com\/event-flow[\w./-]*/g)) {
      assert.isTrue(address.startsWith("github.com/event-flow/event-flow"), `${file}: ${address}`)
    }
  }
})
