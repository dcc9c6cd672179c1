/** A flow that writes and announces at each of its steps, in one transaction, for the tests of what belongs together. */
import type { PgClient } from "@effect/sql-pg"
import {
  Broker,
  type Collect,
  Command,
  DomainEvent,
  EventFlow,
  EventHandler,
  type EventProcessor,
  type Message,
  NotificationEvent
} from "@event-flow/core"
import { Migrations, Outbox, OutboxRelay, Transactional } from "@event-flow/sql-layer"
import { Deferred, Effect, Layer, References, Schema } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { type ClientOptions, freshDatabaseLayer, type FreshOptions } from "./support.ts"

export class Boom extends Schema.TaggedError<Boom>()("Boom", {
  id: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

export const Failure = Schema.Union([Boom, SqlError.SqlError])
export type Failure = typeof Failure.Type

export class Placed extends DomainEvent.Class<Placed>()("Placed", { id: Schema.String }) {}
/** The follow-up. */
export class Checked extends DomainEvent.Class<Checked>()("Checked", { id: Schema.String }) {}
export class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, {
  topic: "orders",
  key: (event) => event.id
}) {}

export const emits = [Placed, Checked, Announced] as const
export type AnyEvent = InstanceType<typeof emits[number]>

const common = { payload: { id: Schema.String }, success: Schema.String, error: Failure, emits } as const

export class Place extends Command.Class<Place>()("Place", { ...common, middleware: [Transactional.make()] }) {}
export class PlaceSerializably extends Command.Class<PlaceSerializably>()("PlaceSerializably", {
  ...common,
  middleware: [Transactional.make({ isolation: "serializable" })]
}) {}

export const OnPlaced = EventHandler.make("OnPlaced", { on: Placed, emits, error: Failure })
export const OnChecked = EventHandler.make("OnChecked", { on: Checked, emits, error: Failure })

export type Handle<Self, A = void> = (
  self: Self,
  context: Collect.Collect<AnyEvent>
) => Effect.Effect<A, Failure, SqlClient.SqlClient>

export interface FlowOptions extends EventProcessor.Options {
  /** What the commands do; default: write "handler", collect an order and a message. */
  readonly place?: Handle<{ readonly id: string }, string>
  /** Default: writes "placed", collects the follow-up and a message. */
  readonly onPlaced?: Handle<Placed>
  /** Default: writes "checked", collects a message. */
  readonly onChecked?: Handle<Checked>
  readonly outbox?: Outbox.Options
  readonly client?: ClientOptions & FreshOptions
}

/** Writes a row, through whatever transaction there is. */
export const write = (what: string): Effect.Effect<void, SqlError.SqlError, SqlClient.SqlClient> =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.asVoid(sql`INSERT INTO writes (what) VALUES (${what})`))

export const place: Handle<{ readonly id: string }, string> = ({ id }, { collectAll }) =>
  Effect.as(
    Effect.andThen(write(`${id} handler`), collectAll([new Placed({ id }), new Announced({ id: `${id} handler` })])),
    id
  )
export const onPlaced: Handle<Placed> = ({ id }, { collectAll }) =>
  Effect.andThen(write(`${id} placed`), collectAll([new Checked({ id }), new Announced({ id: `${id} placed` })]))
export const onChecked: Handle<Checked> = ({ id }, { collect }) =>
  Effect.andThen(write(`${id} checked`), collect(new Announced({ id: `${id} checked` })))

/** What the handlers ask for. */
export const needsSql = [SqlClient.SqlClient] as const

const tables = Layer.effectDiscard(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE writes (id int GENERATED ALWAYS AS IDENTITY, what text NOT NULL)`
}))

/** A database with all tables. */
export const database = (
  options?: FlowOptions["client"]
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient> =>
  tables.pipe(
    Layer.provideMerge(Migrations.layer),
    Layer.provideMerge(freshDatabaseLayer(options)),
    // Failures that a processor logs, too
    Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Fatal")),
    Layer.orDie
  )

export class Orders
  extends EventFlow.make("Orders", { commands: [Place, PlaceSerializably], handlers: [OnPlaced, OnChecked] })
{}

/** The flow over a client, which somebody provides. */
export const flowOver = (
  { concurrency, maxDepth, onChecked: checked, onFailure, onPlaced: placed, outbox, place: handle }: FlowOptions
) =>
  Orders.layer({ concurrency, maxDepth, onFailure }).pipe(
    Layer.provide([Place.toLayer(needsSql, handle ?? place), PlaceSerializably.toLayer(needsSql, handle ?? place)]),
    Layer.provide([OnPlaced.toLayer(needsSql, placed ?? onPlaced), OnChecked.toLayer(needsSql, checked ?? onChecked)]),
    Layer.provide(Outbox.layer(outbox))
  )

export const flow = (options: FlowOptions = {}) => flowOver(options).pipe(Layer.provideMerge(database(options.client)))

/** What has been written and committed, in order. */
export const written = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ what: string }>`SELECT what FROM writes ORDER BY id`
  return rows.map((row) => row.what)
})

/** The messages in the outbox, in order. */
export const announced = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ key: string }>`SELECT key FROM event_flow_outbox ORDER BY id`
  return rows.map((row) => row.key)
})

/** Nothing has been written, and nothing announced. */
export const nothing = Effect.all([written, announced]).pipe(Effect.map((all) => all.flat()))

/** A failure of a statement with this code, which PostgreSQL itself makes. */
export const raise = (code: string): Effect.Effect<void, SqlError.SqlError, SqlClient.SqlClient> =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => Effect.asVoid(sql.unsafe(`DO $$ BEGIN RAISE EXCEPTION 'made' USING ERRCODE = '${code}'; END $$`))
  )

/** Until the time that is given, every attempt is in conflict with others, who are not there. */
export const conflicts = (times: number) => {
  let attempts = 0
  return {
    /** How often it was tried. */
    get attempts() {
      return attempts
    },
    run: Effect.suspend(() => ++attempts <= times ? raise("40001") : Effect.void)
  }
}

/** A broker that keeps what it is given, for a relay that drains into it. */
export const recorder = () => {
  const batches: Array<ReadonlyArray<Message.Message>> = []
  const layer = Layer.succeed(Broker.Broker)({
    name: "recorder",
    publish: (messages) => Effect.sync(() => void batches.push([...messages]))
  })
  return {
    batches,
    layer,
    get messages() {
      return batches.flat()
    },
    /** Empties the outbox into it. */
    drain: OutboxRelay.drainNow.pipe(
      Effect.provide(OutboxRelay.layerManual().pipe(Layer.provide(layer), Layer.fresh))
    )
  }
}

/** Waits for a second one that comes here, once; whoever comes later does not wait. */
export const meeting = () => {
  const both = Deferred.makeUnsafe<void>()
  let arrived = 0
  return Effect.suspend(() => {
    if (++arrived === 2) Deferred.doneUnsafe(both, Effect.void)
    return Deferred.await(both)
  })
}
