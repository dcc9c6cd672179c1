/** Relays, what they publish to, and what they publish, for the tests of both. */
import { PgClient } from "@effect/sql-pg"
import { it } from "@effect/vitest"
import { Broker } from "@event-flow/core"
import { Migrations, Outbox, OutboxRelay } from "@event-flow/sql-layer"
import { Context, Effect, Exit, Layer, References, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { message, textOf } from "./messages.ts"
import { clientLayer, type ClientOptions, eventually, freshDatabaseLayer, type FreshOptions } from "./support.ts"

export type Publish = Broker.Broker["Service"]["publish"]
export type Hook = (texts: ReadonlyArray<string>) => ReturnType<Publish>

export const rejected = (text: string) =>
  Broker.publishError(message(text), new Broker.Rejected({ detail: `poison ${text}` }))
export const unreachable = (text: string) =>
  Broker.publishError(message(text), new Broker.Unreachable({ detail: "connection refused" }))

/** A broker that keeps what it takes. Of what fails in a hook, it takes nothing. */
export interface Recorder {
  readonly layer: Layer.Layer<Broker.Broker>
  /** What it took, in order. */
  readonly log: () => ReadonlyArray<string>
  /** The same, by publish. */
  readonly batches: ReadonlyArray<ReadonlyArray<string>>
  /** What it was asked for, by publish, failures included. */
  readonly calls: ReadonlyArray<ReadonlyArray<string>>
}

export const recorder = (hook?: Hook, into: Array<ReadonlyArray<string>> = []): Recorder => {
  const calls: Array<ReadonlyArray<string>> = []
  return {
    layer: brokerLayer((messages) =>
      Effect.suspend(() => {
        const texts = messages.map(textOf)
        calls.push(texts)
        const record = Effect.sync(() => {
          into.push(texts)
        })
        return hook === undefined ? record : Effect.andThen(hook(texts), record)
      })
    ),
    log: () => into.flat(),
    batches: into,
    calls
  }
}

export const brokerLayer = (publish: Publish): Layer.Layer<Broker.Broker> =>
  Layer.succeed(Broker.Broker)({ name: "test", publish })

/** Fails on a publish that has one of them. */
export const failingOn = (fail: (text: string) => ReturnType<Publish> | undefined): Hook => (texts) => {
  for (const text of texts) {
    const failure = fail(text)
    if (failure !== undefined) return failure
  }
  return Effect.void
}

/** A database with the tables. */
export const database = (options: FreshOptions & ClientOptions = {}) =>
  Migrations.layer.pipe(
    Layer.provideMerge(freshDatabaseLayer(options)),
    // Faults are logged, and tests make many
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None")),
    Layer.orDie
  )

/** The outbox, which takes messages without a transaction, too. */
export const outbox = (options?: Outbox.Options) =>
  Effect.map(
    Layer.build(Outbox.layer({ allowOutsideTransaction: true, ...options })),
    (services) => Context.get(services, Broker.Broker)
  )

/** Puts messages into the outbox in one transaction, without telling anyone. */
export const put = (texts: ReadonlyArray<string>, topic?: string) =>
  Effect.scoped(Effect.flatMap(outbox({ notify: false }), ({ publish }) => {
    const [first, ...rest] = texts.map((text) => message(text, topic))
    return Effect.orDie(publish([first!, ...rest]))
  }))

export interface RunningRelay {
  readonly drain: OutboxRelay.OutboxRelay["Service"]["drain"]
  readonly close: Effect.Effect<void>
}

const build = (layer: Layer.Layer<OutboxRelay.OutboxRelay, unknown, SqlClient.SqlClient>) =>
  Effect.gen(function*() {
    const outer = yield* Effect.scope
    const scope = yield* Scope.fork(outer)
    const services = yield* Effect.orDie(Layer.buildWithScope(layer, scope))
    const { drain } = Context.get(services, OutboxRelay.OutboxRelay)
    return { drain, close: Scope.close(scope, Exit.void) } satisfies RunningRelay
  })

/** A relay that runs until its scope is closed, on the client of the test. */
export const startRelay = (broker: Layer.Layer<Broker.Broker>, options?: OutboxRelay.Options) =>
  build(OutboxRelay.layer(options).pipe(Layer.provide(broker)))

/** One that publishes when it is asked. */
export const manualRelay = (broker: Layer.Layer<Broker.Broker>, options?: OutboxRelay.Options) =>
  build(OutboxRelay.layerManual(options).pipe(Layer.provide(broker)))

/** A relay with connections of its own, as in another process. */
export const startRelayOn = (
  url: string,
  broker: Layer.Layer<Broker.Broker>,
  options?: OutboxRelay.Options,
  client?: ClientOptions
) => build(OutboxRelay.layer(options).pipe(Layer.provide(broker), Layer.provide(clientLayer(url, client))))

export interface Row {
  readonly text: string
  readonly state: string
  readonly attempts: number
  readonly last_error: string | null
  readonly waits: boolean
}

/** What is in the outbox, in order. */
export const rows = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<Row>`
    SELECT convert_from(body, 'UTF8') AS text, state, attempts, last_error,
      coalesce(next_attempt_at > clock_timestamp(), false) AS waits
    FROM event_flow_outbox ORDER BY id
  `
}).pipe(Effect.orDie)

/** Their texts alone. */
export const left = Effect.map(rows, (rows) => rows.map(({ text }) => text))

type Services = PgClient.PgClient | SqlClient.SqlClient | Scope.Scope

/** A test with a database, whose client may have options of its own. */
export const live = <E>(name: string, test: () => Effect.Effect<void, E, Services>, client?: ClientOptions) =>
  it.live(name, () => Effect.suspend(test).pipe(Effect.scoped, Effect.provide(database(client))))

/** Nothing but what is told of new rows wakes a relay. */
export const never = "1 hour"

/** The connections of this database that listen. */
export const listeners = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  return yield* sql<{ pid: number }>`
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'
  `
})

/** Waits for a relay that listens. */
export const listening = eventually("a relay to listen", Effect.map(listeners, (found) => found.length > 0))

/** Waits until the outbox is empty. */
export const empty = eventually("the outbox to be empty", Effect.map(left, (left) => left.length === 0))
