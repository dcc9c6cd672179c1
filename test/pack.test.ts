/** What a user of the published packages gets: compiled, run, on every platform that they support. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { transform } from "esbuild"
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join, normalize } from "node:path"
import { samples } from "./markdown.ts"
import { install, pack, type Tarballs } from "./packed.ts"
import { missing, runtimes } from "./runtimes.ts"
import { libraries, readJson, root, run, runOk } from "./support.ts"

const ofReadme = samples.filter(({ file, tags }) => file === "README.md" && !tags.includes("no-run"))
const quickStart = ofReadme.find(({ tags }) => tags.includes("quick-start"))

/** Imports the modules that it is given, and says which cannot be, and which should not be and can. */
const importing = `
const [open, closed] = JSON.parse(process.argv.at(-1))
const wrong = []
for (const module of open) await import(module).catch((error) => wrong.push(module + ": " + error))
for (const module of closed) {
  const code = await import(module).then(() => "it can be imported", (error) => error.code)
  if (code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") wrong.push(module + ": " + code)
}
console.log(JSON.stringify(wrong))
`

describe("the packed packages", () => {
  let tarballs: Tarballs = {}
  let project = ""

  beforeAll(async () => {
    assert.isDefined(quickStart, "README.md has no ```ts quick-start fence")
    tarballs = await pack()
    project = await install(tarballs)
    writeFileSync(join(project, "importing.js"), importing)
    writeFileSync(join(project, "main.ts"), quickStart.code)
    for (const { code, line } of ofReadme) {
      writeFileSync(join(project, `line-${line}.js`), (await transform(code, { loader: "ts" })).code)
    }
    return () => rmSync(project, { recursive: true, force: true })
  })

  /** The public modules of a package, and its hidden ones. */
  const modulesOf = ({ json: { bin = {}, name } }: (typeof libraries)[number]) => {
    const { files } = tarballs[name]!
    const hidden = ["index", ...Object.values(bin).map((file) => basename(file, ".js"))]
    const matching = (pattern: RegExp) => files.flatMap((file) => pattern.exec(file)?.[1] ?? [])
    return {
      open: [
        name,
        ...matching(/^dist\/([^/]+)\.js$/).filter((module) => !hidden.includes(module)).map((module) =>
          `${name}/${module}`
        ),
        ...(files.includes("dist/testing/index.js") ? [`${name}/testing`] : [])
      ],
      closed: matching(/^dist\/(internal\/.+)\.js$/).map((module) => `${name}/${module}`)
    }
  }

  it("compile the quick start in a strict project, declarations included", async () => {
    const { stdout } = await run("tsc", [], project)
    assert.strictEqual(stdout, "")
  })

  it("give the declarations of a program types with public names alone", async () => {
    const library = join(project, "library")
    mkdirSync(library)
    cpSync(join(root, "packages", "core", "typetest", "declarations.ts"), join(library, "declarations.ts"))
    writeFileSync(
      join(library, "tsconfig.json"),
      JSON.stringify({
        extends: "../tsconfig.json",
        compilerOptions: { noEmit: false, declaration: true, emitDeclarationOnly: true },
        include: ["*.ts"]
      })
    )
    await runOk("tsc", [], library)
    const declarations = readFileSync(join(library, "declarations.d.ts"), "utf8")
    assert.deepStrictEqual(declarations.split("\n").filter((line) => line.includes("/internal/")), [])
  })

  it("run the quick start", async () => {
    const output = await runOk("node", ["main.ts"], project)
    assert.isDefined(quickStart!.output, "the quick start has no ```text output fence")
    assert.strictEqual(output.trimEnd(), quickStart!.output!.trimEnd())
  })

  for (const runtime of runtimes) {
    const { args, command, name, node = Infinity } = runtime
    const reason = process.env["CI"] === "true" ? undefined : missing(runtime)

    describe.skipIf(reason !== undefined)(reason ?? `on ${name}`, () => {
      it("every package that supports it can be imported", async () => {
        assert.isUndefined(missing(runtime))
        const supported = libraries.filter(({ json }) => node >= Number(/^>=(\d+)/.exec(json.engines!.node)![1]))
        assert.isNotEmpty(supported)
        const modules = supported.flatMap((library) => modulesOf(library).open)
        const output = await runOk(command, [...args, "importing.js", JSON.stringify([modules, []])], project)
        assert.deepStrictEqual(JSON.parse(output), [])
      })

      it("the samples of the README run", async () => {
        for (const { line, output } of ofReadme) {
          const stdout = await runOk(command, [...args, `line-${line}.js`], project)
          if (output !== undefined) assert.strictEqual(stdout.trimEnd(), output.trimEnd(), `line ${line}`)
        }
      })
    })
  }

  for (const library of libraries) {
    const { json: { bin = {}, name } } = library

    describe(name, () => {
      it("exports its public modules and hides the internal ones", async () => {
        const { closed, open } = modulesOf(library)
        const output = await runOk("node", ["importing.js", JSON.stringify([open, closed])], project)
        assert.deepStrictEqual(JSON.parse(output), [])
      })

      for (const program of Object.keys(bin)) {
        it(`has the program ${program}, which runs`, async () => {
          const output = await runOk(join(project, "node_modules", ".bin", program), ["--version"], project)
          assert.include(output, readJson(`packages/${basename(name)}/package.json`).version)
        })
      }

      it("contains what a reader needs, and the sources that the source maps name", () => {
        const files = tarballs[name]!.files
        assert.includeMembers([...files], ["AGENTS.md", "LICENSE", "README.md"])
        assert.isFalse(files.some((file) => file.endsWith(".tsbuildinfo")))
        for (const map of files.filter((file) => file.endsWith(".map"))) {
          const { sources } = JSON.parse(readFileSync(join(project, "node_modules", name, map), "utf8"))
          for (const source of sources) assert.include(files, normalize(join(dirname(map), source)))
        }
      })

      it("satisfies publint", async () => {
        await runOk("publint", ["run", tarballs[name]!.path, "--strict"])
      })

      it("has types that resolve", async () => {
        await runOk("attw", [tarballs[name]!.path, "--profile", "esm-only"])
      })
    })
  }
})
