/**
 * Mistakes that are easily made with this package, and what to write instead: `scripts/agents.ts` makes AGENTS.md of them.
 */
// @effect-diagnostics *:off
import { PgClient } from "@effect/sql-pg"
import { Command, EventConsumer, EventFlow, EventHandler, Inbox as CoreInbox, Mediator } from "@event-flow/core"
import { type Broker, MemoryBroker, NotificationEvent, type Subscriber } from "@event-flow/core"
import { Inbox, Migrations, Outbox, OutboxRelay, Transactional } from "@event-flow/sql-layer"
import { Config, Effect, Layer, Schema } from "effect"
import { SqlClient, SqlError } from "effect/sql"

class Paid extends NotificationEvent.Class<Paid>()("Paid", { order: Schema.String }, {
  topic: "orders",
  key: (event) => event.order
}) {}
class Pay extends Command.Class<Pay>()("Pay", {
  payload: { order: Schema.String },
  error: SqlError.SqlError,
  emits: [Paid],
  middleware: [Transactional.make()]
}) {}
class Shop extends EventFlow.make("Shop", { commands: [Pay] }) {}

const PayLive = Pay.toLayer(
  Effect.map(SqlClient.SqlClient, (sql) =>
    Effect.fnUntraced(function*({ order }, { collect }) {
      yield* sql`UPDATE orders SET state = 'paid' WHERE order_id = ${order}`
      yield* collect(new Paid({ order }))
    }))
)
const ShopLive = Shop.layer().pipe(Layer.provide(PayLive), Layer.provide(Outbox.layer()))

const Count = EventHandler.make("Count", { on: Paid, error: SqlError.SqlError })
const CountLive = Count.toLayer(
  Effect.map(SqlClient.SqlClient, (sql) => () => Effect.asVoid(sql`UPDATE totals SET paid = paid + 1`))
)

const PgLive = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })
declare const KafkaLive: Layer.Layer<Broker.Broker | Subscriber.Subscriber>

// # Make a command that writes and publishes one transaction
// Outside of a transaction, the outbox refuses a message: PublishError, reason TransactionRequired.
// Wrong:
{
  class Cancel extends Command.Class<Cancel>()("Cancel", { emits: [Paid] }) {}
}
// Instead:
{
  class Cancel extends Command.Class<Cancel>()("Cancel", { emits: [Paid], middleware: [Transactional.make()] }) {}
}

// # Give the outbox to the flow, and the broker to the relay
// A flow that has the broker itself publishes whether or not its transaction commits.
// Wrong:
{
  const Publishing = Shop.layer().pipe(Layer.provide(PayLive), Layer.provide(KafkaLive))
}
// Instead:
{
  const Publishing = Shop.layer().pipe(Layer.provide(PayLive), Layer.provide(Outbox.layer()))
  const Relay = OutboxRelay.layer().pipe(Layer.provide(KafkaLive))
  const Main = Layer.merge(Publishing, Relay).pipe(Layer.provide(PgLive))
}

// # Run a relay: nothing else empties the outbox
// Wrong:
{
  const Main = ShopLive.pipe(Layer.provide(PgLive))
}
// Instead:
{
  // Here or in a program of its own, as often as you like
  const Relay = OutboxRelay.layer().pipe(Layer.provide(KafkaLive))
  const Main = Layer.merge(ShopLive, Relay).pipe(Layer.provide(PgLive))
}

// # Have the tables made
// Wrong:
{
  const Database = PgLive
}
// Instead:
{
  // Or put the SQL of `Migrations.statements` into your own migrations
  const Database = Migrations.layer.pipe(Layer.provideMerge(PgLive))
}

