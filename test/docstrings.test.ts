/** Every module and every export of a package has a docstring that begins with a sentence of its own. */
import { assert, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { libraries, root } from "./support.ts"

/** Public modules: neither internal files nor barrels. A file that exports nothing is a program. */
const modules = libraries.flatMap(({ folder }) =>
  globSync(`packages/${folder}/src/**/*.ts`, {
    cwd: root,
    exclude: ["**/internal/**", "**/testing/brokerSuite/**", "**/testing/recorder.ts", "**/index.ts"]
  })
).map((file) => ({ file, source: readFileSync(join(root, file), "utf8") })).filter(({ source }) =>
  /^export /m.test(source)
)

interface Declaration {
  readonly name: string
  /** The text of its docstring, empty without one. */
  readonly docstring: string
}

/** The text of the docstring that ends a piece of source; comments for readers of the code may come between. */
const docstringAt = (source: string): string =>
  (/\/\*\*((?:(?!\*\/)[^])*)\*\/\s*(?:\/\/.*\s*)*$/.exec(source)?.[1] ?? "").replaceAll(/^ *\* ?/gm, "").trim()

const declarationsOf = (source: string): ReadonlyArray<Declaration> =>
  Array.from(
    // An internal type that is exported again under a public name has its docstring there
    source.matchAll(/^export (?:declare |abstract )*(?:const|class|function|interface|type|namespace) (?:\{ )?(\w+)/gm),
    ({ 1: name, index }) => ({ name: name!, docstring: docstringAt(source.slice(0, index)) })
  )

/** Words before the first heading, example, list or tag, as a whole sentence. */
const hasSentence = (docstring: string): boolean => {
  const [paragraph = ""] = docstring.split(/\n\s*\n|\n(?=@|- )|^(?=@)/)
  return /^(?!\*\*|- |@|```)[A-Z`"<][^]*[.:]$/.test(paragraph.trim())
}

const missing = modules.flatMap(({ file, source }) =>
  declarationsOf(source).filter(({ docstring }) => !hasSentence(docstring)).map(({ name }) => `${file}: ${name}`)
)

it("an export says what it is, in a sentence", () => {
  assert.deepStrictEqual(missing, [])
})

it("an export has its stability, its category and its version", () => {
  const untagged = modules.flatMap(({ file, source }) =>
    declarationsOf(source).filter(({ docstring }) =>
      !/^@stability \w+\n@category [a-z ]+\n@since \d+\.\d+\.\d+$/m.test(docstring)
    ).map(({ name }) => `${file}: ${name}`)
  )
  assert.deepStrictEqual(untagged, [])
})

it("a module says what it is, in a sentence", () => {
  const headerOf = (source: string) => docstringAt(/^\/\*\*[^]*?\*\//.exec(source)?.[0] ?? "")
  assert.isNotEmpty(modules)
  assert.deepStrictEqual(modules.filter(({ source }) => !hasSentence(headerOf(source))).map(({ file }) => file), [])
})
