/**
 * The tables of settings in READMEs say what the code says: names, variables and defaults come from `Settings.rows`, what
 * a setting means from its docstring. `UPDATE=1` writes them anew.
 *
 * A table stands between `<!-- settings: name -->` and `<!-- end -->`.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Settings } from "@event-flow/core"
import { KafkaConfig } from "@event-flow/kafka-layer"
import { RabbitConfig } from "@event-flow/rabbitmq-layer"
import { Inbox, Outbox, OutboxRelay } from "@event-flow/sql-layer"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./support.ts"

interface Table {
  readonly readme: string
  /** The name in the marker. */
  readonly name: string
  readonly rows: ReadonlyArray<Settings.Row>
  /** The file of the fields, and the constants that hold them; those of a group by its name. */
  readonly source: string
  readonly fields: string
  readonly groups?: Readonly<Record<string, string>>
}

const without = (rows: ReadonlyArray<Settings.Row>, others: ReadonlyArray<Settings.Row>) =>
  rows.filter(({ field }) => !others.some((other) => other.field === field))

const kafka = { readme: "packages/kafka-layer/README.md", source: "packages/kafka-layer/src/KafkaConfig.ts" }
const rabbit = { readme: "packages/rabbitmq-layer/README.md", source: "packages/rabbitmq-layer/src/RabbitConfig.ts" }

const tables: ReadonlyArray<Table> = [
  {
    ...kafka,
    name: "connection",
    rows: KafkaConfig.connection.rows,
    fields: "connectionFields",
    groups: { tls: "tlsFields", sasl: "saslFields" }
  },
  {
    ...kafka,
    name: "publishing",
    rows: without(KafkaConfig.publisher.rows, KafkaConfig.connection.rows),
    fields: "publishingFields"
  },
  {
    ...kafka,
    name: "consuming",
    rows: without(KafkaConfig.consumer.rows, KafkaConfig.connection.rows),
    fields: "consumingFields"
  },
  {
    ...rabbit,
    name: "connection",
    rows: RabbitConfig.connection.rows,
    fields: "connectionFields",
    groups: { tls: "tlsFields" }
  },
  {
    ...rabbit,
    name: "publishing",
    rows: without(RabbitConfig.publisher.rows, RabbitConfig.connection.rows),
    fields: "publishingFields"
  },
  {
    ...rabbit,
    name: "queues",
    rows: without(RabbitConfig.topology.rows, RabbitConfig.connection.rows),
    fields: "queueFields"
  },
  {
    ...rabbit,
    name: "consuming",
    rows: without(RabbitConfig.consumer.rows, RabbitConfig.topology.rows),
    fields: "consumingFields"
  },
  ...([["relay", OutboxRelay, "OutboxRelay"], ["outbox", Outbox, "Outbox"], ["inbox", Inbox, "Inbox"]] as const).map(
    ([name, { settings }, module]): Table => ({
      readme: "packages/sql-layer/README.md",
      source: `packages/sql-layer/src/${module}.ts`,
      name,
      rows: settings.rows,
      fields: "fields"
    })
  )
]

const read = (file: string): string => readFileSync(join(root, file), "utf8")

/** The docstrings of the fields of `const name = { ... }`. */
const docstrings = (source: string, name: string): ReadonlyMap<string, string> => {
  const body = new RegExp(`^const ${name} = \\{\n(.*?)^\\}`, "ms").exec(source)?.[1] ?? ""
  const fields = body.matchAll(/^ {2}\/\*\*(?<doc>(?:(?!\*\/).)*)\*\/\n {2}(?<field>\w+):/gms)
  return new Map(Array.from(fields, ({ groups }) => [
    groups!["field"]!,
    groups!["doc"]!.replaceAll(/^\s*\* ?/gm, " ").replaceAll(/\s+/g, " ").trim()
  ]))
}

const docOf = ({ fields, groups = {}, source }: Table, { field }: Settings.Row): string => {
  const [first, second] = field.split(".")
  const name = second === undefined ? fields : groups[first!]
  return docstrings(read(source), name ?? fields).get(second ?? first!) ?? ""
}

/** As a docstring says it. */
const said = (value: unknown): string =>
  typeof value !== "string" || /^[\d.]+ \w+$|^Infinity$/.test(value) ? String(value) : JSON.stringify(value)

const lines = (table: Table): ReadonlyArray<string> => [
  "| Setting | Variable | Default | |",
  "|---|---|---|---|",
  ...table.rows.map((row) => {
    const [meaning, ending = ""] = docOf(table, row).split(/\s*Default: /)
    const group = row.field.split(".").slice(0, -1).join(".")
    const byDefault = !row.required ? ending.replace(/\.$/, "") : group === "" ? "required" : `required in \`${group}\``
    const cells = [`\`${row.field}\``, row.variable === undefined ? "" : `\`${row.variable}\``, byDefault, meaning!]
    return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  })
]

for (const table of tables) {
  describe(`${table.readme}, settings: ${table.name}`, () => {
    it("every setting has a docstring, which ends with its default", () => {
      for (const row of table.rows) {
        const doc = docOf(table, row)
        assert.isNotEmpty(doc, row.field)
        const ending = `Default: ${said(row.default)}.`
        assert.isTrue(row.default === undefined || doc.endsWith(ending), `${row.field}: ${doc} <> ${ending}`)
      }
    })

    it("the table is that of the code", () => {
      const readme = read(table.readme)
      const place = new RegExp(`(<!-- settings: ${table.name} -->\n).*?(<!-- end -->)`, "s")
      assert.match(readme, place)
      const wanted = readme.replace(place, (_, begin, end) => `${begin}\n${lines(table).join("\n")}\n\n${end}`)
      if (process.env["UPDATE"] === "1") writeFileSync(join(root, table.readme), wanted)
      else assert.strictEqual(readme, wanted)
    })
  })
}
