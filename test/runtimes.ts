/** The programs that run samples of the packed packages, beside the Node of the repository: `npm run runtimes` installs them. */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { root } from "./support.ts"

export interface Runtime {
  readonly name: string
  /** Runs a module that comes as the last argument. */
  readonly command: string
  readonly args: ReadonlyArray<string>
  /** The major version of a Node. */
  readonly node?: number
}

const installed = (...path: ReadonlyArray<string>) => join(root, "test", "runtimes", "node_modules", ...path)

export const runtimes: ReadonlyArray<Runtime> = [
  { name: "Node 20", node: 20, command: installed("node20", "bin", "node"), args: [] },
  { name: "Node 22", node: 22, command: installed("node22", "bin", "node"), args: [] },
  { name: "Bun", command: installed(".bin", "bun"), args: ["run"] },
  { name: "Deno", command: installed(".bin", "deno"), args: ["run", "--allow-all"] }
]

/** Why nothing can run on it; undefined where it can. */
export const missing = ({ command, name }: Runtime): string | undefined =>
  existsSync(command) ? undefined : `${name} is not installed: npm run runtimes`
