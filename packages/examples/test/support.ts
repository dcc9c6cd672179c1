import { spawn } from "node:child_process"
import { appendFileSync } from "node:fs"
import { findPackageJSON } from "node:module"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

export const fixture = (name: string) => join(root, "test/fixtures", name)

export const realFlights = join(dirname(findPackageJSON("vega-datasets", import.meta.url)!), "data/flights-20k.json")

const compileCache = new URL("../../../scripts/compileCache.mjs", import.meta.url).href

/** Starts an example as a stranger would, in a process of its own. All that it prints is added to the file `log`. */
export const start = (
  main: string,
  args: ReadonlyArray<string> = [],
  env: Record<string, string> = {},
  log?: string
) => {
  const options = ["--import", compileCache, "--conditions=@event-flow/source"]
  const child = spawn(process.execPath, [...options, join(root, "src", main), ...args], {
    // Vitest sets FORCE_COLOR for its own processes.
    env: { ...process.env, FORCE_COLOR: undefined, ...env },
    stdio: ["ignore", "pipe", "pipe"]
  })
  let stdout = ""
  let stderr = ""
  const waiting = new Set<() => void>()
  child.stdout.on("data", (data) => {
    stdout += data
    for (const look of waiting) look()
  })
  child.stderr.on("data", (data) => stderr += data)
  if (log !== undefined) {
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => appendFileSync(log, data))
  }
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve, reject) => {
    child.on("error", reject)
    child.on("close", (code) => resolve({ code, stdout, stderr }))
  })
  return {
    ended,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    /** The first match in what is printed, as soon as there is one. */
    printed: (pattern: RegExp) =>
      new Promise<RegExpExecArray>((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(stdout)
          if (match === null) return
          waiting.delete(look)
          resolve(match)
        }
        waiting.add(look)
        look()
        void ended.then(({ stderr, stdout }) => reject(new Error(`Ended before ${pattern}:\n${stdout}\n${stderr}`)))
      })
  }
}

export const run = (main: string, args?: ReadonlyArray<string>) => start(main, args).ended
