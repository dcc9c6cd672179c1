import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"

const require = createRequire(import.meta.url)

/** `name@version` of an installed package, also where its `exports` hide package.json. */
export const versionOf = (name: string): string => {
  for (const folder of require.resolve.paths(name) ?? []) {
    try {
      const text = readFileSync(join(folder, name, "package.json"), "utf8")
      const { version } = JSON.parse(text) as { readonly version: string }
      return `${name}@${version}`
    } catch {
      // Not in this node_modules: look further up.
    }
  }
  throw new Error(`${name} is not installed (looked up from ${dirname(import.meta.filename)})`)
}
