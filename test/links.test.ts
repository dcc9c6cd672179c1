/** Relative links of the documentation lead to a file, and to a heading of it. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { root } from "./support.ts"

const read = (file: string) => readFileSync(join(root, file), "utf8")
const withoutFences = (text: string) => text.replaceAll(/^```.*?^```$/gms, "")

/** Anchors of a file's headings, made as GitHub makes them. */
const anchorsOf = (file: string): ReadonlyArray<string> =>
  Array.from(
    withoutFences(read(file)).matchAll(/^#+ (.+)$/gm),
    ([, heading]) => heading!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  )

const documents = globSync(["*.md", "docs/**/*.md", "benchmarks/*.md", "packages/*/*.md"], { cwd: root }).sort()

describe("links lead somewhere", () => {
  for (const document of documents) {
    it(document, () => {
      for (const [, target] of withoutFences(read(document)).matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target!)) continue
        const [path, anchor] = target!.split("#")
        const file = path === "" ? document : join(dirname(document), path!)
        assert.isTrue(existsSync(join(root, file)), target)
        if (anchor !== undefined) assert.include(anchorsOf(file), anchor, target)
      }
    })
  }
})

it("docs/README.md lists every page of docs/", () => {
  const index = read("docs/README.md")
  for (const page of globSync("**/*.md", { cwd: join(root, "docs") })) {
    if (page !== "README.md") assert.include(index, `](${page})`)
  }
})
