/** What the host of the repository reads: workflows, templates, owners, updates; and what editors read. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, globSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { parse } from "yaml"
import { libraries, packages, readJson, root } from "./support.ts"

const read = (file: string): string => readFileSync(join(root, file), "utf8")
const scripts: Readonly<Record<string, string>> = readJson("package.json").scripts

interface Step {
  readonly uses?: string
  readonly run?: string
  readonly with?: Readonly<Record<string, unknown>>
}

interface Job {
  readonly uses?: string
  readonly needs?: string
  readonly permissions?: Readonly<Record<string, string>>
  readonly strategy?: { readonly matrix: { readonly node: ReadonlyArray<number> } }
  readonly steps?: ReadonlyArray<Step>
  readonly "timeout-minutes"?: number
}

interface Workflow {
  readonly name: string
  readonly on: Readonly<Record<string, unknown>>
  readonly permissions: Readonly<Record<string, string>>
  readonly jobs: Readonly<Record<string, Job>>
}

const workflowFiles = globSync(".github/workflows/*.yml", { cwd: root }).sort()
const workflow = (name: string): Workflow => parse(read(`.github/workflows/${name}.yml`), { strict: true })
const stepsOf = ({ jobs }: Workflow): ReadonlyArray<Step> => Object.values(jobs).flatMap(({ steps = [] }) => steps)

/** Every command of a workflow, those that an action runs included. */
const commandsOf = (of: Workflow): ReadonlyArray<string> =>
  stepsOf(of).flatMap((step) => [
    ...(step.run?.split("\n") ?? []),
    ...Object.entries(step.with ?? {}).filter(([input]) => input.endsWith("-script")).map(([, value]) => String(value))
  ]).map((line) => line.trim()).filter((line) => line !== "")

/** Why a command cannot run in a clone of this repository; undefined where it can. */
const problemOf = (command: string): string | undefined => {
  const [program, first, second] = command.split(/\s+/)
  if (program === "npm" && first === "run") return scripts[second!] === undefined ? `no script ${second}` : undefined
  if (program === "npm") return ["ci", "test"].includes(first!) ? undefined : `npm ${first}`
  if (program === "rm") return undefined
  const file = join(root, program!)
  if (!existsSync(file)) return "no such file"
  return (statSync(file).mode & 0o111) === 0 ? "not executable" : undefined
}

describe("workflows", () => {
  for (const file of workflowFiles) {
    it(`${file}: each step runs what there is, each job ends, and only what needs it may write`, () => {
      const of: Workflow = parse(read(file), { strict: true })
      assert.isNotEmpty(of.name)
      assert.deepStrictEqual(of.permissions, { contents: "read" })
      for (const command of commandsOf(of)) assert.isUndefined(problemOf(command), command)
      for (const [name, job] of Object.entries(of.jobs)) {
        if (job.uses === undefined) assert.isNumber(job["timeout-minutes"], name)
        else assert.isTrue(existsSync(join(root, job.uses)), job.uses)
        for (const { uses } of job.steps ?? []) if (uses !== undefined) assert.match(uses, /^[\w-]+\/[\w-]+@v[\d.]+$/)
      }
    })
  }

  it("test what .ci/run tests, in its order, on the Nodes that the packages support and that are maintained", () => {
    const { jobs, on } = workflow("ci")
    assert.hasAllKeys(on, ["pull_request", "workflow_call"])
    assert.deepStrictEqual(jobs["test"]!.strategy!.matrix.node, [22, 24])
    const inTest = commandsOf({ ...workflow("ci"), jobs: { test: jobs["test"]! } })
    const inRun = read(".ci/run").split("\n").filter((line) => /^(npm|\.ci\/)/.test(line))
    assert.deepStrictEqual(inTest.filter((command) => !command.startsWith("rm ")), inRun)
    assert.include(commandsOf(workflow("ci")), "npm run test:quick")
  })

  it("release what has passed, by changesets, without a stored token", () => {
    const { jobs, on } = workflow("release")
    assert.deepStrictEqual(on, { push: { branches: ["main"] } })
    assert.strictEqual(jobs["ci"]!.uses, "./.github/workflows/ci.yml")
    const { needs, permissions } = jobs["release"]!
    assert.strictEqual(needs, "ci")
    assert.deepStrictEqual(permissions, { contents: "write", "pull-requests": "write", "id-token": "write" })
    const changesets = stepsOf(workflow("release")).find(({ uses }) => uses?.startsWith("changesets/action@"))
    // Version 2 of the action is for version 3 of the program
    assert.match(changesets!.uses!, /@v2\./)
    assert.match(readJson("package.json").devDependencies["@changesets/cli"], /^3\./)
    assert.strictEqual(changesets!.with!["version-script"], "npm run release:version")
    assert.strictEqual(changesets!.with!["publish-script"], "npm run release:publish")
    assert.notMatch(read(".github/workflows/release.yml"), /secrets\./)
  })
})

it("dependencies are updated wherever there are some", () => {
  const { updates } = parse(read(".github/dependabot.yml"), { strict: true }) as {
    readonly updates: ReadonlyArray<{ readonly "package-ecosystem": string; readonly directory: string }>
  }
  const places = updates.map((update) => [update["package-ecosystem"], update.directory])
  assert.sameDeepMembers(places, [["npm", "/"], ["npm", "/test/runtimes"], ["github-actions", "/"]])
  for (const [, directory] of places) assert.isTrue(existsSync(join(root, directory!)))
})

describe("templates", () => {
  for (const file of globSync(".github/ISSUE_TEMPLATE/*.yml", { cwd: root }).sort()) {
    it(file, () => {
      const template = parse(read(file), { strict: true })
      if (file.endsWith("config.yml")) return assert.isFalse(template.blank_issues_enabled)
      assert.isNotEmpty(template.name)
      assert.isNotEmpty(template.description)
      const ids = template.body.map(({ id }: { readonly id: string }) => id)
      assert.strictEqual(new Set(ids).size, ids.length)
      for (const { attributes, type } of template.body) {
        assert.include(["textarea", "input", "dropdown"], type)
        assert.isNotEmpty(attributes.label)
        if (type === "dropdown") assert.sameMembers(attributes.options, libraries.map(({ json }) => json.name))
      }
    })
  }

  it("name scripts that exist, those of pull requests and CONTRIBUTING too", () => {
    for (const file of [".github/pull_request_template.md", "CONTRIBUTING.md", ".changeset/README.md", "README.md"]) {
      const own = packages.flatMap(({ folder }) =>
        Object.keys(readJson(`packages/${folder}/package.json`).scripts ?? {})
      )
      for (const [, script] of read(file).matchAll(/npm run ([\w:-]+)/g)) {
        assert.include([...Object.keys(scripts), ...own], script, file)
      }
    }
  })
})

it("every path has an owner", () => {
  assert.match(read(".github/CODEOWNERS"), /^\* @event-flow\/\w+$/m)
})

it("editors are told about the compiler, the formatter and the tests", () => {
  const json = (file: string) => JSON.parse(read(file).replaceAll(/^\s*\/\/.*$/gm, ""))
  const settings = json(".vscode/settings.json")
  assert.isTrue(existsSync(join(root, settings["js/ts.tsdk.path"])))
  const { recommendations } = json(".vscode/extensions.json")
  assert.includeMembers(recommendations, [
    settings["[typescript][javascript]"]["editor.defaultFormatter"],
    "vitest.explorer"
  ])
})
