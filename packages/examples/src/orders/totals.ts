/**
 * The second flow: what customers have spent and what of a product was sold, from the shop's
 * notification events. It reads no table of the shop, and could be another program with another database.
 *
 *     broker ─── OrderReceived ─── CountReceived
 *            ─── OrderPaid ─── CountPaid
 *            ─── OrderCancelled ─── CountCancelled
 */
import { Broker, ConsumerPolicy, EventConsumer, EventFlow, EventHandler } from "@event-flow/core"
import { Inbox } from "@event-flow/sql-layer"
import { Effect, Layer } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { inLockOrder } from "./database.ts"
import { OrderCancelled, OrderPaid, OrderReceived } from "./domain.ts"

export const totalsGroup = "totals"

// A typed error: the consumer's policy retries it
const error = SqlError.SqlError

/** Counts an event of a customer, and whether it came after a later one. */
const inOrder = `latest = greatest(t.latest, excluded.latest), late = t.late + (excluded.latest < t.latest)::int`

const CountReceived = EventHandler.make("CountReceived", { on: OrderReceived, error })

const CountReceivedLive = CountReceived.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Effect.fn("CountReceived")(function*({ customer, number }) {
    yield* sql`
      INSERT INTO totals.customers AS t (customer, placed, latest) VALUES (${customer}, 1, ${number})
      ON CONFLICT (customer) DO UPDATE SET placed = t.placed + 1, ${sql.literal(inOrder)}
    `
  })
}))

const CountPaid = EventHandler.make("CountPaid", { on: OrderPaid, error })

const CountPaidLive = CountPaid.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Effect.fn("CountPaid")(function*({ customer, lines, number, total }) {
    yield* sql`
      INSERT INTO totals.customers AS t (customer, paid, spent, latest) VALUES (${customer}, 1, ${total}, ${number})
      ON CONFLICT (customer) DO UPDATE
      SET paid = t.paid + 1, spent = t.spent + excluded.spent, ${sql.literal(inOrder)}
    `
    yield* Effect.forEach(inLockOrder(lines), ({ price, product, quantity }) =>
      sql`
        INSERT INTO totals.products AS t (product, sold, revenue) VALUES (${product}, ${quantity}, ${quantity * price})
        ON CONFLICT (product) DO UPDATE SET sold = t.sold + excluded.sold, revenue = t.revenue + excluded.revenue
      `)
  })
}))

const CountCancelled = EventHandler.make("CountCancelled", { on: OrderCancelled, error })

const CountCancelledLive = CountCancelled.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Effect.fn("CountCancelled")(function*({ customer, number }) {
    yield* sql`
      INSERT INTO totals.customers AS t (customer, cancelled, latest) VALUES (${customer}, 1, ${number})
      ON CONFLICT (customer) DO UPDATE SET cancelled = t.cancelled + 1, ${sql.literal(inOrder)}
    `
  })
}))

class Totals extends EventFlow.make("Totals", { handlers: [CountReceived, CountPaid, CountCancelled] }) {}

/** Without end: the database comes back. */
const untilItIsBack = ConsumerPolicy.retry(ConsumerPolicy.inboxSchedule)

/** Totals that miss an order stay wrong. A message that cannot be counted stops the consumer, unacknowledged. */
const policy = ConsumerPolicy.total(Totals, {
  errors: { SqlError: untilItIsBack },
  undecodable: ConsumerPolicy.stop,
  defect: ConsumerPolicy.stop,
  inbox: untilItIsBack
})

/** Counts in the background; needs a subscriber and the database. A message counts once, however often it comes. */
export const TotalsLive = EventConsumer.layer(Totals, {
  group: totalsGroup,
  concurrency: 4,
  dedupe: true,
  policy
}).pipe(
  Layer.provide(Totals.layer()),
  // It publishes nothing: neither events nor dead letters
  Layer.provide([CountReceivedLive, CountPaidLive, CountCancelledLive, Inbox.layer(), Broker.layerNone])
)
