/** The packages as a user gets them: built from clean copies, packed, and installed in an empty project. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { libraries, readJson, root, runOk } from "./support.ts"

const stage = join(root, ".cache", "pack")

export interface Tarball {
  readonly path: string
  readonly files: ReadonlyArray<string>
}

export type Tarballs = Readonly<Record<string, Tarball>>

/** Builds in a copy, so that leftovers of older builds stay out. */
export const pack = async (): Promise<Tarballs> => {
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

const compilerOptions = {
  module: "nodenext",
  target: "es2023",
  strict: true,
  skipLibCheck: false,
  noEmit: true,
  types: []
}

/** An empty project with the tarballs installed; gives its folder. */
export const install = async (tarballs: Tarballs): Promise<string> => {
  const project = mkdtempSync(join(tmpdir(), "event-flow-pack-"))
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }))
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }))
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
