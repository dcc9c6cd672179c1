/**
 * The books: what must add up, whatever has happened.
 */
import { OutboxAdmin } from "@event-flow/sql-layer"
import { Array, Effect } from "effect"
import { SqlClient } from "effect/sql"

/** Counts, units of stock, and money in cents. */
export interface Books {
  readonly orders: number
  readonly open: number
  readonly paid: number
  readonly outOfStock: number
  readonly refused: number
  readonly stockOpening: number
  readonly stockLeft: number
  readonly stockReserved: number
  readonly stockSold: number
  readonly moneyOpening: number
  readonly moneyLeft: number
  readonly moneyPaid: number
  /** How many events the customers' numbers say there are. */
  readonly announced: number
  /** The sum of the paid orders. */
  readonly paidOrders: number
  /** What the second flow has counted, over all customers and products. */
  readonly placedCounted: number
  readonly paidCounted: number
  readonly cancelledCounted: number
  readonly spentCounted: number
  readonly soldCounted: number
  readonly revenueCounted: number
  /** The sum of the latest number of each customer that was counted. */
  readonly latestCounted: number
  /** How many events were counted after a later one of their customer. */
  readonly lateCounted: number
  /** How many customers and products have other totals than their orders. */
  readonly customersOff: number
  readonly productsOff: number
  readonly outbox: OutboxAdmin.Status
}

/** The books of one moment, except for the outbox: a statement sees what was committed when it began. */
export const read = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<Omit<Books, "outbox">>`
    WITH
      orders AS (
        SELECT
          count(*) AS orders,
          count(*) FILTER (WHERE state = 'open') AS open,
          count(*) FILTER (WHERE state = 'paid') AS paid,
          count(*) FILTER (WHERE state = 'cancelled' AND reason = 'out of stock') AS "outOfStock",
          count(*) FILTER (WHERE state = 'cancelled' AND reason = 'payment refused') AS refused,
          coalesce(sum(total) FILTER (WHERE state = 'paid'), 0) AS "paidOrders"
        FROM shop.orders
      ),
      products AS (
        SELECT coalesce(sum(opening), 0) AS "stockOpening", coalesce(sum(in_stock), 0) AS "stockLeft" FROM shop.products
      ),
      lines AS (
        SELECT
          coalesce(sum(quantity) FILTER (WHERE state = 'open'), 0) AS "stockReserved",
          coalesce(sum(quantity) FILTER (WHERE state = 'paid'), 0) AS "stockSold"
        FROM shop.lines JOIN shop.orders USING (order_id)
      ),
      customers AS (
        SELECT
          coalesce(sum(opening), 0) AS "moneyOpening", coalesce(sum(money), 0) AS "moneyLeft",
          coalesce(sum(announced), 0) AS announced
        FROM shop.customers
      ),
      payments AS (SELECT coalesce(sum(amount), 0) AS "moneyPaid" FROM shop.payments),
      customers_counted AS (
        SELECT
          coalesce(sum(placed), 0) AS "placedCounted", coalesce(sum(paid), 0) AS "paidCounted",
          coalesce(sum(cancelled), 0) AS "cancelledCounted", coalesce(sum(spent), 0) AS "spentCounted",
          coalesce(sum(latest), 0) AS "latestCounted", coalesce(sum(late), 0) AS "lateCounted"
        FROM totals.customers
      ),
      products_counted AS (
        SELECT coalesce(sum(sold), 0) AS "soldCounted", coalesce(sum(revenue), 0) AS "revenueCounted"
        FROM totals.products
      ),
      customers_off AS (
        SELECT count(*) AS "customersOff"
        FROM totals.customers t
        FULL JOIN (
          SELECT
            customer, count(*) AS placed, count(*) FILTER (WHERE state = 'paid') AS paid,
            count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
            coalesce(sum(total) FILTER (WHERE state = 'paid'), 0) AS spent
          FROM shop.orders GROUP BY customer
        ) o USING (customer)
        WHERE (t.placed, t.paid, t.cancelled, t.spent) IS DISTINCT FROM (o.placed, o.paid, o.cancelled, o.spent)
      ),
      products_off AS (
        SELECT count(*) AS "productsOff"
        FROM totals.products t
        FULL JOIN (
          SELECT product, sum(quantity) AS sold, sum(quantity * price) AS revenue
          FROM shop.lines JOIN shop.orders USING (order_id) WHERE state = 'paid' GROUP BY product
        ) o USING (product)
        WHERE (t.sold, t.revenue) IS DISTINCT FROM (o.sold, o.revenue)
      )
    SELECT * FROM orders, products, lines, customers, payments, customers_counted, products_counted, customers_off,
      products_off
  `
  // PostgreSQL counts and adds in types that are larger than a number
  const numbers = Object.fromEntries(Object.entries(row!).map(([name, value]) => [name, Number(value)]))
  return { ...numbers, outbox: yield* OutboxAdmin.status } as Books
})

