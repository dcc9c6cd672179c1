// Gives the repository the version of its packages, after `changeset version` has changed theirs.
import { readFileSync, writeFileSync } from "node:fs"
const read = (path) => readFileSync(path, "utf8")
const { version } = JSON.parse(read("packages/core/package.json"))
const root = read("package.json")
const next = root.replace(/^( {2}"version": )"[^"]*"/m, `$1"${version}"`).replaceAll(
  /("@event-flow\/[\w-]+": )"[^"]*"/g,
  `$1"${version}"`
)
writeFileSync("package.json", next)
console.log(`version ${version}`)
