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

/** The slots of a batch. Usually no row that has waited is due, and the statement for those takes long to plan. */
export interface Locked {
  readonly slots: ReadonlyArray<number>
  /** Whether one of them has a row that has waited and is due. */
  readonly isDue: boolean
}

/** Rows with the same one are published in order. */
export interface Key {
  readonly topic: string
  readonly key: string
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
   * and that no other transaction has locked, in the order given. Lifts the
   * timeouts of its transaction, which would end it while the broker works.
   */
  readonly lockSlots: (order: ReadonlyArray<number>, limit: number) => Effect.Effect<Locked, SqlError>
  /**
   * The oldest rows of locked slots, and those that have waited and are due. A
   * statement of its own: it must see what the last owner did.
   */
  readonly pending: (
    locked: Locked,
    limitPerSlot: number
  ) => Effect.Effect<ReadonlyArray<PendingRow>, SqlError>
  /**
   * Puts rows aside that wait behind an earlier one of their key, with the next
   * ones of their slots that do: nobody comes across them again until that one
   * is out of the way.
   */
  readonly setAside: (slots: ReadonlyArray<number>, ids: ReadonlyArray<bigint>) => Effect.Effect<void, SqlError>
  /** Makes the first row of each key that was put aside due. Gives their number. */
  readonly release: (keys: ReadonlyArray<Key>) => Effect.Effect<number, SqlError>
  /** The same for all keys, of which something else than a relay has removed the row that they waited for. */
  readonly releaseOrphans: Effect.Effect<number, SqlError>
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

/** How many rows of a slot are looked at to put those aside that wait. */
const setAsideAtOnce = 5000

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

  // A row that is pending and
  // - has no next attempt is fresh. An index of these alone, by slot and age, is what relays read.
  // - has one waits: for its time, where it has failed, or for an earlier row of its key, at no time (infinity).
  // So what waits costs nobody anything, however much it is: it is met again by its time, or by its key.
  const isFresh = (row: string) => `${row}.state = 'pending' AND ${row}.next_attempt_at IS NULL`
  const waits = (row: string) => `${row}.state = 'pending' AND ${row}.next_attempt_at IS NOT NULL`
  const sameKey = (row: string, as: string) =>
    `${row}.topic = ${as}.topic AND hashtextextended(${row}.key, 0) = hashtextextended(${as}.key, 0) ` +
    `AND ${row}.key = ${as}.key`
  const byKey = (row: string) => `${row}.topic, hashtextextended(${row}.key, 0), ${row}.id`
  // In the words of the indexes, and in their order, so that no other one will do.
  // BETWEEN: of an equal slot only the rest needs an order, which other indexes have, with every other slot in between.
  const fresh = (slot: string, limit: string) =>
    `SELECT * FROM ${outboxName} f WHERE f.slot BETWEEN ${slot} AND ${slot} AND ${isFresh("f")}
      ORDER BY f.slot, f.id LIMIT ${limit}`
  const due = (slot: string, limit: string) =>
    `SELECT * FROM ${outboxName} d WHERE d.slot BETWEEN ${slot} AND ${slot} AND ${waits("d")}
      AND d.next_attempt_at <= now() ORDER BY d.slot, d.next_attempt_at, d.id LIMIT ${limit}`
  // LIMIT and not EXISTS, of which the planner may make a join with all rows that wait
  const earlier = (row: string, condition: string) =>
    `(
      SELECT true FROM ${outboxName} b WHERE ${sameKey("b", row)} AND b.id < ${row}.id AND ${condition}
      ORDER BY ${byKey("b")} LIMIT 1
    ) IS NOT NULL`
  // Usually none waits at all, which is asked once
  const isBehind = (row: string) => {
    const waiting = `(SELECT true FROM ${outboxName} w WHERE ${waits("w")} ORDER BY ${byKey("w")} LIMIT 1) IS NOT NULL
      AND ${earlier(row, waits("b"))}`
    if (!options.holdAfterDead) return `(${waiting})`
    return `(${waiting} OR (
      SELECT true FROM ${outboxName} w WHERE w.state = 'dead' ORDER BY ${byKey("w")} LIMIT 1
    ) IS NOT NULL AND ${earlier(row, "b.state = 'dead'")})`
  }
  const columns = (row: string) =>
    ["id", "slot", "topic", "key", "key_bytes", "attributes", "headers", "body", "attempts"]
      .map((name) => `${row}.${name}`).join(", ")

  /**
   * What the first row that waits is, by topic and key: due at once, unless it is so already or has its time. With
   * `afterDead: "hold"` a dead row before it keeps it.
   */
  const releaseFirst = (firsts: string) =>
    // An array has the primary key used, however many there are
    `UPDATE ${outboxName} o SET next_attempt_at = now() WHERE o.id = ANY(ARRAY(SELECT id FROM ${firsts}))
      AND o.state = 'pending' AND o.next_attempt_at = 'infinity'
      ${options.holdAfterDead ? `AND NOT ${earlier("o", "b.state = 'dead'")}` : ""} RETURNING 1 AS released`

