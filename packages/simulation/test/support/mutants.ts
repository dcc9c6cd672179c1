/** Programs with one change in the code: which of them notices that it is wrong. */
import { execFile } from "node:child_process"
import { join } from "node:path"

export interface Mutant {
  readonly name: string
  /** The end of the path of a source. */
  readonly file: string
  readonly text: string
  readonly change: string
}

export interface Outcome {
  readonly code: number
  readonly output: string
}

const mutate = join(import.meta.dirname, "mutate.mjs")

/** Runs a program of this folder's parent, with the change if there is one. */
export const runWith = (
  program: string,
  mutant: Mutant | undefined,
  args: ReadonlyArray<string> = []
): Promise<Outcome> =>
  new Promise((done) => {
    const env = { ...process.env, NODE_OPTIONS: undefined, MUTANT: mutant === undefined ? "" : JSON.stringify(mutant) }
    const nodeArgs = ["--import", mutate, "--conditions=@event-flow/source", join(import.meta.dirname, "..", program)]
    execFile(
      "node",
      [...nodeArgs, ...args],
      { env: { ...env, MUTANT: env.MUTANT || "null" } },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1
        done({ code, output: `${stdout}\n${stderr}` })
      }
    )
  })
