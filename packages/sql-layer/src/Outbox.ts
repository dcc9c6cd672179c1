/**
 * A `Broker` that is a table: what a command announces is in the same
 * transaction as what it changes. `OutboxRelay` publishes it.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Dialect from "./internal/dialect.ts"
import { type NewRow, sizeOf, toRow } from "./internal/row.ts"
import { publishReason } from "./internal/sqlFailure.ts"
import { isInTransaction } from "./internal/transaction.ts"
import * as Tables from "./Tables.ts"

/**
 * The name of the outbox as a `Broker`.
 *
 * @stability unstable
 * @category constants
 * @since 0.1.0
 */
export const name = "outbox"

/**
 * Options of the outbox.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Whether messages may be published outside of a transaction: they are in the
   * outbox at once, whatever becomes of the rest. Default: false, which fails
   * with `TransactionRequired`.
   */
  readonly allowOutsideTransaction?: boolean | undefined
  /**
   * Whether relays are told of a commit, so that they need not wait for their
   * next look. Default: true.
   */
  readonly notify?: boolean | undefined
}

/**
 * A `Broker` whose messages become rows of the outbox, in the transaction that is
 * open in the fiber that publishes: `Transactional` opens it, `Inbox.layer` does,
 * and `sql.withTransaction`.
 *
 * **Details**
 *
 * The messages of one publish are one `INSERT`. Fails with a `PublishError`:
 * `TransactionRequired` outside of a transaction, `Unreachable`, `Timeout`,
 * `NotAuthorised`, `UnknownTopic` where the table is missing, `MessageTooLarge`
 * for a row that the client could not read again (`maxMessageSize` of `PgClient`,
 * 16 MiB), `Rejected` for anything else that the database says.
 *
 * After a commit the relays are told by `NOTIFY`, over another connection and
 * once for all commits of a moment: a `NOTIFY` within the transaction would
 * have all commits of the database wait for each other.
 *
 * **Gotchas**
 *
 * Provide it to the flow, and a real broker to the relay: they are two parts of
 * a program that need two different brokers.
 *
 * **Example** (State and events cannot disagree)
 *
 * ```ts
 * import { EventFlow } from "@event-flow/core"
 * import { KafkaBroker } from "@event-flow/kafka-layer"
 * import { Outbox, OutboxRelay } from "@event-flow/sql-layer"
 * import { Layer } from "effect"
 *
 * const Shop = EventFlow.layer({ handlers: [] }).pipe(Layer.provide(Outbox.layer()))
 * const Relay = OutboxRelay.layer().pipe(Layer.provide(KafkaBroker.layer({ bootstrapServers: ["127.0.0.1:9092"] })))
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Broker.Broker, never, SqlClient.SqlClient> =>
  Layer.effect(
    Broker.Broker,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const dialect = Dialect.make(sql, yield* Tables.Tables)
      const isAllowed = options?.allowOutsideTransaction ?? false
      const maxRowSize = maxMessageSizeOf(sql)
      const committed = options?.notify === false ? undefined : yield* notifier(dialect.notify)

      return Broker.Broker.of({
        name,
        publish: (messages) =>
          Effect.withFiber((fiber) => {
            if (!isAllowed && !isInTransaction(sql, fiber.context)) {
              return Effect.fail(Broker.publishError(messages[0], outsideTransaction))
            }
            const inserted = Effect.suspend(() => {
              const rows = messages.map(toRow)
              const tooLarge = rows.findIndex((row) => sizeOf(row) > maxRowSize)
              if (tooLarge >= 0) {
                return Effect.fail(
                  Broker.publishError(messages[tooLarge]!, messageTooLarge(rows[tooLarge]!, maxRowSize))
                )
              }
              return Effect.mapError(
                dialect.insert(rows),
                (error) => Broker.publishError(messages[0], publishReason(error))
              )
            })
            return committed === undefined ? inserted : Effect.andThen(inserted, sql.afterCommit(committed))
          })
      })
    })
  )

// --- internal ---

const outsideTransaction = new Broker.TransactionRequired({
  detail: "the outbox takes messages in a transaction only: put Transactional.make() into the command's middleware, " +
    "or sql.withTransaction around the publish; Outbox.layer({ allowOutsideTransaction: true }) allows it"
})

/**
 * How large a row a relay can read: `maxMessageSize` of `PgClient`, its default
 * where it is not known. A larger one would be in the way of all others for ever.
 */
const maxMessageSizeOf = (sql: SqlClient.SqlClient & { readonly config?: unknown }): number =>
  Predicate.hasProperty(sql.config, "maxMessageSize") && typeof sql.config.maxMessageSize === "number"
    ? sql.config.maxMessageSize
    : 16 * 1024 * 1024

const messageTooLarge = (row: NewRow, bound: number) =>
  new Broker.MessageTooLarge({
    detail: `its row would have ${sizeOf(row)} bytes; the database's client reads at most ${bound}, ` +
      "which is maxMessageSize of PgClient: that of the relay's client, too"
  })

/**
 * How long a notification is followed by none, in milliseconds: each costs about as much as a
 * statement of a command, and relays are not done with the last one so soon.
 */
const notifyPause = 10

/** Of the machine's clock: a program under a virtual one would tell its relays once and never again. */
const pause = Effect.callback<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), notifyPause)
  return Effect.sync(() => clearTimeout(timer))
})

/**
 * Runs `notify` after a signal; signals that come while it runs, and shortly
 * after, are one. Lost ones do no harm, relays look by themselves.
 */
const notifier = Effect.fnUntraced(function*(notify: Effect.Effect<void, SqlError>) {
  const latch = Latch.makeUnsafe(false)
  yield* latch.await.pipe(
    Effect.andThen(Effect.suspend(() => {
      latch.closeUnsafe()
      return notify
    })),
    Effect.catchCause((cause) => Effect.logDebug("Could not tell the relays of new messages", cause)),
    Effect.andThen(pause),
    Effect.forever,
    Effect.forkScoped
  )
  return Effect.sync(() => {
    latch.openUnsafe()
  })
})
