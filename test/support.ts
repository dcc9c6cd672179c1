import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { delimiter, join, resolve } from "node:path"

/** The root of the repository. */
export const root = resolve(import.meta.dirname, "..")

export interface Output {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program of the toolchain (`node_modules/.bin` comes first) and never rejects. */
export const run = (command: string, args: ReadonlyArray<string>, cwd: string = root): Promise<Output> =>
  new Promise((done) => {
    const path = join(root, "node_modules", ".bin") + delimiter + process.env["PATH"]
    const env = { ...process.env, PATH: path, NO_COLOR: "1", FORCE_COLOR: undefined, NODE_OPTIONS: undefined }
    execFile(command, args, { cwd, env, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1
      done({ code, stdout, stderr: error !== null && stderr === "" ? error.message : stderr })
    })
  })

/** Like `run`, for a program that has to succeed. */
export const runOk = async (command: string, args: ReadonlyArray<string>, cwd: string = root): Promise<string> => {
  const { code, stdout, stderr } = await run(command, args, cwd)
  if (code !== 0) {
    throw new Error(`${command} ${args.join(" ")} ended with ${code} in ${cwd}\n${stdout}\n${stderr}`)
  }
  return stdout
}

export interface Package {
  /** The folder below `packages`. */
  readonly folder: string
  readonly json: {
    readonly name: string
    readonly version: string
    readonly description?: string
    readonly private?: boolean
    readonly engines?: { readonly node: string }
    readonly dependencies?: Record<string, string>
    readonly bin?: Record<string, string>
    readonly peerDependencies?: Record<string, string>
  }
}

export const readJson = (path: string): any => JSON.parse(readFileSync(join(root, path), "utf8"))

export const packages: ReadonlyArray<Package> = readdirSync(join(root, "packages"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => ({ folder: entry.name, json: readJson(`packages/${entry.name}/package.json`) }))

/** The packages that are published. */
export const libraries = packages.filter(({ json }) => json.private !== true)
