/**
 * Publishes the rows of the outbox to the real broker.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as Telemetry from "@event-flow/core/Telemetry"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Dialect from "./internal/dialect.ts"
import * as Periodically from "./internal/periodically.ts"
import * as Publishing from "./internal/publishing.ts"
import { slots } from "./internal/slot.ts"
import * as Outbox from "./Outbox.ts"
import * as OutboxAdmin from "./OutboxAdmin.ts"
import * as OutboxMetrics from "./OutboxMetrics.ts"
import * as Tables from "./Tables.ts"

/**
 * Options of a relay.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The maximum number of rows of a batch. A whole number from 1. Default: 500. */
  readonly batchSize?: number | undefined
  /**
   * How many batches, of different keys, are published at the same time. Each
   * holds a connection of the client's pool. A whole number from 1. Default: 1.
   */
  readonly concurrency?: number | undefined
  /** How often a relay looks for rows without being notified. Default: 1 second. */
  readonly pollInterval?: Duration.Input | undefined
  /** How long one publish may take. Default: 1 minute. */
  readonly publishTimeout?: Duration.Input | undefined
  /**
   * The number of attempts after which a row is dead, if its last failure is
   * not retryable (`PublishError.isRetryable`). A whole number from 1. Default:
   * 10.
   */
  readonly maxAttempts?: number | undefined
  /**
   * The delay before the next attempt, given how many attempts have failed.
   * Default: 1, 2, 4 ... seconds, at most 5 minutes.
   */
  readonly retryDelay?: ((attempts: number) => Duration.Input) | undefined
  /**
   * What happens to later rows of a key when a row of that key is dead: they
   * are published (`"continue"`), or they wait until the dead row is redriven
   * or pruned (`"hold"`). Default: `"continue"`.
   */
  readonly afterDead?: "continue" | "hold" | undefined
  /** How long published rows are kept. Default: 0, they are deleted when they are published. */
  readonly retention?: Duration.Input | undefined
  /** How long closing waits for batches that are being published, before it interrupts them. Default: 30 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How often the gauges of `OutboxMetrics` are read from the table, when metrics are on. Default: 15 seconds. */
  readonly metricsInterval?: Duration.Input | undefined
}

/**
 * The wiring or an option of a relay is wrong, so it cannot work.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class RelayConfigError
  extends Schema.TaggedError<RelayConfigError>("@event-flow/sql-layer/OutboxRelay/RelayConfigError")(
    "RelayConfigError",
    { option: Schema.String, detail: Schema.String }
  )
{
  override get message(): string {
    return `The outbox relay cannot work: ${this.option}: ${this.detail}`
  }
}

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
 * `pollInterval`.
 *
 * **Failures**
 *
 * When a batch fails, its keys are published one by one. If any row is
 * published, the failure belongs to the rows that are not: each of them waits
 * for its `retryDelay`, later rows of its key wait behind it, and all other
 * keys go on. After `maxAttempts` the row is dead; `OutboxAdmin` lists and
 * redrives dead rows. A retryable failure (`PublishError.isRetryable`) never
 * makes a row dead. If no row is published, the broker is away: rows stay
 * unchanged, and the relay tries again after 0.1 seconds, growing to 10.
 *
 * **Gotchas**
 *
 * The transaction is open while the broker works: an
 * `idle_in_transaction_session_timeout` must be longer than `publishTimeout`.
 * An acknowledged row is deleted: `MemoryBroker` acknowledges messages that die
 * with the process, so give the relay a broker that waits until they are
 * handled (`MemoryBroker.awaitIdle`), or a real one. Within one publish a
 * broker may refuse a message and accept a later one of its key: the later one
 * is published, and the key waits from then on. Listening takes a connection of
 * the pool, and each of `concurrency` takes another.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<OutboxRelay, RelayConfigError, Broker.Broker | SqlClient.SqlClient> =>
  Layer.effect(
    OutboxRelay,
    Effect.gen(function*() {
      const { batch, settings } = yield* make(options)
      yield* start(batch, settings)
      return OutboxRelay.of({ drain: drain(batch) })
    })
  )

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
): Layer.Layer<OutboxRelay, RelayConfigError, Broker.Broker | SqlClient.SqlClient> =>
  Layer.effect(OutboxRelay, Effect.map(make(options), ({ batch }) => OutboxRelay.of({ drain: drain(batch) })))

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

/** A batch: how many rows it took, and whether there may be more at once. */
interface Batch {
  readonly rows: number
  readonly published: number
  readonly isMore: boolean
  /** Milliseconds until the first row that failed may be tried again. */
  readonly retryIn: number | undefined
}

