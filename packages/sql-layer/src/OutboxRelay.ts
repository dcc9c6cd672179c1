/**
 * Publishes the rows of the outbox to the real broker.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as Health from "@event-flow/core/Health"
import * as Settings from "@event-flow/core/Settings"
import * as Telemetry from "@event-flow/core/Telemetry"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { age } from "./internal/age.ts"
import * as Connection from "./internal/connection.ts"
import * as Dialect from "./internal/dialect.ts"
import * as Periodically from "./internal/periodically.ts"
import * as Publishing from "./internal/publishing.ts"
import * as Workers from "./internal/relayWorkers.ts"
import type { PendingRow } from "./internal/row.ts"
import { slots } from "./internal/slot.ts"
import * as Outbox from "./Outbox.ts"
import * as OutboxAdmin from "./OutboxAdmin.ts"
import * as OutboxMetrics from "./OutboxMetrics.ts"
import * as Tables from "./Tables.ts"

const fields = {
  /** The maximum number of rows of a batch. Default: 500. */
  batchSize: Settings.withDefault(Settings.wholeNumber(), 500),
  /**
   * How many batches, of different keys, are published at the same time. Each
   * holds a connection of the client's pool. Default: 1.
   */
  concurrency: Settings.withDefault(Settings.wholeNumber(), 1),
  /** How often a relay looks for rows without being notified. Default: 1 second. */
  pollInterval: Settings.withDefault(Settings.duration(), "1 second"),
  /** How long one publish may take. Default: 1 minute. */
  publishTimeout: Settings.withDefault(Settings.duration(), "1 minute"),
  /**
   * How long a statement of the relay may be without an answer. Then its
   * connection is taken for lost and ended, and the relay takes another one.
   * Default: 30 seconds.
   */
  statementTimeout: Settings.withDefault(Settings.duration(), "30 seconds"),
  /**
   * The number of attempts after which a row is dead, if its last failure is
   * not retryable (`PublishError.isRetryable`) and other rows got through since
   * its first. Default: 10.
   */
  maxAttempts: Settings.withDefault(Settings.wholeNumber(), 10),
  /**
   * The delay before the next attempt, given how many attempts have failed.
   * Default: 1, 2, 4 ... seconds, at most 5 minutes.
   */
  retryDelay: Schema.optional(Settings.code<(attempts: number) => Duration.Input>()),
  /**
   * What happens to later rows of a key when a row of that key is dead: they
   * are published (`"continue"`), or they wait until the dead row is redriven
   * or pruned (`"hold"`). Default: "continue".
   */
  afterDead: Settings.withDefault(Schema.Literals(["continue", "hold"]), "continue"),
  /** How long published rows are kept. With 0 they are deleted when they are published. Default: 0. */
  retention: Settings.withDefault(age({ infinite: true }), 0),
  /** How long closing waits for batches that are being published, before it interrupts them. Default: 30 seconds. */
  drainTimeout: Settings.withDefault(Settings.duration({ minimum: 0 }), "30 seconds"),
  /** How often the gauges of `OutboxMetrics` are read from the table, when metrics are on. Default: 15 seconds. */
  metricsInterval: Settings.withDefault(Settings.duration(), "15 seconds")
}

/**
 * Options of a relay.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options extends Schema.Struct.Encoded<typeof fields> {}

/**
 * The settings of a relay. `settings.config` reads `OUTBOX_RELAY_BATCH_SIZE` and so
 * on.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const settings = Settings.make("OutboxRelay", { prefix: "OUTBOX_RELAY", schema: Schema.Struct(fields) })

/**
 * The broker cannot be reached: no message of a batch was published. The rows
 * are unchanged.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class BrokerUnavailable
  extends Schema.TaggedError<BrokerUnavailable>("@event-flow/sql-layer/OutboxRelay/BrokerUnavailable")(
    "BrokerUnavailable",
    { broker: Schema.String, cause: Schema.Defect() }
  )
{
  override get message(): string {
    return `The outbox cannot be published: nothing gets through to the broker "${this.broker}"`
  }
}

/**
 * The health of a relay: what `Health.all` of core has of it. It is
 * `"disconnected"` while its batches fail: the database or the broker is away.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface RelayHealth extends Health.Health {
  /**
   * Whether it is told of new rows. One that is not looks every
   * `pollInterval`, which is all it needs to be `"connected"`.
   */
  readonly isListening: boolean
  /** Why it is not told; undefined before the first answer. */
  readonly listenProblem: string | undefined
}

