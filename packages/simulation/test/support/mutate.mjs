/**
 * Loads a module with a change: `MUTANT` has the end of its path, a text of it and the text in its place. For tests that
 * break the code to see that something notices.
 */
import { registerHooks } from "node:module"

const mutant = JSON.parse(process.env.MUTANT ?? "null")

if (mutant !== null) {
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context)
      if (!url.endsWith(mutant.file)) return loaded
      const source = String(loaded.source)
      if (!source.includes(mutant.text)) throw new Error(`${mutant.file} has no ${JSON.stringify(mutant.text)}`)
      return { ...loaded, source: source.replace(mutant.text, () => mutant.change) }
    }
  })
}
