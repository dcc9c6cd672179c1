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

const samplesOf = (file: string): ReadonlyArray<Sample> => {
  const text = readFileSync(join(root, file), "utf8")
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

/** Every ```` ```ts ```` fence of the documentation. */
export const samples: ReadonlyArray<Sample> = globSync(["README.md", "docs/**/*.md", "packages/*/README.md"], {
  cwd: root
}).sort().flatMap(samplesOf)
