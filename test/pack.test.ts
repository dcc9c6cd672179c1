/** What a user of the published packages gets: built from clean copies, packed, installed, compiled, run. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, dirname, join, normalize } from "node:path"
import { samples } from "./markdown.ts"
import { libraries, readJson, root, run, runOk } from "./support.ts"

const stage = join(root, ".cache", "pack")
const quickStart = samples.find(({ file, tags }) => file === "README.md" && tags.includes("quick-start"))

interface Tarball {
  readonly path: string
  readonly files: ReadonlyArray<string>
}

/** Builds in a copy, so that leftovers of older builds stay out. */
const pack = async (): Promise<Record<string, Tarball>> => {
  rmSync(stage, { recursive: true, force: true })
  mkdirSync(join(stage, "node_modules", "@event-flow"), { recursive: true })
  cpSync(join(root, "tsconfig.base.json"), join(stage, "tsconfig.base.json"))
  for (const { folder } of libraries) {
    cpSync(join(root, "packages", folder), join(stage, "packages", folder), {
      recursive: true,
      filter: (source) => !["dist", "test", "typetest", "node_modules"].includes(basename(source))
    })
    symlinkSync(join(stage, "packages", folder), join(stage, "node_modules", "@event-flow", folder), "dir")
  }
  const tarballs: Record<string, Tarball> = {}
  for (const { folder, json } of libraries) {
    const cwd = join(stage, "packages", folder)
    await runOk("tsc", ["-b"], cwd)
    const [{ filename, files }] = JSON.parse(await runOk("npm", ["pack", "--json", "--ignore-scripts"], cwd))
    tarballs[json.name] = { path: join(cwd, filename), files: files.map((file: { path: string }) => file.path) }
  }
  return tarballs
}

/** An empty project with the tarballs installed. */
const install = async (tarballs: Record<string, Tarball>): Promise<string> => {
  const project = mkdtempSync(join(tmpdir(), "event-flow-pack-"))
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }))
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        module: "nodenext",
        target: "es2023",
        strict: true,
        skipLibCheck: false,
        noEmit: true,
        types: []
      },
      include: ["*.ts"]
    })
  )
  writeFileSync(join(project, "main.ts"), quickStart!.code)
  const { devDependencies } = readJson("package.json")
  await runOk("npm", [
    "install",
    "--prefer-offline",
    "--no-audit",
    "--no-fund",
    ...Object.values(tarballs).map(({ path }) => path),
    `effect@${devDependencies.effect}`,
    // An optional peer, which a program of a package needs
    `@effect/platform-node@${devDependencies["@effect/platform-node"]}`
  ], project)
  return project
}

describe("the packed packages", () => {
  let tarballs: Record<string, Tarball> = {}
  let project = ""

  beforeAll(async () => {
    assert.isDefined(quickStart, "README.md has no ```ts quick-start fence")
    tarballs = await pack()
    project = await install(tarballs)
    return () => rmSync(project, { recursive: true, force: true })
  })

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

  for (const { json: { bin = {}, name } } of libraries) {
    describe(name, () => {
      const programs = Object.entries(bin)

      it("exports its public modules and hides the internal ones", async () => {
        const built = tarballs[name]!.files.filter((file) => /^dist\/[^/]+\.js$/.test(file))
        const hidden = ["index", ...programs.map(([, file]) => basename(file, ".js"))]
        const modules = built.map((file) => basename(file, ".js")).filter((module) => !hidden.includes(module))
        for (const module of ["", ...modules.map((module) => `/${module}`)]) {
          await runOk("node", ["-e", `await import("${name}${module}")`], project)
        }
        for (const file of tarballs[name]!.files.filter((file) => /^dist\/internal\/.+\.js$/.test(file))) {
          const { stderr } = await run(
            "node",
            ["-e", `await import("${name}/internal/${basename(file, ".js")}")`],
            project
          )
          assert.include(stderr, "ERR_PACKAGE_PATH_NOT_EXPORTED")
        }
      })

      it.skipIf(programs.length === 0)("has programs that run", async () => {
        for (const [program] of programs) {
          const output = await runOk(join(project, "node_modules", ".bin", program), ["--version"], project)
          assert.include(output, readJson(`packages/${basename(name)}/package.json`).version)
        }
      })

      it("contains its licence, and the sources that the source maps name", () => {
        const files = tarballs[name]!.files
        assert.include(files, "LICENSE")
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
