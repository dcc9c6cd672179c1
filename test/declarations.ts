/** What the source of a package declares, with its docstrings. */
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./support.ts"

export interface Module {
  readonly file: string
  readonly source: string
}

/** Public modules: neither internal files nor barrels. A file that exports nothing is a program. */
export const modulesIn = (folder: string): ReadonlyArray<Module> =>
  globSync(`packages/${folder}/src/**/*.ts`, {
    cwd: root,
    exclude: ["**/internal/**", "**/testing/brokerSuite/**", "**/testing/recorder.ts", "**/index.ts"]
  }).map((file) => ({ file, source: readFileSync(join(root, file), "utf8") })).filter(({ source }) =>
    /^export /m.test(source)
  )

export interface Declaration {
  readonly name: string
  /** `const`, `class`, `function`, `interface`, `type` or `namespace`. */
  readonly kind: string
  /** The text of its docstring, empty without one. */
  readonly docstring: string
}

/** The text of the docstring that ends a piece of source; comments for readers of the code may come between. */
const docstringAt = (source: string): string =>
  (/\/\*\*((?:(?!\*\/)[^])*)\*\/\s*(?:\/\/.*\s*)*$/.exec(source)?.[1] ?? "").replaceAll(/^ *\* ?/gm, "").trim()

export const declarationsOf = (source: string): ReadonlyArray<Declaration> =>
  Array.from(
    // An internal type that is exported again under a public name has its docstring there
    source.matchAll(/^export (?:declare |abstract )*(const|class|function|interface|type|namespace) (?:\{ )?(\w+)/gm),
    ({ 1: kind, 2: name, index }) => ({ name: name!, kind: kind!, docstring: docstringAt(source.slice(0, index)) })
  )

/** What a module says of itself at its top. */
export const headerOf = (source: string): string => docstringAt(/^\/\*\*[^]*?\*\//.exec(source)?.[0] ?? "")
