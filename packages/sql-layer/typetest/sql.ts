/** What the types of transactions, outbox, relay and inbox promise. Checked by `tsc`, never run. */
// @effect-diagnostics missingEffectError:off
// @effect-diagnostics missingEffectContext:off
// @effect-diagnostics missingLayerContext:off
// @effect-diagnostics floatingEffect:off
import {
  type Broker,
  Command,
  DomainEvent,
  EventConsumer,
  EventFlow,
  type EventFlowError,
  EventHandler,
  type EventMap,
  Inbox as CoreInbox,
  Mediator,
  type Middleware,
  NotificationEvent,
  type Settings,
  type Subscriber
} from "@event-flow/core"
import { Inbox, Migrations, Outbox, OutboxAdmin, OutboxRelay, Tables, Transactional } from "@event-flow/sql-layer"
import * as OutboxCli from "@event-flow/sql-layer/OutboxCli"
import { Config, Context, Effect, Layer, Schedule, Schema, Stream } from "effect"
import { type CliError, Command as CliCommand } from "effect/cli"
import { type Migrator, SqlClient, type SqlError } from "effect/sql"
import {
  check,
  type Equals,
  type ErrorOf,
  type ProvidedBy,
  type ServicesOf,
  type SuccessOf
} from "../../core/typetest/support.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}
class Mails extends Context.Service<Mails, { readonly send: Effect.Effect<void> }>()("Mails") {}
class Placed extends DomainEvent.Class<Placed>()("Placed", { id: Schema.String }) {}
class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, { topic: "t" }) {}
const OnPlaced = EventHandler.make("OnPlaced", { on: Placed, emits: [Announced] })

// --- a command in a transaction ---

const transactional = Transactional.make()
check<
  Equals<typeof transactional, Middleware.Inline<never, typeof Transactional.TransactionError, SqlClient.SqlClient>>
>()
Transactional.make({ isolation: "serializable", schedule: Schedule.recurs(2) })
// @ts-expect-error: PostgreSQL has no dirty reads, and says read committed for this
Transactional.make({ isolation: "read uncommitted" })
// @ts-expect-error: no schedule
Transactional.make({ schedule: 3 })

class Place extends Command.Class<Place>()("Place", {
  success: Schema.Int,
  error: Boom,
  emits: [Placed, Announced],
  middleware: [transactional]
}) {}

// Whoever sends it sees that a transaction can fail, and needs no database for it
const place = Mediator.send(new Place())
check<Equals<ErrorOf<typeof place>, Boom | EventFlowError.EventFlowError | Transactional.TransactionError>>()
check<Equals<ServicesOf<typeof place>, Command.CommandFlow<"Place">>>()
check<Equals<Transactional.TransactionError["outcome"], "notStarted" | "rolledBack" | "unknown">>()
Effect.catchTag(place, "TransactionError", (error) => Effect.succeed(error.outcome === "unknown" ? 0 : 1))

// Its handler's layer does, whether or not the handler itself uses one
const PlaceLive = Place.toLayer(() => Effect.succeed(1))
check<Equals<ServicesOf<typeof PlaceLive>, SqlClient.SqlClient>>()
const PlaceWriting = Place.toLayer(
  [SqlClient.SqlClient, Mails],
  Effect.fnUntraced(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.orDie(sql`SELECT 1`)
    yield* Effect.flatMap(Mails, (mails) => mails.send)
    return 1
  })
)
check<Equals<ServicesOf<typeof PlaceWriting>, SqlClient.SqlClient | Mails>>()
// @ts-expect-error: a failure of the transaction is not the handler's to fail with
Place.toLayer(() => Effect.fail(new Transactional.TransactionError({ command: "", outcome: "unknown", cause: 0 })))
// @ts-expect-error: a failure of a statement is no error of the command that declares none
Place.toLayer([SqlClient.SqlClient], () => Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.as(sql`SELECT 1`, 1)))

class Import extends Command.Class<Import>()("Import", {
  success: Schema.Int,
  middleware: [transactional],
  stream: true
}) {}
const importing = Mediator.stream(new Import())
check<Equals<ErrorOf<typeof importing>, Transactional.TransactionError>>()
const ImportLive = Import.toLayer(() => Stream.make(1))
check<Equals<ServicesOf<typeof ImportLive>, SqlClient.SqlClient>>()

// --- the outbox ---

const outbox = Outbox.layer()
check<Equals<ProvidedBy<typeof outbox>, Broker.Broker>>()
check<Equals<ErrorOf<typeof outbox>, Settings.InvalidSetting>>()
check<Equals<ServicesOf<typeof outbox>, SqlClient.SqlClient>>()
// @ts-expect-error: no such option
Outbox.layer({ table: "outbox" })

class Shop extends EventFlow.make("Shop", { commands: [Place], handlers: [OnPlaced] }) {}
const flow = Shop.layer().pipe(Layer.provide([PlaceLive, outbox, OnPlaced.toLayer(() => Effect.void)]))
check<Equals<ServicesOf<typeof flow>, SqlClient.SqlClient>>()
// @ts-expect-error: a program without a database
export const main: Layer.Layer<Command.CommandFlow<"Place">, EventMap.DuplicateDefinition | Settings.InvalidSetting> =
  flow