  // What would end the transaction while the broker works, and cut off a statement that has a bound of ours. The last
  // one exists since PostgreSQL 17.
  const liftTimeouts = ["statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
    .map((name) =>
      `CASE WHEN current_setting('${name}', true) IS NULL THEN '' ELSE set_config('${name}', '0', true) END`
    )
    .join(" || ")

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
        sql<{ slot: number; due: boolean }>`
          SELECT slot, due FROM (
            SELECT s AS slot, (SELECT true FROM (${sql.literal(fresh("s", "1"))}) fresh) AS fresh,
              (SELECT true FROM (${sql.literal(due("s", "1"))}) due) IS NOT NULL AS due
            FROM unnest(${order}::int[]) s OFFSET 0
          ) ready
          WHERE (fresh OR due) AND CASE WHEN pg_try_advisory_xact_lock(${lockClass}, slot)
            THEN ${sql.literal(liftTimeouts)} IS NOT NULL ELSE false END
          LIMIT ${limit}
        `.unprepared,
        (rows) => ({ slots: rows.map((row) => row.slot), isDue: rows.some((row) => row.due) })
      ),
    pending: ({ isDue, slots }, limitPerSlot) =>
      sql<PendingRow>`
        SELECT p.* FROM unnest(${slots}::int[]) s(slot) CROSS JOIN LATERAL (
          SELECT ${sql.literal(`${columns("o")}, false AS waits, ${isBehind("o")} AS behind`)}
          FROM (${sql.literal(fresh("s.slot", String(limitPerSlot)))}) o
          ${
        isDue ?
          sql`UNION ALL (
            SELECT ${sql.literal(columns("r"))}, true AS waits, head.behind FROM (
              SELECT h.*, ${sql.literal(isBehind("h"))} AS behind
              FROM (${sql.literal(due("s.slot", String(limitPerSlot)))}) h
            ) head
            -- One that has failed is tried alone. Behind another one there are those that wait for it.
            CROSS JOIN LATERAL (
              SELECT i.* FROM ${outbox} i WHERE i.id = head.id
              UNION ALL (
                SELECT n.* FROM ${outbox} n WHERE NOT head.behind AND head.attempts = 0
                  AND ${sql.literal(`${sameKey("n", "head")} AND n.id > head.id AND ${waits("n")}`)}
                  AND n.next_attempt_at = 'infinity'
                ORDER BY ${sql.literal(byKey("n"))} LIMIT ${sql.literal(String(limitPerSlot))}
              )
            ) r
            LIMIT ${sql.literal(String(limitPerSlot))}
          )` :
          sql.literal("")
      }
        ) p
      `.unprepared,
    setAside: (slots, ids) =>
      Effect.asVoid(
        sql`
        UPDATE ${outbox} SET next_attempt_at = 'infinity' WHERE id = ANY(ARRAY(
          SELECT unnest(${ids}::bigint[])
          UNION
          SELECT o.id FROM unnest(${slots}::int[]) s(slot) CROSS JOIN LATERAL (
            ${sql.literal(fresh("s.slot", String(setAsideAtOnce)))}
          ) o WHERE ${sql.literal(isBehind("o"))}
        ))
      `.unprepared
      ),
    release: (keys) =>
      Effect.map(
        sql`
        WITH keys AS (
          SELECT * FROM unnest(${keys.map(({ topic }) => topic)}::text[], ${
          keys.map(({ key }) => key)
        }::text[]) k(topic, key)
        ), firsts AS (
          SELECT w.id FROM keys k CROSS JOIN LATERAL (
            SELECT n.id FROM ${outbox} n WHERE ${sql.literal(`${sameKey("n", "k")} AND ${waits("n")}`)}
            ORDER BY ${sql.literal(byKey("n"))} LIMIT 1
          ) w
        )
        ${sql.literal(releaseFirst("firsts"))}
      `.unprepared,
        (rows) => rows.length
      ),
    // From key to key by the index: it costs by their number, not by that of the rows
    releaseOrphans: Effect.map(
      answered(
        outsideTimeout,
        sql`
        WITH RECURSIVE firsts AS (
          (
            SELECT w.id, w.topic, hashtextextended(w.key, 0) AS hash FROM ${outbox} w
            WHERE ${sql.literal(waits("w"))} AND w.key IS NOT NULL ORDER BY ${sql.literal(byKey("w"))} LIMIT 1
          )
          UNION ALL
          SELECT n.* FROM firsts f CROSS JOIN LATERAL (
            SELECT w.id, w.topic, hashtextextended(w.key, 0) AS hash FROM ${outbox} w
            WHERE ${sql.literal(waits("w"))} AND w.key IS NOT NULL
              AND (w.topic, hashtextextended(w.key, 0)) > (f.topic, f.hash)
            ORDER BY ${sql.literal(byKey("w"))} LIMIT 1
          ) n
        )
        ${sql.literal(releaseFirst("firsts"))}
      `.unprepared
      ),
      (rows) => rows.length
    ),
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
