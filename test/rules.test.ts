/** `docs/rules.md` against the code: who cites a rule, and which tests hold it. */
import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import { root } from "./support.ts"

/** Rules of work that is under way, whose tests are not written yet. Keep it short, and empty at a release. */
const pending: ReadonlyArray<string> = []

const read = (file: string) => readFileSync(join(root, file), "utf8")
const find = (...patterns: ReadonlyArray<string>) =>
  globSync(patterns, { cwd: root, exclude: ["**/node_modules/**", "**/dist/**"] }).sort()
const citedIn = (text: string): ReadonlyArray<string> => Array.from(text.matchAll(/\bF\d+\b/g), ([rule]) => rule)

/** Names of the tests and groups of a file, with `…` for what is filled in. */
const titlesOf = (file: string): ReadonlyArray<string> =>
  Array.from(
    read(file).matchAll(/\b(?:describe|it)(?:\.\w+)*(?:\([^()]*\))?\(\s*(?:"((?:\\.|[^"\\])*)"|`((?:\\.|[^`\\])*)`)/g),
    ([, plain, template]) => plain ?? template!.replaceAll(/\$\{[^}]*\}/g, "…")
  )

interface Rule {
  readonly name: string
  readonly isPending: boolean
  /** The tests that the document names. */
  readonly tests: ReadonlyArray<{ readonly file: string; readonly title: string }>
}

const document = "docs/rules.md"
const rules: ReadonlyArray<Rule> = read(document).split(/^## /m).slice(1).map((section) => ({
  name: section.slice(0, section.indexOf("\n")),
  isPending: section.includes("\nTests to come.\n"),
  tests: Array.from(section.matchAll(/^- \[[^\]]+\]\(([^)]+)\): "([^"]+)"$/gm), ([, file, title]) => ({
    file: normalize(join(dirname(document), file!)),
    title: title!.replaceAll(/\s+/g, " ")
  }))
}))

const tests = find("packages/*/test/**/*.test.ts")
const cited = new Set(tests.flatMap(titlesOf).flatMap(citedIn))

it("every rule that is cited is a rule", () => {
  const known = rules.map(({ name }) => name)
  for (
    const file of find(
      "*.md",
      "docs/**/*.md",
      "benchmarks/*.md",
      "packages/*/*.md",
      "packages/*/{src,test,typetest}/**/*.ts"
    )
  ) {
    for (const rule of citedIn(read(file))) assert.include(known, rule, file)
  }
})

it("rules are numbered without a gap", () => {
  assert.deepStrictEqual(rules.map(({ name }) => name), rules.map((_, i) => `F${i + 1}`))
})

it("the rules without tests are those on the list of pending ones", () => {
  assert.deepStrictEqual(rules.filter(({ isPending }) => isPending).map(({ name }) => name), pending)
  for (const rule of pending) {
    assert.isFalse(cited.has(rule), `${rule} has tests now: name them in ${document} and take it off the list`)
  }
})

describe("a rule has tests that cite it", () => {
  for (const { name, tests } of rules.filter(({ isPending }) => !isPending)) {
    it(name, () => {
      assert.isTrue(cited.has(name), `no test is named after ${name}`)
      assert.isNotEmpty(tests, `${document} names no test`)
      for (const { file, title } of tests) {
        assert.include(citedIn(title), name, title)
        assert.include(titlesOf(file), title, file)
      }
    })
  }
})