// --- the relay ---

const relay = OutboxRelay.layer({ batchSize: 10, retryDelay: (attempts) => attempts * 1000, afterDead: "hold" })
check<Equals<ProvidedBy<typeof relay>, OutboxRelay.OutboxRelay>>()
check<Equals<ErrorOf<typeof relay>, Settings.InvalidSetting>>()
check<Equals<ServicesOf<typeof relay>, Broker.Broker | SqlClient.SqlClient>>()
const manual = OutboxRelay.layerManual()
check<Equals<ServicesOf<typeof manual>, Broker.Broker | SqlClient.SqlClient>>()
check<Equals<ErrorOf<typeof OutboxRelay.drainNow>, SqlError.SqlError | OutboxRelay.BrokerUnavailable>>()
check<Equals<ServicesOf<typeof OutboxRelay.drainNow>, OutboxRelay.OutboxRelay>>()
// @ts-expect-error: a relay without a broker
export const brokerless: Layer.Layer<OutboxRelay.OutboxRelay, Settings.InvalidSetting, SqlClient.SqlClient> = relay
// @ts-expect-error: a relay without a database
export const databaseless: Layer.Layer<OutboxRelay.OutboxRelay, Settings.InvalidSetting, Broker.Broker> = relay
// @ts-expect-error: what becomes of later rows is one of two
OutboxRelay.layer({ afterDead: "skip" })
// @ts-expect-error: no duration
OutboxRelay.layer({ pollInterval: "soon" })
const configured = OutboxRelay.layerConfig({ batchSize: Config.Int("BATCH"), pollInterval: Config.Duration("POLL") })
check<Equals<ErrorOf<typeof configured>, Settings.InvalidSetting | Config.ConfigError>>()
check<Equals<ErrorOf<typeof OutboxRelay.layerFromEnv>, Settings.InvalidSetting | Config.ConfigError>>()
// @ts-expect-error: no such option
OutboxRelay.layerConfig({ batch: Config.Int("BATCH") })

// --- the inbox ---

const inbox = Inbox.layer({ retention: "1 day", pruneInterval: Infinity })
check<Equals<ProvidedBy<typeof inbox>, CoreInbox.Inbox>>()
check<Equals<ErrorOf<typeof inbox>, Settings.InvalidSetting>>()
check<Equals<ServicesOf<typeof inbox>, SqlClient.SqlClient>>()

const React = EventHandler.make("React", { on: Announced })
type Needs = Subscriber.Subscriber | EventHandler.EventHandlerImplementation<"React"> | Broker.Broker
const deduping = EventConsumer.layer([React], { group: "g", dedupe: true })
check<Equals<ServicesOf<typeof deduping>, Needs | CoreInbox.Inbox>>()
const withInbox = deduping.pipe(Layer.provide(inbox))
check<Equals<ServicesOf<typeof withInbox>, Needs | SqlClient.SqlClient>>()
const careless = EventConsumer.layer([React], { group: "g" })
check<Equals<ServicesOf<typeof careless>, Needs>>()

// What is done once keeps its own type, error and services
const once = CoreInbox.Inbox.use((inbox) => inbox.once("c", "1", Effect.flatMap(Mails, () => Effect.fail(new Boom()))))
check<Equals<ErrorOf<typeof once>, Boom | CoreInbox.InboxError>>()
check<Equals<ServicesOf<typeof once>, CoreInbox.Inbox | Mails>>()

// --- tables ---

check<Equals<ProvidedBy<typeof Migrations.layer>, never>>()
check<Equals<ErrorOf<typeof Migrations.layer>, Migrator.MigrationError | SqlError.SqlError>>()
check<Equals<ServicesOf<typeof Migrations.layer>, SqlClient.SqlClient>>()
const tables = Tables.layer({ outbox: "app.outbox" })
check<Equals<ServicesOf<typeof tables>, never>>()
// @ts-expect-error: there is no such table
Tables.layer({ relay: "relay" })
// @ts-expect-error: there is no such table
Migrations.statements({ relay: "relay" })

// --- an operator ---

check<Equals<SuccessOf<ReturnType<typeof OutboxAdmin.redrive>>, number>>()
OutboxAdmin.redrive("all")
OutboxAdmin.redrive({ ids: [1n] })
// @ts-expect-error: ids are beyond what a number can be
OutboxAdmin.redrive({ ids: [1] })
// @ts-expect-error: it is said what
OutboxAdmin.redrive({})
// @ts-expect-error: it is said how old
OutboxAdmin.prune({ state: "dead" })
// @ts-expect-error: what waits is not pruned
OutboxAdmin.prune({ olderThan: "1 day", state: "pending" })
// @ts-expect-error: no state
OutboxAdmin.list({ state: "failed" })
check<Equals<ErrorOf<typeof OutboxAdmin.status>, SqlError.SqlError>>()
check<Equals<ServicesOf<typeof OutboxAdmin.status>, SqlClient.SqlClient>>()

const program = CliCommand.runWith(OutboxCli.command, { version: "1.0.0" })([])
check<Equals<ErrorOf<typeof program>, CliError.CliError>>()
check<Equals<ServicesOf<typeof program>, CliCommand.Environment>>()
