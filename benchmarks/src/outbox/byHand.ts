/**
 * An outbox by hand, as well as it can be for the same guarantees on the same
 * driver: relays claim slots, rows of a table, by `FOR UPDATE SKIP LOCKED`, read
 * the slots' oldest rows in the next statement, publish them and delete them, in
 * one transaction. A row that fails waits, the later ones of its key behind it, and is dead in the end.
 */
import { Migrations } from "@event-flow/sql-layer"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { makeAccounts } from "./account.ts"
import type { Task, Work } from "./work.ts"
import { accounts, begun, clientLayer, commandsPerSecond, Counter, main, topic, work } from "./work.ts"

const slots = 64
const slotsPerBatch = 8
const batchSize = 500
const maxAttempts = 10

const slotOf = (key: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  return (hash ^ (hash >>> 15)) & (slots - 1)
}

const tables = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE slot (slot int PRIMARY KEY) WITH (fillfactor = 10)`
  yield* sql`INSERT INTO slot SELECT generate_series(0, ${slots - 1}::int)`
  yield* sql`CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot int NOT NULL,
    topic text NOT NULL,
    key text NOT NULL,
    attributes text NOT NULL,
    body bytea NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz,
    is_dead bool NOT NULL DEFAULT false,
    last_error text
  )`
  yield* sql`CREATE INDEX outbox_waiting ON outbox (slot, id) WHERE NOT is_dead`
  yield* sql`CREATE INDEX outbox_failing ON outbox (topic, key, id) WHERE attempts > 0 AND NOT is_dead`
  yield* makeAccounts
})

const fill = (task: Extract<Task, { readonly role: "fill" }>) =>
  Effect.gen(function*() {
    yield* tables
    const sql = yield* SqlClient.SqlClient
    for (let i = 0; i < task.rows; i += 500) {
      const rows = Array.from({ length: Math.min(500, task.rows - i) }, (_, at) => work(i + at))
      yield* sql`
        INSERT INTO outbox (slot, topic, key, attributes, body)
        SELECT r.slot, r.topic, r.key, r.attributes, r.body FROM unnest(
          ${rows.map(({ key }) => slotOf(key))}::int[], ${rows.map(({ topic }) => topic)}::text[],
          ${rows.map(({ key }) => key)}::text[], ${rows.map(({ attributes }) => JSON.stringify(attributes))}::text[],
          ${rows.map(({ body }) => body)}::bytea[]
        ) WITH ORDINALITY AS r(slot, topic, key, attributes, body, position) ORDER BY r.position
      `
    }
  }).pipe(Effect.provide(clientLayer(task.url, 2)))

interface Row {
  readonly id: bigint
  readonly topic: string
  readonly key: string
  readonly attributes: string
  readonly body: Uint8Array
  readonly attempts: number
}

/** Publishes what there is; the number of rows. */
const batch = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  first: number,
  publish: (messages: ReadonlyArray<Work>) => Effect.Effect<void, Error>
) {
  const claimed = yield* sql<{ readonly slot: number }>`
    SELECT s.slot FROM slot s WHERE (
      SELECT true FROM outbox o WHERE o.slot = s.slot AND NOT o.is_dead ORDER BY o.slot, o.id LIMIT 1
    )
    ORDER BY s.slot < ${first}::int, s.slot LIMIT ${slotsPerBatch}::int FOR UPDATE SKIP LOCKED
  `
  if (claimed.length === 0) return 0
  // A statement of its own: it sees what the last owner of the slots did
  const rows = yield* sql<Row>`
    SELECT r.* FROM unnest(${claimed.map(({ slot }) => slot)}::int[]) s(slot) CROSS JOIN LATERAL (
      SELECT o.id, o.topic, o.key, o.attributes, o.body, o.attempts FROM outbox o
      WHERE o.slot = s.slot AND NOT o.is_dead AND (
        NOT EXISTS (SELECT 1 FROM outbox f WHERE f.attempts > 0 AND NOT f.is_dead)
        OR NOT EXISTS (
          SELECT 1 FROM outbox f WHERE f.topic = o.topic AND f.key = o.key AND f.id <= o.id AND f.attempts > 0
            AND NOT f.is_dead AND f.next_attempt_at > now()
        )
      )
      ORDER BY o.slot, o.id LIMIT ${Math.ceil(batchSize / claimed.length)}::int
    ) r
  `
  if (rows.length === 0) return 0
  const toMessage = (row: Row): Work => ({
    topic: row.topic,
    key: row.key,
    attributes: JSON.parse(row.attributes) as Record<string, string>,
    body: row.body
  })
  const published: Array<bigint> = []
  if ((yield* Effect.exit(publish(rows.map(toMessage))))._tag === "Success") {
    for (const { id } of rows) published.push(id)
  } else {
    const stuck = new Set<string>()
    for (const row of rows) {
      if (stuck.has(row.key)) continue
      const exit = yield* Effect.exit(publish([toMessage(row)]))
      if (exit._tag === "Success") {
        published.push(row.id)
        continue
      }
      stuck.add(row.key)
      yield* sql`
        UPDATE outbox SET attempts = attempts + 1, is_dead = attempts + 1 >= ${maxAttempts}::int,
          last_error = ${String(exit.cause)}, next_attempt_at = now() + least(2 ^ attempts, 300) * interval '1 second'
        WHERE id = ${row.id}
      `
    }
  }
  yield* sql`DELETE FROM outbox WHERE id = ANY(${published}::bigint[])`
  return rows.length
})

const relay = (task: Extract<Task, { readonly role: "relay" }>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`SELECT 1`
    const counter = new Counter(task.check)
    const publish = (messages: ReadonlyArray<Work>) =>
      Effect.sync(() => counter.add(messages.length, () => messages.map(({ attributes }) => attributes["id"])))
    yield* begun
    let first = Math.floor(Math.random() * slots)
    while (true) {
      first = (first + slotsPerBatch) % slots
      const rows = yield* sql.withTransaction(batch(sql, first, publish))
      if (rows === 0) yield* Effect.sleep(100)
    }
  }).pipe(Effect.provide(clientLayer(task.url, 3)))

const padding = "x".repeat(200)

/**
 * The statements of the command alone, on the same tables, with an event that is
 * ready but for its account; `notifies` tells relays within the transaction.
 */
const command = (notifies: boolean) => (task: Extract<Task, { readonly role: "command" }>) =>
  Effect.gen(function*() {
    yield* Migrations.run
    yield* makeAccounts
    const sql = yield* SqlClient.SqlClient
    const attributes = JSON.stringify({ ...work(0).attributes, correlationid: "01234567-89ab-cdef-0123-456789abcdef" })
    const one = Effect.fnUntraced(function*(i: number) {
      const account = i % accounts
      const key = String(account)
      yield* sql`UPDATE account SET balance = balance + ${1} WHERE id = ${account}`
      yield* sql`
        INSERT INTO event_flow_outbox (slot, topic, key, key_bytes, attributes, headers, body) VALUES (
          ${slotOf(key)}, ${topic}, ${key}, ${null}, ${attributes}, ${null},
          ${Buffer.from(`{"account":${account},"amount":1,"padding":"${padding}"}`)}
        )
      `
      if (notifies) yield* sql`SELECT pg_notify('event_flow_outbox', '')`
    })
    return yield* commandsPerSecond(task, (i) => sql.withTransaction(one(i)))
  }).pipe(Effect.provide(clientLayer(task.url, 10)))

main({ fill, relay, command: command(process.argv[3] === "notify") })
