/** The AGENTS.md of each package says what the package has today. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { agentsFile, agentsOf } from "../scripts/agents.ts"
import { libraries } from "./support.ts"

for (const library of libraries) {
  describe(`packages/${library.folder}/AGENTS.md`, () => {
    it("is up to date: npm run agents", () => {
      assert.strictEqual(readFileSync(agentsFile(library.folder), "utf8"), agentsOf(library))
    })

    it("has the whole API, and ten mistakes", () => {
      const text = agentsOf(library)
      assert.lengthOf(text.match(/^### \d+\. /gm) ?? [], 10)
      assert.lengthOf(text.match(/^Wrong:$/gm) ?? [], 10)
      assert.lengthOf(text.match(/^Instead:$/gm) ?? [], 10)
    })
  })
}
