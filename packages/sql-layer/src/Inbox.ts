/**
 * An inbox in the database: the effects of a message on the database happen
 * once, because the message is remembered in the transaction of the handler.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as CoreInbox from "@event-flow/core/Inbox"
import * as Settings from "@event-flow/core/Settings"
import type * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { createHash } from "node:crypto"
import { age } from "./internal/age.ts"
import * as Dialect from "./internal/dialect.ts"
import * as Periodically from "./internal/periodically.ts"
import { isStorable } from "./internal/slot.ts"
import * as Transaction from "./internal/transaction.ts"
import * as Tables from "./Tables.ts"

const fields = {
  /**
   * How long a message is remembered. A duplicate that comes later is handled
   * again, so a broker's retention is always enough. Default: 7 days.
   */
  retention: Settings.withDefault(age({ infinite: false }), "7 days"),
  /** How often older messages are removed. With `Infinity` never; call `prune` yourself. Default: 10 minutes. */
  pruneInterval: Settings.withDefault(Settings.duration({ infinite: true }), "10 minutes"),
  /**
   * How long a statement of a handler's transaction may be without an answer.
   * Then its connection is taken for lost and ended, and the statement fails.
   * Default: 1 minute.
   */
  statementTimeout: Settings.withDefault(Settings.duration(), "1 minute")
}

/**
 * Options of the inbox.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options extends Schema.Struct.Encoded<typeof fields> {
  /**
   * When and how often handling is run again after a serialization failure or a
   * deadlock. Default: 5 times, after 10, 20, 40 ... milliseconds, jittered.
   */
  readonly schedule?: Schedule.Schedule<unknown, Cause.Cause<unknown>> | undefined
}

/**
 * The settings of the inbox that can be read from the environment:
 * `INBOX_RETENTION` and `INBOX_PRUNE_INTERVAL`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const settings = Settings.make("Inbox", { prefix: "INBOX", schema: Schema.Struct(fields) })

/**
 * An `Inbox` for `EventConsumer` with `dedupe: true`.
 *
 * **Details**
 *
 * The consumer and the message id are inserted first, in a transaction that the
 * handlers join. What they write through this `SqlClient`, and what they
 * publish through `Outbox.layer`, commits with it. A duplicate finds the row
 * and is not handled. Of two deliveries at the same time the second waits for
 * the first, and is handled if the first rolls back. A handler that fails
 * leaves no row, so the message is handled when it comes again. A connection
 * that gives no answer for `statementTimeout` is ended, on the server, too.
 *
 * **Gotchas**
 *
 * Other effects of a handler (a mail, an HTTP call) happen again if the
 * transaction fails after them. Each message that is being handled holds a
 * connection: the pool must have more connections than the consumer's
 * `concurrency`.
 *
 * **Example** (A consumer whose effects happen once)
 *
 * ```ts
 * import { EventConsumer, EventHandler, NotificationEvent } from "@event-flow/core"
 * import { Inbox } from "@event-flow/sql-layer"
 * import { Effect, Layer } from "effect"
 * import { SqlClient, SqlError } from "effect/sql"
 *
 * class Sold extends NotificationEvent.Class<Sold>()("Sold", {}, { topic: "sales" }) {}
 * const CountSale = EventHandler.make("CountSale", { on: Sold, error: SqlError.SqlError })
 *
 * const Consumer = EventConsumer.layer([CountSale], { group: "sales-view", dedupe: true }).pipe(
 *   Layer.provide(CountSale.toLayer(Effect.map(
 *     SqlClient.SqlClient,
 *     (sql) => () => Effect.asVoid(sql`UPDATE sales SET count = count + 1`)
 *   ))),
 *   Layer.provide(Inbox.layer())
 * )
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  { schedule = Transaction.defaultSchedule, ...options }: Options = {}
): Layer.Layer<CoreInbox.Inbox, Settings.InvalidSetting, SqlClient.SqlClient> =>
  Layer.effect(
    CoreInbox.Inbox,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { remember } = Dialect.make(sql, yield* Tables.Tables)
      const { pruneInterval, retention, statementTimeout } = yield* settings.check(options)
      yield* Periodically.fork("Pruning the inbox", pruneInterval, prune(retention))
      return CoreInbox.make((consumer, messageIds, handle) => {
        const failed = (cause: unknown) =>
          new CoreInbox.InboxError({ consumer, messageId: messageIds.join(", "), cause })
        const ids = messageIds.map(storable)
        const first = new Set<string>()
        const isFirst = ids.map((id) => first.size < first.add(id).size)
        return Transaction.run(
          sql,
          Effect.flatMap(
            Effect.mapError(remember(storable(consumer), [...first]), failed),
            (added) => handle(ids.map((id, i) => isFirst[i]! && added.has(id)))
          ),
          { begin: undefined, statementTimeout, schedule, onError: failed }
        )
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
): Layer.Layer<CoreInbox.Inbox, Settings.InvalidSetting | Config.ConfigError, SqlClient.SqlClient> =>
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
  CoreInbox.Inbox,
  Settings.InvalidSetting | Config.ConfigError,
  SqlClient.SqlClient
> = layerConfig(settings.config)

/**
 * Forgets the messages that were handled longer ago than `olderThan`. Returns
 * their number.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const prune = (olderThan: Duration.Input): Effect.Effect<number, SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const dialect = Dialect.make(yield* SqlClient.SqlClient, yield* Tables.Tables)
    const millis = Duration.toMillis(Duration.fromInputUnsafe(olderThan))
    return yield* Dialect.inBatches((limit) => dialect.pruneInbox(millis, limit))
  })

// --- internal ---

/** In UTF-16 units. What an index takes is bounded, by 2,704 bytes for both columns of this one. */
const maxLength = 300

/** Marks what is not the id itself; an id that begins with it is hashed, too. */
const hashed = "sha256:"

/** Foreign ids may be anything. */
const storable = (id: string): string =>
  id.length <= maxLength && isStorable(id) && !id.startsWith(hashed)
    ? id
    : hashed + createHash("sha256").update(id, "utf16le").digest("hex")
