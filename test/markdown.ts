import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./support.ts"

export interface Sample {
  readonly file: string
  readonly line: number
  /** The words after `ts` in the fence, for example `quick-start`. */
  readonly tags: ReadonlyArray<string>
  readonly code: string
  /** The content of the fence ```` ```text output ```` that follows, if there is one. */
  readonly output: string | undefined
}

const fence = /^```(?<info>[^\n`]*)\n(?<body>.*?)^```$/gms

/** The text of the docstrings of a source file, each line where it was. A comment within one ends with an escape. */
const docstringsOf = (source: string): string =>
  source.split("\n").map((line) => (/^ *\* ?(.*)$/.exec(line)?.[1] ?? "").replaceAll("*\\/", "*/")).join("\n")

const samplesOf = (file: string): ReadonlyArray<Sample> => {
  const content = readFileSync(join(root, file), "utf8")
  const text = file.endsWith(".ts") ? docstringsOf(content) : content
  const fences = Array.from(text.matchAll(fence), (match) => ({
    line: text.slice(0, match.index).split("\n").length,
    info: match.groups!["info"]!.trim().split(/\s+/),
    body: match.groups!["body"]!
  }))
  return fences.flatMap(({ line, info: [language, ...tags], body }, i) => {
    if (language !== "ts") return []
    const next = fences[i + 1]
    return [{ file, line, tags, code: body, output: next?.info.join(" ") === "text output" ? next.body : undefined }]
  })
}

const samplesIn = (...patterns: ReadonlyArray<string>): ReadonlyArray<Sample> =>
  globSync(patterns, { cwd: root }).sort().flatMap(samplesOf)

/** Every ```` ```ts ```` fence of the documentation, and of the docstrings of the packages. */
export const samples: ReadonlyArray<Sample> = [
  ...samplesIn("README.md", "docs/**/*.md", "packages/*/README.md"),
  ...samplesIn("packages/*/src/**/*.ts")
]
