/** Links of the documentation to the repository lead to a file, and to a heading of it. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { libraries, readJson, root } from "./support.ts"

const read = (file: string) => readFileSync(join(root, file), "utf8")
const withoutFences = (text: string) => text.replaceAll(/^```.*?^```$/gms, "")

/** Anchors of a file's headings, made as GitHub makes them. */
const anchorsOf = (file: string): ReadonlyArray<string> =>
  Array.from(
    withoutFences(read(file)).matchAll(/^#+ (.+)$/gm),
    ([, heading]) => heading!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  )

const documents = globSync(["*.md", ".github/**/*.md", "docs/**/*.md", "benchmarks/*.md", "packages/*/*.md"], {
  cwd: root
}).sort()

const linksOf = (document: string): ReadonlyArray<string> =>
  Array.from(withoutFences(read(document)).matchAll(/\]\(([^)\s]+)\)/g), ([, target]) => target!)

/** A file of the repository, as an address at its host; `tree` is a folder. */
const inRepository = new RegExp(`^${readJson("package.json").homepage.replace("#readme", "")}/(?:blob|tree)/main/(.+)$`)

describe("links lead somewhere", () => {
  for (const document of documents) {
    it(document, () => {
      for (const target of linksOf(document)) {
        const absolute = inRepository.exec(target)?.[1]
        if (absolute === undefined && /^[a-z]+:/.test(target)) continue
        const [path, anchor] = (absolute ?? target).split("#")
        const file = absolute !== undefined ? path! : path === "" ? document : join(dirname(document), path!)
        assert.isTrue(existsSync(join(root, file)), target)
        if (anchor !== undefined) assert.include(anchorsOf(file), anchor, target)
      }
    })
  }
})

describe("what is published links to addresses, since its files are not beside it", () => {
  for (const { folder } of libraries) {
    for (const document of [`packages/${folder}/README.md`, `packages/${folder}/AGENTS.md`]) {
      it(document, () => {
        assert.isEmpty(linksOf(document).filter((target) => !/^(#|[a-z]+:)/.test(target)))
      })
    }
  }
})

it("docs/README.md lists every page of docs/", () => {
  const index = read("docs/README.md")
  for (const page of globSync("**/*.md", { cwd: join(root, "docs") })) {
    if (page !== "README.md") assert.include(index, `](${page})`)
  }
})