/**
 * A relay that runs in the background of a layer.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class OutboxRelay extends Context.Service<OutboxRelay, {
  /**
   * Publishes all rows that may be published now, in the calling fiber, and
   * returns their number. It does not wait for rows of another relay, nor for
   * rows whose next attempt is not due.
   */
  readonly drain: Effect.Effect<number, SqlError | BrokerUnavailable>
  /** From memory: asking costs nothing. Undefined for `layerManual`, which has no background. */
  readonly health: Effect.Effect<RelayHealth | undefined>
}>()("@event-flow/sql-layer/OutboxRelay") {}

/**
 * Publishes rows for as long as the layer is open.
 *
 * **Details**
 *
 * At least once, in the order of each key. Keys are hashed into 64 slots. A
 * batch is one transaction: it locks some slots (`pg_try_advisory_xact_lock`),
 * reads their oldest rows, publishes them, and deletes them when the broker has
 * acknowledged. So any number of relays work at once, each on other keys. A
 * relay that dies loses its locks with its connection. Rows that it had
 * published and not deleted are published again, with the same message ids.
 *
 * Rows are found by their state, not by a position, so no row is skipped,
 * whatever the order in which transactions commit. A row that was committed
 * before another row of its key was inserted is published before it.
 *
 * A `NOTIFY` after a commit wakes the relays. They also poll every
 * `pollInterval`. Each of them tells itself something every `statementTimeout`,
 * and listens again over another connection when it does not hear it.
 *
 * **Failures**
 *
 * When a batch fails, its keys are published one by one. If any row is
 * published, the failure belongs to the rows that are not: each of them waits
 * for its `retryDelay`, later rows of its key wait behind it, and all other
 * keys go on. After `maxAttempts` the row is dead; `OutboxAdmin` lists and
 * redrives dead rows. A retryable failure (`PublishError.isRetryable`) never
 * makes a row dead, nor does any failure while nothing else gets through (it may
 * be the broker's), except `MessageTooLarge`. If all failures are retryable and
 * no row is published, the broker is away: rows stay unchanged, and the relay
 * tries again after 0.1 seconds, growing to 10.
 *
 * A statement without an answer for `statementTimeout` has its connection ended,
 * on the server, too, so that its slots are free. The batch is tried again over
 * another one. `OutboxRelay.health`, which `Health.all` of core has too, and the
 * log say what is the matter.
 *
 * **Gotchas**
 *
 * The transaction is open while the broker works. The relay lifts the database's
 * `idle_in_transaction_session_timeout`, `transaction_timeout` and
 * `statement_timeout` for it; `idle_transaction_timeout` of a PgBouncer must be
 * longer than `publishTimeout`. An acknowledged row is deleted: `MemoryBroker` acknowledges messages that die
 * with the process, so give the relay a broker that waits until they are
 * handled (`MemoryBroker.awaitIdle`), or a real one. Within one publish a
 * broker may refuse a message and accept a later one of its key: the later one
 * is published, and the key waits from then on. Listening takes a connection of
 * the pool, and each of `concurrency` takes another: with a smaller pool
 * (`maxConnections` of `PgClient`) the layer fails with `InvalidSetting`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<OutboxRelay, Settings.InvalidSetting, Broker.Broker | SqlClient.SqlClient> =>
  Layer.effect(
    OutboxRelay,
    Effect.gen(function*() {
      const { batch, checked, dialect } = yield* make(options)
      const { listen, notify } = dialect
      yield* checkPool(yield* SqlClient.SqlClient, checked.concurrency)
      let isListening = false
      let listenProblem: string | undefined
      const { current, set } = yield* Health.report(
        { system: "postgresql", component: "relay", group: undefined, topics: [] },
        () => ({ isListening, listenProblem })
      )
      yield* Periodically.fork("Releasing rows of the outbox", "1 minute", dialect.releaseOrphans)
      yield* pruneAndMeasure(checked)
      yield* Workers.start(batch, {
        ...checked,
        onBatch: (problem) => set(problem === undefined ? "connected" : "disconnected", problem),
        listening: listen === undefined ? undefined : {
          listen,
          notify,
          statementTimeout: checked.statementTimeout,
          onChange: (problem) => {
            isListening = problem === undefined
            listenProblem = problem
          }
        }
      })
      return OutboxRelay.of({ drain: drain(batch, dialect), health: Effect.sync(current) })
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
): Layer.Layer<
  OutboxRelay,
  Settings.InvalidSetting | Config.ConfigError,
  Broker.Broker | SqlClient.SqlClient
> => Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * The same with options from the environment, or whatever the `ConfigProvider`
 * reads: `OUTBOX_RELAY_BATCH_SIZE` and so on; see `settings`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv: Layer.Layer<
  OutboxRelay,
  Settings.InvalidSetting | Config.ConfigError,
  Broker.Broker | SqlClient.SqlClient
> = layerConfig(settings.config)

/**
 * The service without background work, for programs that call `drain`
 * themselves, in a cron job or a test.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerManual = (
  options: Options = {}
): Layer.Layer<OutboxRelay, Settings.InvalidSetting, Broker.Broker | SqlClient.SqlClient> =>
  Layer.effect(
    OutboxRelay,
    Effect.map(
      make(options),
      ({ batch, dialect }) => OutboxRelay.of({ drain: drain(batch, dialect), health: Effect.succeed(undefined) })
    )
  )

/**
 * Publishes all rows that may be published now, through the program's relay.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const drainNow: Effect.Effect<number, SqlError | BrokerUnavailable, OutboxRelay> = Effect.flatMap(
  OutboxRelay,
  (relay) => relay.drain
)

// --- internal ---

type RunBatch = Workers.RunBatch<SqlError | BrokerUnavailable>

const nothing: Workers.Batch = { rows: 0, published: 0, isMore: false, retryIn: undefined }

/**
 * How many slots a batch takes: a share of them, so that several relays find
 * work at the same time.
 */
