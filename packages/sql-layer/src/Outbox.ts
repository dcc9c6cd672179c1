/**
 * A `Broker` that is a table: a command writes its messages in the transaction
 * that holds its changes. `OutboxRelay` publishes them.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as Settings from "@event-flow/core/Settings"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
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

const fields = {
  /**
   * Whether messages may be published outside a transaction. Such messages stay
   * in the outbox even if the rest fails. With false, publishing them fails with
   * `TransactionRequired`. Default: false.
   */
  allowOutsideTransaction: Settings.withDefault(Schema.Boolean, false),
  /**
   * Whether to notify relays after a commit, so that they need not wait for
   * their next poll. Default: true.
   */
  notify: Settings.withDefault(Schema.Boolean, true)
}

/**
 * Options of the outbox.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options extends Schema.Struct.Encoded<typeof fields> {}

/**
 * The settings of the outbox. `settings.config` reads
 * `OUTBOX_ALLOW_OUTSIDE_TRANSACTION` and `OUTBOX_NOTIFY`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const settings = Settings.make("Outbox", { prefix: "OUTBOX", schema: Schema.Struct(fields) })

/**
 * A `Broker` that inserts messages into the outbox, in the transaction of the
 * publishing fiber. `Transactional`, `Inbox.layer` and `sql.withTransaction`
 * open one.
 *
 * **Details**
 *
 * The messages of one publish are one `INSERT`. It fails with a `PublishError`:
 * `TransactionRequired` outside a transaction, `Unreachable`, `Timeout`,
 * `NotAuthorised`, `UnknownTopic` when the table is missing, `MessageTooLarge`
 * for a row that the client could not read back (`maxMessageSize` of
 * `PgClient`, 16 MiB), `Rejected` for any other error of the database.
 *
 * After a commit the layer sends `NOTIFY` to the relays, over another
 * connection and once for several commits. A `NOTIFY` inside the transaction
 * would make all commits of the database wait for each other.
 *
 * **Gotchas**
 *
 * Provide the outbox to the flow, and a real broker to the relay. A program
 * with both has two brokers.
 *
 * **Example** (State and events cannot disagree)
 *
 * ```ts
 * import { Command, EventFlow, NotificationEvent } from "@event-flow/core"
 * import { KafkaBroker } from "@event-flow/kafka-layer"
 * import { Outbox, OutboxRelay, Transactional } from "@event-flow/sql-layer"
 * import { Layer } from "effect"
 *
 * class Sold extends NotificationEvent.Class<Sold>()("Sold", {}, { topic: "sales" }) {}
 * class Sell extends Command.Class<Sell>()("Sell", { emits: [Sold], middleware: [Transactional.make()] }) {}
 * class Shop extends EventFlow.make("Shop", { commands: [Sell] }) {}
 *
 * const ShopLive = Shop.layer().pipe(
 *   Layer.provide(Sell.toLayer((_, { collect }) => collect(new Sold()))),
 *   Layer.provide(Outbox.layer())
 * )
 * const Relay = OutboxRelay.layer().pipe(Layer.provide(KafkaBroker.layer({ bootstrapServers: ["127.0.0.1:9092"] })))
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<Broker.Broker, Settings.InvalidSetting, SqlClient.SqlClient> =>
  Layer.effect(
    Broker.Broker,
    Effect.gen(function*() {
      const { allowOutsideTransaction, notify } = yield* settings.check(options)
      const sql = yield* SqlClient.SqlClient
      const dialect = Dialect.make(sql, yield* Tables.Tables)
      const maxRowSize = maxMessageSizeOf(sql)
      const committed = notify ? yield* notifier(dialect.notify()) : undefined

      return Broker.Broker.of({
        name,
        publish: (messages) =>
          Effect.withFiber((fiber) => {
            if (!allowOutsideTransaction && !isInTransaction(sql, fiber.context)) {
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

/**
 * The same with options from `Config`s of your own: one for each option, or one
 * for all of them.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<Broker.Broker, Settings.InvalidSetting | Config.ConfigError, SqlClient.SqlClient> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * The same with options from the environment, or whatever the `ConfigProvider`
 * reads; see `settings` for the names.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv: Layer.Layer<
  Broker.Broker,
  Settings.InvalidSetting | Config.ConfigError,
  SqlClient.SqlClient
> = layerConfig(settings.config)

// --- internal ---

const outsideTransaction = new Broker.TransactionRequired({
  detail: "the outbox takes messages in a transaction only: put Transactional.make() into the command's middleware, " +
    "or sql.withTransaction around the publish; Outbox.layer({ allowOutsideTransaction: true }) allows it"
})

/**
 * The largest row that a relay can read: `maxMessageSize` of `PgClient`, or its
 * default. A larger row would block all other rows forever.
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
 * The minimum time between two notifications, in milliseconds. Each costs about
 * as much as a statement of a command, and relays are still busy with the last
 * one.
 */
const notifyPause = 10

/** Of the machine's clock: a program under a virtual one would tell its relays once and never again. */
const pause = Effect.callback<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), notifyPause)
  return Effect.sync(() => clearTimeout(timer))
})

/**
 * Runs `notify` after a signal. Signals that come while it runs, and shortly
 * after, count as one. A lost signal does no harm: relays poll.
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
