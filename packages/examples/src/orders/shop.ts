/**
 * The first flow: the shop. Each command is one transaction: its handler, the handlers of its domain
 * events, and the notification events, which go into the outbox.
 *
 *     PlaceOrder ─┬─ OrderPlaced ─── ReserveStock ─ ─ OrderFailed ─── CancelOrder ─── OrderCancelled ─── outbox
 *                 └─ OrderReceived ─── outbox
 *     PayOrder ─┬─ OrderPaid ─── outbox
 *               └ ─ PaymentRefused ─── ReleaseStock ─── OrderFailed ─── CancelOrder ─── OrderCancelled ─── outbox
 */
import { EventFlow, EventHandler } from "@event-flow/core"
import { Outbox } from "@event-flow/sql-layer"
import { Array, Data, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { inLockOrder, orDie } from "./database.ts"
import {
  type Line,
  OrderCancelled,
  OrderFailed,
  OrderPaid,
  OrderPlaced,
  OrderReceived,
  PaymentRefused,
  PayOrder,
  PlaceOrder,
  UnknownOrder,
  UnknownProduct
} from "./domain.ts"

/**
 * The number of the customer's next event. It locks the customer until the transaction ends, so numbers are in the order
 * of commits. The outbox keeps this order on the way to the broker.
 */
const nextNumber = Effect.fnUntraced(function*(customer: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ announced: number }>`
    UPDATE shop.customers SET announced = announced + 1 WHERE customer = ${customer} RETURNING announced
  `
  return row!.announced
})

const PlaceOrderLive = PlaceOrder.toLayer(
  // The services that it asks for while it runs
  [SqlClient.SqlClient],
  Effect.fn("PlaceOrder")(function*({ customer, lines, order }, { collectAll }) {
    const sql = yield* SqlClient.SqlClient
    const known = yield* sql<{ product: string; price: number }>`
      SELECT product, price FROM shop.products WHERE ${sql.in("product", lines.map(({ product }) => product))}
    `
    const prices = new Map(known.map(({ price, product }) => [product, price]))
    const unknown = lines.find(({ product }) => !prices.has(product))
    // A command that fails leaves nothing behind and announces nothing
    if (unknown !== undefined) return yield* new UnknownProduct({ product: unknown.product })
    const rows = Array.map(lines, ({ product, quantity }) => ({
      order_id: order,
      product,
      quantity,
      price: prices.get(product)!
    }))
    const total = rows.reduce((sum, { price, quantity }) => sum + price * quantity, 0)
    const inserted = yield* sql`
      INSERT INTO shop.orders ${sql.insert({ order_id: order, customer, state: "open", total })}
      ON CONFLICT (order_id) DO NOTHING RETURNING order_id
    `
    // The order exists: its events were collected when it was placed
    if (inserted.length === 0) return
    yield* sql`INSERT INTO shop.lines ${sql.insert(rows)}`
    const number = yield* nextNumber(customer)
    yield* collectAll([
      new OrderPlaced({ order, customer, lines }),
      new OrderReceived({ order, customer, number, lines })
    ])
  }, orDie)
)

const ReserveStock = EventHandler.make("ReserveStock", { on: OrderPlaced, emits: [OrderFailed] })

class OutOfStock extends Data.TaggedError("OutOfStock") {}

const ReserveStockLive = ReserveStock.toLayer(
  [SqlClient.SqlClient],
  Effect.fn("ReserveStock")(function*({ customer, lines, order }, { collect }) {
    const sql = yield* SqlClient.SqlClient
    const reserve = (line: Line) =>
      sql`
        UPDATE shop.products SET in_stock = in_stock - ${line.quantity}
        WHERE product = ${line.product} AND in_stock >= ${line.quantity} RETURNING product
      `.pipe(Effect.filterOrFail((taken) => taken.length > 0, () => new OutOfStock()))
    yield* Effect.forEach(inLockOrder(lines), reserve).pipe(
      // All of it or nothing: within the transaction of the command this is a savepoint
      sql.withTransaction,
      Effect.catchTag("OutOfStock", () => collect(new OrderFailed({ order, customer, reason: "out of stock" })))
    )
  }, orDie)
)

const PayOrderLive = PayOrder.toLayer(
  [SqlClient.SqlClient],
  Effect.fn("PayOrder")(function*({ order }, { collect }) {
    const sql = yield* SqlClient.SqlClient
    const [found] = yield* sql<{ customer: string; state: "open" | "paid" | "cancelled"; total: number }>`
      SELECT customer, state, total FROM shop.orders WHERE order_id = ${order} FOR NO KEY UPDATE
    `
    if (found === undefined) return yield* new UnknownOrder({ order })
    const { customer, state, total } = found
    if (state !== "open") return state
    // Every command locks an order, its customer and its products in this sequence: they wait, but never for each other
    yield* sql`SELECT FROM shop.customers WHERE customer = ${customer} FOR NO KEY UPDATE`
    const lines = (yield* sql`
      SELECT product, quantity, price FROM shop.lines WHERE order_id = ${order} ORDER BY product
    `) as unknown as Array.NonEmptyReadonlyArray<{ product: string; quantity: number; price: number }>
    const taken = yield* sql`
      UPDATE shop.customers SET money = money - ${total}
      WHERE customer = ${customer} AND money >= ${total} RETURNING customer
    `
    if (taken.length === 0) {
      // Not an error, which would undo what follows from it
      yield* collect(new PaymentRefused({ order, customer, lines }))
      return "cancelled"
    }
    yield* sql`INSERT INTO shop.payments ${sql.insert({ order_id: order, customer, amount: total })}`
    yield* sql`UPDATE shop.orders SET state = 'paid' WHERE order_id = ${order}`
    yield* collect(new OrderPaid({ order, customer, number: yield* nextNumber(customer), lines, total }))
    return "paid"
  }, orDie)
)

const ReleaseStock = EventHandler.make("ReleaseStock", { on: PaymentRefused, emits: [OrderFailed] })

const ReleaseStockLive = ReleaseStock.toLayer(
  [SqlClient.SqlClient],
  Effect.fn("ReleaseStock")(function*({ customer, lines, order }, { collect }) {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.forEach(
      inLockOrder(lines),
      ({ product, quantity }) =>
        sql`UPDATE shop.products SET in_stock = in_stock + ${quantity} WHERE product = ${product}`
    )
    yield* collect(new OrderFailed({ order, customer, reason: "payment refused" }))
  }, orDie)
)

const CancelOrder = EventHandler.make("CancelOrder", { on: OrderFailed, emits: [OrderCancelled] })

const CancelOrderLive = CancelOrder.toLayer(
  [SqlClient.SqlClient],
  Effect.fn("CancelOrder")(function*({ customer, order, reason }, { collect }) {
    const sql = yield* SqlClient.SqlClient
    yield* sql`UPDATE shop.orders SET state = 'cancelled', reason = ${reason} WHERE order_id = ${order}`
    yield* collect(new OrderCancelled({ order, customer, number: yield* nextNumber(customer), reason }))
  }, orDie)
)

class Shop extends EventFlow.make("Shop", {
  commands: [PlaceOrder, PayOrder],
  handlers: [ReserveStock, ReleaseStock, CancelOrder]
}) {}

/** Handles `PlaceOrder` and `PayOrder`; needs the database. */
export const ShopLive = Shop.layer({ source: "/examples/orders" }).pipe(
  Layer.provide([PlaceOrderLive, PayOrderLive, ReserveStockLive, ReleaseStockLive, CancelOrderLive]),
  // Its broker is a table in the transaction of the command
  Layer.provide(Outbox.layer())
)