const slotsPerBatch = 8

const defaultRetryDelay = (attempts: number): Duration.Input => Math.min(1000 * 2 ** (attempts - 1), 300_000)

/** What the column takes: a failure after publishing would have all of the batch published again. */
const wholeMillis = (millis: number): number => Math.min(Math.max(Math.round(millis), 0), maxDelay)

/** 24 days. */
const maxDelay = 2 ** 31 - 1

const make = Effect.fnUntraced(function*(options: Options) {
  const sql = yield* SqlClient.SqlClient
  const broker = yield* Broker.Broker
  if (broker.name === Outbox.name) {
    return yield* settings.invalid(
      "Broker",
      "it would publish the outbox into the outbox; provide the real broker to the relay's layer"
    )
  }
  const { metrics } = yield* Telemetry.Settings
  const checked = yield* settings.check(options)
  const { afterDead, batchSize, concurrency, maxAttempts, retryDelay = defaultRetryDelay } = checked
  const dialect = Dialect.make(sql, yield* Tables.Tables, { holdAfterDead: afterDead === "hold" })
  const markDone = Duration.isZero(checked.retention) ? dialect.remove : dialect.markPublished
  const publishRows = Publishing.make(broker, {
    timeout: checked.publishTimeout,
    delay: (attempts, mayDie) =>
      mayDie && attempts >= maxAttempts
        ? null
        : wholeMillis(Duration.toMillis(Duration.fromInputUnsafe(retryDelay(attempts))))
  })

  const slotsAtOnce = Math.min(slotsPerBatch, batchSize)
  // Where to begin with the slots: every batch elsewhere, and every relay
  let first = yield* Random.nextIntBetween(0, slots)
  const nextOrder = (): ReadonlyArray<number> => {
    first = (first + slotsAtOnce) % slots
    return [...Dialect.allSlots.slice(first), ...Dialect.allSlots.slice(0, first)]
  }

  /** A broker that comes to the database itself must not do so in the relay's transaction. */
  const outside = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.updateContext(effect, Context.omit(sql.transactionService, SqlClient.BeginTransaction))

  const batch: RunBatch = (onWork) =>
    Effect.gen(function*() {
      const locked = yield* dialect.lockSlots(nextOrder(), slotsAtOnce)
      if (locked.slots.length === 0) return nothing
      const perSlot = Math.floor(batchSize / locked.slots.length)
      const rows = yield* dialect.pending(locked, perSlot)
      if (rows.length === 0) return nothing
      const behind = rows.filter((row) => row.behind)
      if (behind.length > 0) {
        const slots = [...new Set(behind.map(({ slot }) => slot))]
        yield* dialect.setAside(slots, behind.map(({ id }) => id))
        if (behind.length === rows.length) return { rows: rows.length, published: 0, isMore: true, retryIn: undefined }
      }
      yield* onWork
      const { failed, published } = yield* Effect.mapError(
        outside(publishRows(behind.length === 0 ? rows : rows.filter((row) => !row.behind))),
        ({ cause }) => new BrokerUnavailable({ broker: broker.name, cause })
      )
      if (published.length > 0) yield* markDone(published)
      if (failed.length > 0) yield* dialect.markFailed(failed)
      const waited = keysOf(rows.filter((row) => row.waits && !row.behind))
      const released = waited.length === 0 ? 0 : yield* dialect.release(waited)
      if (metrics) yield* OutboxMetrics.count(broker.name, published.length, failed.length)
      let retryIn: number | undefined
      for (const { delay } of failed) {
        if (delay !== null && (retryIn === undefined || delay < retryIn)) retryIn = delay
      }
      return {
        rows: rows.length,
        published: published.length,
        // With more workers, one of them may have been woken for rows in a slot that this one had locked
        isMore: concurrency > 1 || locked.slots.length === slotsAtOnce || rows.length >= perSlot || behind.length > 0 ||
          released > 0,
        retryIn
      }
    }).pipe(
      (transaction) => Connection.withTransaction(sql, checked.statementTimeout, transaction),
      Effect.provideService(SqlClient.BeginTransaction, dialect.beginBatch)
    )

  return { batch, checked, dialect }
})

