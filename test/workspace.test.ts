import { assert, it } from "@effect/vitest"
import { existsSync, globSync } from "node:fs"
import { join } from "node:path"
import projects from "../vitest.workspace.ts"
import { packages, readJson, root, runOk } from "./support.ts"

it("vitest.workspace.ts lists every package that has tests", () => {
  const listed = projects.map((project) =>
    typeof project === "object" && "test" in project ? project.test?.name : project
  )
  const tested = packages.map(({ folder }) => folder).filter((folder) =>
    globSync(`packages/${folder}/test/**/*.test.ts`, { cwd: root }).length > 0
  )
  assert.includeMembers(listed, [...tested, "repository"])
  for (const { folder } of packages) {
    if (!tested.includes(folder)) assert.notInclude(listed, folder, "a project without tests")
  }
})

it("vitest runs the projects of vitest.workspace.ts, and every test file belongs to one", async () => {
  // Tests run once more in these: with a small budget of operations, and on another version of a server
  const again = ["core-yielding", "rabbitmq-layer-4"]
  const list: ReadonlyArray<{ readonly file: string; readonly projectName: string }> = JSON.parse(
    await runOk("vitest", ["list", "--filesOnly", "--json"])
  )
  const actual = list.filter(({ projectName }) => !again.includes(projectName)).map((
    { file, projectName }
  ) => [projectName, file])
  assert.includeMembers(list.map(({ projectName }) => projectName), again)
  const projectOf = (file: string) => {
    if (file.startsWith("test")) return "repository"
    // Those that start brokers run last, as a project of their own
    return file.startsWith("packages/examples/test/brokers") ? "examples-brokers" : file.split("/")[1]
  }
  const expected = globSync(["packages/*/test/**/*.test.ts", "test/**/*.test.ts"], { cwd: root })
    .map((file) => [projectOf(file), join(root, file)])
  assert.sameDeepMembers(actual, expected)
})

it("every package is built by tsc -b", () => {
  const built: ReadonlyArray<{ readonly path: string }> = readJson("tsconfig.json").references
  assert.includeMembers(built.map(({ path }) => path), packages.map(({ folder }) => `packages/${folder}`))
  for (const { path } of built) assert.isTrue(existsSync(join(root, path)), path)
})

it("all packages have the version of the repository", () => {
  const { version } = readJson("package.json")
  for (const { json } of packages) assert.strictEqual(json.version, version, json.name)
})

it("package-lock.json names no registry, and the binaries of all platforms", () => {
  const locked: Record<string, { resolved?: string; optionalDependencies?: object }> =
    readJson("package-lock.json").packages
  const names = new Set(Object.keys(locked).map((path) => path.replace(/^.*node_modules\//, "")))
  for (const [path, { resolved, optionalDependencies }] of Object.entries(locked)) {
    assert.notMatch(resolved ?? "", /^https?:/, path)
    for (const name of Object.keys(optionalDependencies ?? {})) {
      assert.isTrue(names.has(name), `npm ci will miss ${name}, an optional dependency of ${path}`)
    }
  }
})