const nothing: Batch = { rows: 0, published: 0, isMore: false, retryIn: undefined }

/**
 * How many slots a batch takes: a share of them, so that several relays find
 * work at the same time.
 */
const slotsPerBatch = 8

interface Settings {
  readonly concurrency: number
  readonly pollInterval: Duration.Duration
  readonly drainTimeout: Duration.Duration
  readonly retention: Duration.Duration
  readonly metricsInterval: Duration.Duration
  readonly listen: Dialect.Dialect["listen"]
}

/** `onWork` is run when there are rows to publish. */
type RunBatch = (onWork: Effect.Effect<void>) => Effect.Effect<Batch, SqlError | BrokerUnavailable>

const defaultRetryDelay = (attempts: number): Duration.Input => Math.min(1000 * 2 ** (attempts - 1), 300_000)

/** What the column takes: a failure after publishing would have all of the batch published again. */
const wholeMillis = (millis: number): number => Math.min(Math.max(Math.round(millis), 0), maxDelay)

/** 24 days. */
const maxDelay = 2 ** 31 - 1

const requireCount = (option: string, value: number): Effect.Effect<number, RelayConfigError> =>
  Number.isInteger(value) && value >= 1
    ? Effect.succeed(value)
    : Effect.fail(new RelayConfigError({ option, detail: `must be a whole number from 1, not ${value}` }))

const make = Effect.fnUntraced(function*(options: Options) {
  const sql = yield* SqlClient.SqlClient
  const broker = yield* Broker.Broker
  if (broker.name === Outbox.name) {
    return yield* new RelayConfigError({
      option: "Broker",
      detail: "it would publish the outbox into the outbox; provide the real broker to the relay's layer"
    })
  }
  const { metrics } = yield* Telemetry.Settings
  const batchSize = yield* requireCount("batchSize", options.batchSize ?? 500)
  const concurrency = yield* requireCount("concurrency", options.concurrency ?? 1)
  const maxAttempts = yield* requireCount("maxAttempts", options.maxAttempts ?? 10)
  const dialect = Dialect.make(sql, yield* Tables.Tables, { holdAfterDead: options.afterDead === "hold" })
  const retention = Duration.fromInputUnsafe(options.retention ?? 0)
  const markDone = Duration.isZero(retention) ? dialect.remove : dialect.markPublished
  const retryDelay = options.retryDelay ?? defaultRetryDelay
  const publishRows = Publishing.make(broker, {
    timeout: Duration.fromInputUnsafe(options.publishTimeout ?? "1 minute"),
    delay: (attempts, isRetryable) =>
      !isRetryable && attempts >= maxAttempts
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
      if (locked.length === 0) return nothing
      const perSlot = Math.floor(batchSize / locked.length)
      const rows = yield* dialect.pending(locked, perSlot)
      if (rows.length === 0) return nothing
      yield* onWork
      const { failed, published } = yield* Effect.mapError(
        outside(publishRows(rows)),
        ({ cause }) => new BrokerUnavailable({ broker: broker.name, cause })
      )
      if (published.length > 0) yield* markDone(published)
      if (failed.length > 0) yield* dialect.markFailed(failed)
      if (metrics) yield* OutboxMetrics.count(broker.name, published.length, failed.length)
      let retryIn: number | undefined
      for (const { delay } of failed) {
        if (delay !== null && (retryIn === undefined || delay < retryIn)) retryIn = delay
      }
      return {
        rows: rows.length,
        published: published.length,
        // With more workers, one of them may have been woken for rows in a slot that this one had locked
        isMore: concurrency > 1 || locked.length === slotsAtOnce || rows.length >= perSlot,
        retryIn
      }
    }).pipe(sql.withTransaction, Effect.provideService(SqlClient.BeginTransaction, dialect.beginBatch))

  const settings: Settings = {
    concurrency,
    pollInterval: Duration.fromInputUnsafe(options.pollInterval ?? "1 second"),
    drainTimeout: Duration.fromInputUnsafe(options.drainTimeout ?? "30 seconds"),
    retention,
    metricsInterval: metrics ? Duration.fromInputUnsafe(options.metricsInterval ?? "15 seconds") : Duration.infinity,
    listen: dialect.listen
  }
  return { batch, settings }
})

