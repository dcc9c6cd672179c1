/**
 * Operations on the outbox: list rows, redrive dead ones, prune.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Dialect from "./internal/dialect.ts"
import * as Tables from "./Tables.ts"

/**
 * The state of a row. `pending`: it will be published, now or when its next
 * attempt is due. `published`: it is kept for the relay's `retention`. `dead`:
 * no more attempts are made.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type State = "pending" | "published" | "dead"

/**
 * A row of the outbox, without its body.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Row {
  /** The id of the row. A later row has a larger one. */
  readonly id: bigint
  /** The id of the message. */
  readonly messageId: string | undefined
  readonly messageType: string | undefined
  readonly topic: string
  /** A key of bytes is written in hexadecimal. */
  readonly key: string | undefined
  readonly state: State
  readonly attempts: number
  readonly createdAt: Date
  /** When it may be tried (again); undefined for a row that is new, and for one that waits behind another of its key. */
  readonly nextAttemptAt: Date | undefined
  readonly publishedAt: Date | undefined
  readonly lastError: string | undefined
}

/**
 * The number of rows in each state, and the lag.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Status {
  readonly pending: number
  /** Pending rows that have failed and wait for their next attempt. */
  readonly retrying: number
  readonly dead: number
  readonly published: number
  /** The age of the oldest pending row, in seconds; 0 for none. */
  readonly lagSeconds: number
}

/**
 * How many rows are in which state, and how far the relays are behind.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const status: Effect.Effect<Status, SqlError, SqlClient.SqlClient> = Effect.gen(function*() {
  const { outbox, sql } = yield* table
  const [row] = yield* sql<Status>`
    SELECT
      (count(*) FILTER (WHERE state = 'pending'))::float8 AS "pending",
      (count(*) FILTER (WHERE state = 'pending' AND attempts > 0))::float8 AS "retrying",
      (count(*) FILTER (WHERE state = 'dead'))::float8 AS "dead",
      (count(*) FILTER (WHERE state = 'published'))::float8 AS "published",
      coalesce(extract(epoch FROM clock_timestamp() - min(created_at) FILTER (WHERE state = 'pending')), 0)::float8
        AS "lagSeconds"
    FROM ${outbox}
  `
  return row!
})

/**
 * Rows of a state, oldest first.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const list = (options?: {
  /** Default: `"dead"`. */
  readonly state?: State | undefined
  readonly topic?: string | undefined
  /** Only rows after this id, for the next page. */
  readonly after?: bigint | undefined
  /** Default: 100. */
  readonly limit?: number | undefined
}): Effect.Effect<ReadonlyArray<Row>, SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const { outbox, sql } = yield* table
    // PostgreSQL reads no attribute of a row that has a NUL in one of them
    const rows = yield* sql<Stored>`
      SELECT
        id, attributes, topic, key, state, attempts,
        created_at AS "createdAt", NULLIF(next_attempt_at, 'infinity') AS "nextAttemptAt", published_at AS "publishedAt",
        last_error AS "lastError"
      FROM ${outbox}
      WHERE ${
      sql.and([
        sql`state = ${options?.state ?? "dead"}`,
        ...(options?.topic === undefined ? [] : [sql`topic = ${options.topic}`]),
        ...(options?.after === undefined ? [] : [sql`id > ${options.after}`])
      ])
    }
      ORDER BY id LIMIT ${options?.limit ?? 100}
    `
    return rows.map(({ attributes, ...row }) => ({
      ...row,
      messageId: attributes["id"],
      messageType: attributes["type"],
      key: row.key ?? undefined,
      nextAttemptAt: row.nextAttemptAt ?? undefined,
      publishedAt: row.publishedAt ?? undefined,
      lastError: row.lastError ?? undefined
    }))
  })

/**
 * Makes dead rows pending again, due now and with all their attempts before
 * them. Returns their number.
 *
 * **Gotchas**
 *
 * Later messages of their keys may have been published in the meantime, unless
 * the relays run with `afterDead: "hold"`.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const redrive = (
  which: { readonly ids: ReadonlyArray<bigint> } | { readonly topic: string } | "all"
): Effect.Effect<number, SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const { outbox, sql } = yield* table
    const condition = which === "all"
      ? sql`true`
      : "topic" in which
      ? sql`topic = ${which.topic}`
      : sql`id = ANY(${which.ids}::bigint[])`
    const rows = yield* sql`
      UPDATE ${outbox} SET state = 'pending', attempts = 0, next_attempt_at = now()
      WHERE state = 'dead' AND ${condition} RETURNING 1 AS redriven
    `
    if (rows.length > 0) yield* (yield* dialect).notify()
    return rows.length
  })

/**
 * Deletes rows that were published longer ago than `olderThan`, or dead rows of
 * that age. Returns their number.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const prune = (options: {
  readonly olderThan: Duration.Input
  /** Default: `"published"`. Dead rows are messages that nobody has received: deleting them loses them. */
  readonly state?: "published" | "dead" | undefined
}): Effect.Effect<number, SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const { pruneOutbox } = yield* dialect
    const millis = Duration.toMillis(Duration.fromInputUnsafe(options.olderThan))
    const pruned = yield* Dialect.inBatches((limit) => pruneOutbox(options.state ?? "published", millis, limit))
    if (options.state === "dead" && pruned > 0) {
      // What relays with afterDead: "hold" kept behind them
      const { notify, releaseOrphans } = yield* dialect
      if ((yield* releaseOrphans) > 0) yield* notify()
    }
    return pruned
  })

// --- internal ---

/** A row as the database gives it. */
interface Stored extends Pick<Row, "id" | "topic" | "state" | "attempts" | "createdAt"> {
  readonly attributes: Readonly<Record<string, string>>
  readonly key: string | null
  readonly nextAttemptAt: Date | null
  readonly publishedAt: Date | null
  readonly lastError: string | null
}

const table = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  return { sql, outbox: sql((yield* Tables.Tables).outbox) }
})

const dialect = Effect.gen(function*() {
  return Dialect.make(yield* SqlClient.SqlClient, yield* Tables.Tables, { holdAfterDead: true })
})