/** Whether all that was announced has been counted, or never will be. */
export const isCaughtUp = (books: Books): boolean =>
  books.outbox.dead > 0 ||
  (books.outbox.pending === 0 &&
    books.placedCounted + books.paidCounted + books.cancelledCounted >=
      books.orders + books.paid + books.outOfStock + books.refused)

/** What does not add up; nothing when the books balance. */
export const differences = (books: Books): ReadonlyArray<string> => {
  const cancelled = books.outOfStock + books.refused
  const sums: ReadonlyArray<readonly [what: string, expected: number, actual: number]> = [
    ["orders placed = paid + cancelled + open", books.orders, books.paid + cancelled + books.open],
    [
      "stock opening = left + reserved + sold",
      books.stockOpening,
      books.stockLeft + books.stockReserved + books.stockSold
    ],
    ["money opening = left + paid", books.moneyOpening, books.moneyLeft + books.moneyPaid],
    ["money paid = sum of paid orders", books.moneyPaid, books.paidOrders],
    ["events = placed + paid + cancelled", books.announced, books.orders + books.paid + cancelled],
    ["events = latest counted", books.announced, books.latestCounted],
    ["events counted after a later one", 0, books.lateCounted],
    ["orders placed = counted", books.orders, books.placedCounted],
    ["orders paid = counted", books.paid, books.paidCounted],
    ["orders cancelled = counted", cancelled, books.cancelledCounted],
    ["money paid = counted as spent", books.moneyPaid, books.spentCounted],
    ["money paid = counted as revenue", books.moneyPaid, books.revenueCounted],
    ["stock sold = counted", books.stockSold, books.soldCounted],
    ["customers with wrong totals", 0, books.customersOff],
    ["products with wrong totals", 0, books.productsOff],
    ["messages in the outbox", 0, books.outbox.pending],
    ["dead messages in the outbox", 0, books.outbox.dead]
  ]
  return Array.flatMap(
    sums,
    ([what, expected, actual]) => expected === actual ? [] : [`${what}: ${expected} and ${actual}`]
  )
}

export const render = (books: Books): string => {
  const number = (value: number) => value.toLocaleString("en-US")
  const money = (cents: number) => (cents / 100).toLocaleString("en-US", { minimumFractionDigits: 2 })
  const cancelled = books.outOfStock + books.refused
  return [
    [
      "Orders",
      `${number(books.orders)} placed = ${number(books.paid)} paid + ${number(cancelled)} cancelled` +
      ` (${number(books.outOfStock)} out of stock, ${number(books.refused)} payment refused) + ${
        number(books.open)
      } open`
    ],
    [
      "Stock",
      `${number(books.stockOpening)} units = ${number(books.stockLeft)} left + ${number(books.stockSold)} sold` +
      ` + ${number(books.stockReserved)} reserved`
    ],
    ["Money", `${money(books.moneyOpening)} = ${money(books.moneyLeft)} left + ${money(books.moneyPaid)} paid`],
    ["Paid orders", money(books.paidOrders)],
    [
      "Counted",
      `${number(books.placedCounted)} placed, ${number(books.paidCounted)} paid, ` +
      `${number(books.cancelledCounted)} cancelled, ${money(books.spentCounted)} spent`
    ],
    ["", `${number(books.soldCounted)} units sold for ${money(books.revenueCounted)}`],
    ["Events", `${number(books.announced)} announced, ${number(books.lateCounted)} counted out of order`],
    ["Outbox", `${number(books.outbox.pending)} to publish, ${number(books.outbox.dead)} dead`]
  ].map(([name, text]) => `${name!.padEnd(12)} ${text}`).join("\n")
}