const drain = (batch: RunBatch): Effect.Effect<number, SqlError | BrokerUnavailable> =>
  Effect.gen(function*() {
    let published = 0
    while (true) {
      const done = yield* batch(Effect.void)
      published += done.published
      // Not `isMore`, which may miss what others were about to release
      if (done.rows === 0) return published
    }
  })

/** Starts the workers; closing the scope lets them end their batches. */
const start = Effect.fnUntraced(function*(batch: RunBatch, settings: Settings) {
  // One token wakes one worker, which wakes the next when it finds work
  const tokens = yield* Queue.sliding<void>(settings.concurrency)
  const wake = Effect.asVoid(Queue.offer(tokens, undefined))
  const onWork = settings.concurrency === 1 ? Effect.void : wake
  let isClosing = false
  // When rows are due that have failed here: whatever else wakes a worker before must not make it forget
  let due: Array<number> = []

  const work = Effect.gen(function*() {
    let pause = settings.pollInterval
    let failures = 0
    while (!isClosing) {
      const startedAt = yield* Clock.currentTimeMillis
      const exit = yield* Effect.exit(batch(onWork))
      if (exit._tag === "Success") {
        failures = 0
        const now = yield* Clock.currentTimeMillis
        due = due.filter((at) => at > startedAt)
        // The database counts finer than milliseconds: not before the row is due
        if (exit.value.retryIn !== undefined) due.push(now + exit.value.retryIn + 1)
        if (exit.value.isMore) continue
        pause = Duration.min(settings.pollInterval, Duration.millis(earliest(due) - now))
      } else {
        failures++
        pause = outageDelay(failures)
        yield* Effect.logWarning(`The outbox relay tries again in ${Duration.format(pause)}`, exit.cause)
      }
      // A failing batch is not helped by new rows
      if (isClosing) return
      yield* failures > 0 ? awaitClosing(pause) : Effect.timeoutOption(Queue.take(tokens), pause)
    }
  })
  const closing = yield* Queue.sliding<void>(1)
  const awaitClosing = (pause: Duration.Duration) => Effect.timeoutOption(Queue.peek(closing), pause)

  yield* listenForever(settings.listen, wake)
  yield* Periodically.fork(
    "Pruning the outbox",
    Duration.isZero(settings.retention) || !Duration.isFinite(settings.retention) ? Duration.infinity : "1 minute",
    OutboxAdmin.prune({ olderThan: settings.retention })
  )
  yield* Periodically.fork(
    "Reading the outbox's metrics",
    settings.metricsInterval,
    Effect.flatMap(OutboxAdmin.status, OutboxMetrics.record)
  )
  const workers: Array<Fiber.Fiber<void>> = []
  for (let i = 0; i < settings.concurrency; i++) workers.push(yield* Effect.forkScoped(work))
  // After the workers: it runs before they are interrupted
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      isClosing = true
      Queue.offerUnsafe(closing, undefined)
      for (const _ of workers) Queue.offerUnsafe(tokens, undefined)
      return Effect.timeoutOrElse(Effect.interruptible(Fiber.awaitAll(workers)), {
        duration: settings.drainTimeout,
        orElse: () =>
          Effect.logWarning("The outbox relay did not end before the drain timeout: interrupting its batches")
      })
    })
  )
})

const earliest = (times: ReadonlyArray<number>): number =>
  times.reduce((first, time) => Math.min(first, time), Infinity)

const outageDelay = (failures: number): Duration.Duration =>
  Duration.millis(Math.min(100 * 2 ** (failures - 1), 10_000))

/** Listens again when the connection is lost; looking at intervals goes on meanwhile. */
const listenForever = (
  listen: Dialect.Dialect["listen"],
  wake: Effect.Effect<void>
): Effect.Effect<void, never, Scope.Scope> => {
  if (listen === undefined) return Effect.void
  const once = Effect.scoped(Effect.flatMap(listen, (notifications) =>
    // What was committed before it listened
    Effect.andThen(wake, Effect.forever(Effect.andThen(Queue.takeAll(notifications), wake)))))
  return once.pipe(
    Effect.tapCause((cause) =>
      Cause.hasInterrupts(cause)
        ? Effect.void
        : Effect.logWarning("The outbox relay is not told of new rows: it polls", cause)
    ),
    Effect.retry(Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("10 seconds")])),
    Effect.forkScoped,
    Effect.asVoid
  )
}
