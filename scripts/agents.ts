/**
 * Writes the AGENTS.md of each package: what a coding agent, or anybody in a hurry, has to know of it on one page. `npm run
 * agents`; a test fails where one is out of date.
 *
 * It is made of the first sample of the package's README, of the docstrings of its modules, and of `agents/mistakes.ts`,
 * which the tests compile: what is wrong there has to be refused by the compiler where it says so.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { declarationsOf, headerOf, modulesIn } from "../test/declarations.ts"
import { samples } from "../test/markdown.ts"
import { libraries, type Package, root } from "../test/support.ts"

const read = (file: string): string => readFileSync(join(root, file), "utf8")

/** The first paragraph of a docstring on one line. */
const sentenceOf = (docstring: string): string => docstring.split(/\n\s*\n/)[0]!.replaceAll(/\s+/g, " ").trim()

const apiOf = (folder: string): ReadonlyArray<string> => [
  "| module | what it is | what it has, types left out |",
  "|---|---|---|",
  ...modulesIn(folder).toSorted((a, b) => a.file.localeCompare(b.file, "en")).map(({ file, source }) => {
    const [, testing, name] = /src\/(testing\/)?(.*)\.ts$/.exec(file)!
    const values = declarationsOf(source).filter(({ docstring, kind }) =>
      kind !== "type" && kind !== "interface" && !docstring.includes("@category utility types")
    )
    const cells = [
      `\`${name}\`${testing === undefined ? "" : " (testing)"}`,
      sentenceOf(headerOf(source)),
      Array.from(new Set(values.map(({ name }) => `\`${name}\``))).join(", ")
    ]
    return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  })
]

interface Mistake {
  readonly title: string
  readonly why: string
  readonly wrong: string
  readonly right: string
}

const mistakePattern = new RegExp(
  [
    "^// # (?<title>[^\n]+)\n(?<why>(?:// [^\n]*\n)*?)",
    "// Wrong:\n\\{\n(?<wrong>.*?)^\\}\n",
    "// Instead:\n\\{\n(?<right>.*?)^\\}\n"
  ].join(""),
  "gms"
)

const uncommented = (text: string): string => text.replaceAll(/^\/\/ /gm, "").trim()

/** The content of a block, without its indentation. */
const unindented = (code: string): string => code.replaceAll(/^ {2}/gm, "").trim()

const mistakesOf = (source: string): ReadonlyArray<Mistake> =>
  Array.from(source.matchAll(mistakePattern), ({ groups }) => ({
    title: groups!["title"]!,
    why: uncommented(groups!["why"]!),
    wrong: unindented(groups!["wrong"]!).replaceAll("// @ts-expect-error ", "// Does not compile: "),
    right: unindented(groups!["right"]!)
  }))

const fence = (code: string): string => `\`\`\`ts\n${code.trim()}\n\`\`\``

const sourceOf = (folder: string): string => `packages/${folder}/agents/mistakes.ts`

/** The modules that hold mistakes, for the tests to compile. */
export const mistakesFiles: ReadonlyArray<string> = libraries.map(({ folder }) => sourceOf(folder))

/** The text of the AGENTS.md of a package. */
export const agentsOf = ({ folder, json }: Package): string => {
  const readme = read(`packages/${folder}/README.md`)
  const install = /^```sh\n(npm install [^\n]*)\n```/m.exec(readme)![1]
  const first = samples.find(({ file }) => file === `packages/${folder}/README.md`)!
  const module = new RegExp(`import \\{ (\\w+).* from "${json.name}"`).exec(first.code)![1]
  const source = read(sourceOf(folder))
  const defined = source.slice(0, source.indexOf("\n// # ")).replaceAll(
    /^\/\/ @effect-diagnostics.*\n|^\/\*\*[^]*?\*\/\n/gm,
    ""
  )
  const mistakes = mistakesOf(source)
  return [
    `# ${json.name} for coding agents`,
    `${json.description}. Generated from what the tests compile; the README beside this file has more, \`src/\` has everything ` +
    "with docstrings.",
    `\`\`\`sh\n${install}\n\`\`\``,
    "Write against the versions that are installed: Effect 4.1 differs from Effect 3 (`node_modules/effect/AGENTS.md`). Each module " +
    `is a namespace: \`import { ${module} } from "${json.name}"\`, or by itself \`"${json.name}/${module}"\`.`,
    "## A program",
    fence(first.code),
    "## The API",
    apiOf(folder).join("\n"),
    `## ${mistakes.length} mistakes, and what to write instead`,
    "All samples begin with:",
    fence(defined),
    ...mistakes.flatMap(({ right, title, why, wrong }, i) => [
      `### ${i + 1}. ${title}`,
      ...(why === "" ? [] : [why]),
      `Wrong:\n\n${fence(wrong)}`,
      `Instead:\n\n${fence(right)}`
    ])
  ].join("\n\n") + "\n"
}

export const agentsFile = (folder: string): string => join(root, "packages", folder, "AGENTS.md")

if (process.argv[1] === import.meta.filename) {
  for (const library of libraries) writeFileSync(agentsFile(library.folder), agentsOf(library))
}
