/** The migrations of the tables, for PostgreSQL. One that was released is never changed: add another. */
import type { Names } from "../Tables.ts"
import { slots } from "./slot.ts"

export interface Migration {
  readonly name: string
  readonly statements: ReadonlyArray<string>
}

export const statements = (tables: Names): ReadonlyArray<Migration> => {
  const outbox = quoted(tables.outbox)
  const inbox = quoted(tables.inbox)
  const index = (table: string, suffix: string): string =>
    quoted(`${table.slice(table.lastIndexOf(".") + 1)}_${suffix}`)
  return [{
    name: "0001_event_flow",
    statements: [
      // Rows come and go: what is dead has to leave the table before it slows down the search
      `CREATE TABLE ${outbox} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  slot smallint NOT NULL CHECK (slot BETWEEN 0 AND ${slots - 1}),
  topic text NOT NULL,
  key text,
  key_bytes bytea,
  attributes json NOT NULL,
  headers json,
  body bytea,
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'published', 'dead')),
  attempts integer NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  next_attempt_at timestamptz,
  published_at timestamptz,
  last_error text
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)`,
      `CREATE INDEX ${index(tables.outbox, "pending")} ON ${outbox} (slot, id) WHERE state = 'pending'`,
      // The key hashed: an index takes none of more than some thousand bytes
      `CREATE INDEX ${
        index(tables.outbox, "failing")
      } ON ${outbox} (topic, hashtext(key), id) WHERE attempts > 0 AND state <> 'published'`,
      `CREATE INDEX ${index(tables.outbox, "published")} ON ${outbox} (published_at) WHERE state = 'published'`,
      `CREATE TABLE ${inbox} (
  consumer text NOT NULL,
  message_id text NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, message_id)
)`,
      `CREATE INDEX ${index(tables.inbox, "handled_at")} ON ${inbox} (handled_at)`
    ]
  }, {
    name: "0002_waiting_rows",
    statements: [
      `DROP INDEX ${schema(tables.outbox)}${index(tables.outbox, "pending")}`,
      `DROP INDEX ${schema(tables.outbox)}${index(tables.outbox, "failing")}`,
      // Of rows that wait (for their time, or at infinity for an earlier one of their key) it has none
      `CREATE INDEX ${
        index(tables.outbox, "fresh")
      } ON ${outbox} (slot, id) WHERE state = 'pending' AND next_attempt_at IS NULL`,
      `CREATE INDEX ${
        index(tables.outbox, "due")
      } ON ${outbox} (slot, next_attempt_at, id) WHERE state = 'pending' AND next_attempt_at IS NOT NULL`,
      // The key hashed: an index takes none of more than some thousand bytes
      `CREATE INDEX ${
        index(tables.outbox, "waiting")
      } ON ${outbox} (topic, hashtextextended(key, 0), id) WHERE state = 'pending' AND next_attempt_at IS NOT NULL`,
      `CREATE INDEX ${
        index(tables.outbox, "dead")
      } ON ${outbox} (topic, hashtextextended(key, 0), id) WHERE state = 'dead'`
    ]
  }]
}

/** With its point, where the table's name has one. */
const schema = (table: string): string => {
  const point = table.lastIndexOf(".")
  return point < 0 ? "" : `${quoted(table.slice(0, point))}.`
}

const quoted = (name: string): string => `"${name.replaceAll("\"", "\"\"").replaceAll(".", "\".\"")}"`