/** Different ones. A row without a key waits for itself alone. */
const keysOf = (rows: ReadonlyArray<PendingRow>): ReadonlyArray<Dialect.Key> => {
  const keys = new Map<string, Dialect.Key>()
  for (const { key, topic } of rows) {
    if (key !== null) keys.set(JSON.stringify([topic, key]), { topic, key })
  }
  return [...keys.values()]
}

/** With fewer connections it would wait for ever for one that it has itself. */
const checkPool = (sql: SqlClient.SqlClient, concurrency: number): Effect.Effect<void, Settings.InvalidSetting> => {
  const has = Connection.maxConnectionsOf(sql)
  return has > concurrency ? Effect.void : settings.invalid(
    "maxConnections",
    `the PgClient has a pool of ${has}, and a relay needs ${concurrency + 1}: one for each of its concurrency, and ` +
      "one to listen"
  )
}

const drain = (batch: RunBatch, dialect: Dialect.Dialect): Effect.Effect<number, SqlError | BrokerUnavailable> =>
  Effect.gen(function*() {
    let published = 0
    yield* dialect.releaseOrphans
    while (true) {
      const done = yield* batch(Effect.void)
      published += done.published
      // Not `isMore`, which may miss what others were about to release
      if (done.rows === 0) return published
    }
  })

/** Deletes published rows of the past, and reads the gauges. */
const pruneAndMeasure = Effect.fnUntraced(function*(
  { metricsInterval, retention }: Pick<typeof settings.schema.Type, "retention" | "metricsInterval">
) {
  const { metrics } = yield* Telemetry.Settings
  yield* Periodically.fork(
    "Pruning the outbox",
    Duration.isZero(retention) || !Duration.isFinite(retention) ? Infinity : "1 minute",
    OutboxAdmin.prune({ olderThan: retention })
  )
  yield* Periodically.fork(
    "Reading the outbox's metrics",
    metrics ? metricsInterval : Infinity,
    Effect.flatMap(OutboxAdmin.status, OutboxMetrics.record)
  )
})
