/**
 * All SQL that a dialect has its own way of. There is one, PostgreSQL: the only
 * driver for this version of Effect. Another one is a second record of this
 * shape.
 */
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Names } from "../Tables.ts"
import { answered } from "./connection.ts"
import { type Listen, listenOn } from "./listening.ts"
import type { NewRow, PendingRow } from "./row.ts"
import { slots } from "./slot.ts"

/** What a relay did not get published. */
export interface FailedRow {
  readonly id: bigint
  readonly error: string
  /** Milliseconds until the next attempt; null for a dead row. */
  readonly delay: number | null
}

export interface Dialect {
  /** Begins a relay's transaction, in which each statement sees what was committed before it. */
  readonly beginBatch: string
  /** Inserts rows in their order. */
  readonly insert: (rows: ReadonlyArray<NewRow>) => Effect.Effect<void, SqlError>
  /** Tells the listeners, over a connection of its own. Without text, of new rows. */
  readonly notify: (text?: string) => Effect.Effect<void, SqlError>
  /** A queue of what `notify` tells; undefined where the client cannot listen. */
  readonly listen: Listen | undefined
  /**
   * In a transaction: locks, until its end, some slots that have rows to publish
   * and that no other transaction has locked, in the order given.
   */
  readonly lockSlots: (order: ReadonlyArray<number>, limit: number) => Effect.Effect<ReadonlyArray<number>, SqlError>
  /** What is to be published of locked slots, oldest first in each. A statement of its own: it must see what the last owner did. */
  readonly pending: (
    slots: ReadonlyArray<number>,
    limitPerSlot: number
  ) => Effect.Effect<ReadonlyArray<PendingRow>, SqlError>
  readonly remove: (ids: ReadonlyArray<bigint>) => Effect.Effect<void, SqlError>
  readonly markPublished: (ids: ReadonlyArray<bigint>) => Effect.Effect<void, SqlError>
  readonly markFailed: (rows: ReadonlyArray<FailedRow>) => Effect.Effect<void, SqlError>
  /**
   * Remembers messages, which differ, unless they are known; gives those that were new. Waits for another transaction that
   * remembers one of them.
   */
  readonly remember: (
    consumer: string,
    messageIds: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlySet<string>, SqlError>
  /** Removes at most `limit` messages that were handled longer ago than `olderThan` milliseconds; gives their number. */
  readonly pruneInbox: (olderThan: number, limit: number) => Effect.Effect<number, SqlError>
  /** The same for rows of the outbox: since they were published, or made. */
  readonly pruneOutbox: (
    state: "published" | "dead",
    olderThan: number,
    limit: number
  ) => Effect.Effect<number, SqlError>
}

const pruneBatch = 5000

/** How long a statement of the background may be without an answer, in milliseconds. */
const outsideTimeout = 60_000

/** Repeats what removes a bounded number until there is no more: one long transaction would hold up vacuuming. */
export const inBatches = (
  prune: (limit: number) => Effect.Effect<number, SqlError>
): Effect.Effect<number, SqlError> =>
  Effect.gen(function*() {
    let total = 0
    while (true) {
      const removed = yield* prune(pruneBatch)
      total += removed
      if (removed < pruneBatch) return total
    }
  })

export interface Options {
  /** Whether a dead row holds the later ones of its key. */
  readonly holdAfterDead: boolean
}

/** The SQL of the client's dialect; dies for one that there is none for. */
export const make = (
  sql: SqlClient.SqlClient,
  tables: Names,
  options: Options = { holdAfterDead: false }
): Dialect =>
  sql.onDialectOrElse({
    pg: () => postgres(sql.withoutTransforms(), tables, options),
    orElse: () => {
      throw new Error(`@event-flow/sql-layer has no SQL for the client "${sql.driver}": use @effect/sql-pg`)
    }
  })

/** PostgreSQL's bound on the name of a channel, in bytes. */
const maxChannelLength = 63

export const channelOf = (table: string): string => {
  const name = table.replace(/[^A-Za-z0-9_.]/g, "_")
  return name.length <= maxChannelLength ? name : name.slice(-maxChannelLength)
}

const postgres = (
  sql: SqlClient.SqlClient,
  tables: Names,
  options: Options
): Dialect => {
  const outbox = sql(tables.outbox)
  const inbox = sql(tables.inbox)
  const channel = channelOf(tables.outbox)
  /** The table as a value, quoted. */
  const outboxName = sql`${outbox}`.compile(true)[0]

  /** By the table itself and not its name, which can be written in several ways. Object ids go beyond an int. */
  const lockClass = sql.literal(`('${outboxName.replaceAll("'", "''")}'::regclass::oid::bigint % 2147483647)::int`)

  // Dead rows have no next attempt. In the words of the index of failing rows, so that no index of all pending ones will do
  const isWaiting = (row: string) =>
    `${row}.attempts > 0 AND ${row}.state <> 'published' AND ${
      options.holdAfterDead
        ? `(${row}.state = 'dead' OR ${row}.next_attempt_at > now())`
        : `${row}.next_attempt_at > now()`
    }`
  // No earlier row of its key waits. Usually none does at all, which is asked once, by the order of that index.
  const isFree = `(o.next_attempt_at IS NULL OR o.next_attempt_at <= now()) AND (
    (
      SELECT true FROM ${outboxName} f WHERE ${isWaiting("f")} ORDER BY f.topic, hashtext(f.key), f.id LIMIT 1
    ) IS NULL OR NOT EXISTS (
      SELECT 1 FROM ${outboxName} b WHERE b.topic = o.topic AND hashtext(b.key) = hashtext(o.key) AND b.key = o.key
        AND b.id < o.id AND ${isWaiting("b")}
    )
  )`
  // The oldest of a slot that are free. OFFSET 0 keeps the order apart from the condition, and OR keeps this from being
  // a join: with some hundred rows that failed, the planner joins all pending rows with all of those.
  // BETWEEN: of an equal slot only the ids need an order, which the primary key has, with every other slot in between.
  const free = (slot: string) =>
    sql.literal(`(
      SELECT * FROM ${outboxName} WHERE slot BETWEEN ${slot} AND ${slot} AND state = 'pending' ORDER BY slot, id OFFSET 0
    ) o WHERE ${isFree}`)

  // What most commands insert: a third of the work of arrays, for the server
  const insertOne = (row: NewRow) =>
    Effect.asVoid(sql`
      INSERT INTO ${outbox} (slot, topic, key, key_bytes, attributes, headers, body) VALUES (
        ${row.slot}, ${row.topic}, ${row.key}, ${row.keyBytes}, ${row.attributes}, ${row.headers}, ${row.body}
      )
    `)

  const insertAll = (rows: ReadonlyArray<NewRow>) =>
    // One statement whatever the number of rows: it is parsed once. Ordered, so that ids are in the order of the rows
    Effect.asVoid(sql`
      INSERT INTO ${outbox} (slot, topic, key, key_bytes, attributes, headers, body)
      SELECT r.slot, r.topic, r.key, r.key_bytes, r.attributes::json, r.headers::json, r.body
      FROM unnest(
        ${rows.map((row) => row.slot)}::int[], ${rows.map((row) => row.topic)}::text[],
        ${nullable(rows.map((row) => row.key))}::text[], ${nullable(rows.map((row) => row.keyBytes))}::bytea[],
        ${rows.map((row) => row.attributes)}::text[], ${nullable(rows.map((row) => row.headers))}::text[],
        ${nullable(rows.map((row) => row.body))}::bytea[]
      ) WITH ORDINALITY AS r(slot, topic, key, key_bytes, attributes, headers, body, position)
      ORDER BY r.position
    `)

  // What relays run is planned each time, `unprepared`: a plan that was made while the outbox was empty, and kept,
  // scans the table, and with some thousands of rows takes a second
  return {
    beginBatch: "BEGIN ISOLATION LEVEL READ COMMITTED",
    insert: (rows) => rows.length === 1 ? insertOne(rows[0]!) : insertAll(rows),
    notify: (text = "") => answered(outsideTimeout, Effect.asVoid(sql`SELECT pg_notify(${channel}, ${text})`)),
    listen: listenOn(sql, channel),
    lockSlots: (order, limit) =>
      Effect.map(
        // The lock is tried outside of the subquery, which OFFSET 0 keeps apart: only where there is work
        sql<{ slot: number }>`
          SELECT slot FROM (
            SELECT s AS slot FROM unnest(${order}::int[]) s WHERE (SELECT true FROM ${free("s")} LIMIT 1) OFFSET 0
          ) ready
          WHERE pg_try_advisory_xact_lock(${lockClass}, slot) LIMIT ${limit}
        `.unprepared,
        (rows) => rows.map((row) => row.slot)
      ),
    pending: (slots, limitPerSlot) =>
      sql<PendingRow>`
        SELECT p.* FROM unnest(${slots}::int[]) s(slot) CROSS JOIN LATERAL (
          SELECT o.id, o.topic, o.key, o.key_bytes, o.attributes, o.headers, o.body, o.attempts
          FROM ${free("s.slot")} LIMIT ${limitPerSlot}
        ) p
      `.unprepared,
    remove: (ids) => Effect.asVoid(sql`DELETE FROM ${outbox} WHERE id = ANY(${ids}::bigint[])`.unprepared),
    markPublished: (ids) =>
      Effect.asVoid(
        sql`
        UPDATE ${outbox} SET state = 'published', published_at = now(), attempts = attempts + 1
        WHERE id = ANY(${ids}::bigint[])
      `.unprepared
      ),
    markFailed: (rows) =>
      Effect.asVoid(
        sql`
        UPDATE ${outbox} o SET
          attempts = o.attempts + 1,
          last_error = f.error,
          state = CASE WHEN f.delay IS NULL THEN 'dead' ELSE 'pending' END,
          next_attempt_at = clock_timestamp() + f.delay * interval '1 millisecond'
        FROM unnest(
          ${rows.map((row) => row.id)}::bigint[], ${rows.map((row) => row.error)}::text[],
          ${nullable(rows.map((row) => row.delay))}::int[]
        ) f(id, error, delay)
        WHERE o.id = f.id
      `.unprepared
      ),
    remember: (consumer, messageIds) =>
      messageIds.length === 0 ? Effect.succeed(new Set()) : Effect.map(
        messageIds.length === 1
          // Half the work for the server that an array is
          ? sql<{ readonly message_id: string }>`INSERT INTO ${inbox} (consumer, message_id)
              VALUES (${consumer}, ${messageIds[0]}) ON CONFLICT DO NOTHING RETURNING message_id`
          // In order: two batches that have messages in common do not wait for each other in turn
          : sql<{ readonly message_id: string }>`INSERT INTO ${inbox} (consumer, message_id)
              SELECT ${consumer}, id FROM unnest(${messageIds}::text[]) AS id ORDER BY id
              ON CONFLICT DO NOTHING RETURNING message_id`,
        (rows) => new Set(rows.map((row) => row.message_id))
      ),
    pruneInbox: (olderThan, limit) =>
      Effect.map(
        answered(
          outsideTimeout,
          sql`DELETE FROM ${inbox} WHERE (consumer, message_id) IN (
            SELECT consumer, message_id FROM ${inbox}
            WHERE handled_at < now() - ${olderThan}::float8 * interval '1 millisecond'
            ORDER BY handled_at LIMIT ${limit}
          ) RETURNING 1 AS removed`
        ),
        (rows) => rows.length
      ),
    pruneOutbox: (state, olderThan, limit) =>
      Effect.map(
        answered(
          outsideTimeout,
          sql`DELETE FROM ${outbox} WHERE id IN (
            SELECT id FROM ${outbox}
            WHERE state = ${sql.literal(`'${state}'`)}
              AND ${sql.literal(state === "dead" ? "created_at" : "published_at")}
                < now() - ${olderThan}::float8 * interval '1 millisecond'
            LIMIT ${limit}
          ) RETURNING 1 AS removed`
        ),
        (rows) => rows.length
      )
  }
}

/** The client cannot tell the type of an array of nothing but nulls: as a literal, the cast in the statement does. */
const nullable = <A>(values: ReadonlyArray<A | null>): ReadonlyArray<A | null> | string =>
  values.every((value) => value === null) ? `{${values.map(() => "NULL").join(",")}}` : values

/** All slots. */
export const allSlots: ReadonlyArray<number> = Array.from({ length: slots }, (_, slot) => slot)