// # Use one client for the handler, the outbox and the inbox
// A transaction belongs to a client. What goes through another one is not part of it.
// Wrong:
{
  const Main = Layer.merge(
    Shop.layer().pipe(Layer.provide(PayLive), Layer.provide(Outbox.layer().pipe(Layer.provide(Layer.fresh(PgLive))))),
    OutboxRelay.layer().pipe(Layer.provide(KafkaLive))
  ).pipe(Layer.provide(PgLive))
}
// Instead:
{
  const Main = Layer.merge(
    Shop.layer().pipe(Layer.provide(PayLive), Layer.provide(Outbox.layer())),
    OutboxRelay.layer().pipe(Layer.provide(KafkaLive))
  ).pipe(Layer.provide(PgLive))
}

// # Leave BEGIN and COMMIT to the middleware
// Wrong:
{
  Pay.toLayer(Effect.map(SqlClient.SqlClient, (sql) => ({ order }) =>
    Effect.gen(function*() {
      yield* sql`BEGIN`
      yield* sql`UPDATE orders SET state = 'paid' WHERE order_id = ${order}`
      yield* sql`COMMIT`
    })))
}
// Instead:
{
  Pay.toLayer(
    Effect.map(
      SqlClient.SqlClient,
      (sql) => ({ order }) => Effect.asVoid(sql`UPDATE orders SET state = 'paid' WHERE order_id = ${order}`)
    )
  )
}

// # Declare the failures of SQL
// The policy of a consumer retries a typed error. A defect is a bug to it, and so would a database be that is away.
// Wrong:
{
  const Archive = EventHandler.make("Archive", { on: Paid })
  Archive.toLayer(
    // @ts-expect-error SqlError is not in the handler's `error`: do not hide it with Effect.orDie
    Effect.map(
      SqlClient.SqlClient,
      (sql) => ({ order }: Paid) => Effect.asVoid(sql`UPDATE orders SET archived = true WHERE order_id = ${order}`)
    )
  )
}
// Instead:
{
  const Archive = EventHandler.make("Archive", { on: Paid, error: SqlError.SqlError })
  Archive.toLayer(
    Effect.map(
      SqlClient.SqlClient,
      (sql) => ({ order }) => Effect.asVoid(sql`UPDATE orders SET archived = true WHERE order_id = ${order}`)
    )
  )
}

// # Remember messages in the database that their handlers write to
// Message id and writes are one transaction then. The inbox in memory forgets when the program ends.
// Wrong:
{
  const Counting = EventConsumer.layer([Count], { group: "totals", dedupe: true }).pipe(
    Layer.provide([CountLive, CoreInbox.layerMemory(), KafkaLive]),
    Layer.provide(PgLive)
  )
}
// Instead:
{
  const Counting = EventConsumer.layer([Count], { group: "totals", dedupe: true }).pipe(
    Layer.provide([CountLive, Inbox.layer(), KafkaLive]),
    Layer.provide(PgLive)
  )
}

// # Keep what a transaction cannot undo out of it
// A call to another program is done even if the command rolls back, and is done again when it runs again. Announce the event, and
// do the call where it is consumed.
// Wrong:
{
  Pay.toLayer(() => Effect.promise(() => fetch("https://bank.example/charge", { method: "POST" })))
}
// Instead:
{
  const Charge = EventHandler.make("Charge", { on: Paid })
  Charge.toLayer(({ order }) =>
    // The bank can tell a repetition by the id
    Effect.promise(() => fetch(`https://bank.example/charge/${order}`, { method: "PUT" }))
  )
}

// # Publish when the test says so, without a sleep
// Wrong:
{
  const test = Effect.andThen(Mediator.send(new Pay({ order: "7" })), Effect.sleep("2 seconds"))
}
// Instead:
{
  const test = Effect.andThen(Mediator.send(new Pay({ order: "7" })), OutboxRelay.drainNow)
  const Test = Layer.merge(ShopLive, OutboxRelay.layerManual().pipe(Layer.provide(MemoryBroker.layer())))
  Effect.runPromise(test.pipe(Effect.provide(Test.pipe(Layer.provide(PgLive)))))
}
