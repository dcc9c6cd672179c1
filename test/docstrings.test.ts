/** Every module and every export of a package has a docstring that begins with a sentence of its own. */
import { assert, it } from "@effect/vitest"
import { declarationsOf, headerOf, modulesIn } from "./declarations.ts"
import { libraries } from "./support.ts"

const modules = libraries.flatMap(({ folder }) => modulesIn(folder))

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
  assert.isNotEmpty(modules)
  assert.deepStrictEqual(modules.filter(({ source }) => !hasSentence(headerOf(source))).map(({ file }) => file), [])
})
