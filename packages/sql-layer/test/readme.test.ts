import { assert, it } from "@effect/vitest"
import { Migrations } from "@event-flow/sql-layer"
import { readFileSync } from "node:fs"

it("the SQL of the README is that of the migrations", () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8")
  const sql = /^```sql migrations\n(.*?)^```$/ms.exec(readme)?.[1]
  const expected = Migrations.statements().flatMap(({ name, statements }) => [
    `-- ${name}`,
    ...statements.map((statement) => `${statement};`)
  ])
  assert.strictEqual(sql, `${expected.join("\n")}\n`)
})
