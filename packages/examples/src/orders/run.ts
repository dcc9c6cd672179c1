/**
 * A run: opens the shop, has customers place and pay orders, waits for the totals, and prints the books. All of it in one
 * process, or each part in processes of its own.
 */
import { EventConsumer, Mediator } from "@event-flow/core"
import { OutboxRelay } from "@event-flow/sql-layer"
import { Array, Clock, Console, Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import * as Books from "./books.ts"
import * as Broker from "./broker.ts"
import * as Database from "./database.ts"
import { PayOrder, PlaceOrder } from "./domain.ts"
import { ShopLive } from "./shop.ts"
import { TotalsLive } from "./totals.ts"

/**
 * What a process does: everything; or it places and pays orders, publishes the outbox, or counts. Of each there may be
 * several.
 */
export const roles = ["all", "shop", "relay", "totals"] as const

export interface Options {
  readonly role: (typeof roles)[number]
  /** How many orders there are at the end; those of earlier runs count. */
  readonly orders: number
  readonly customers: number
  readonly products: number
  /** Units of each product when the shop opens. */
  readonly stock: number
  /** Cents that each customer has then. */
  readonly money: number
  /** How many customers are served at once. */
  readonly concurrency: number
  /** How many orders are placed in a second, at most. */
  readonly rate?: number | undefined
  readonly broker: Broker.BrokerName
}

/** Something was lost or counted twice, or the totals have not caught up. */
export class OutOfBalance extends Schema.TaggedError<OutOfBalance>()("OutOfBalance", {
  differences: Schema.Array(Schema.String)
}) {
  override get message() {
    return `The books do not balance:\n${this.differences.map((line) => `  ${line}`).join("\n")}`
  }
}

/** The broker in memory is in one process. */
export class NotShared extends Schema.TaggedError<NotShared>()("NotShared", { role: Schema.String }) {
  override get message() {
    return `--role ${this.role} needs a broker that other processes reach: --broker kafka or --broker rabbitmq`
  }
}

export const run = Effect.fnUntraced(function*(options: Options) {
  const { broker, concurrency, role } = options
  if (role !== "all" && broker === "memory") return yield* new NotShared({ role })
  const url = yield* Broker.required("DATABASE_URL", "postgres")
  const database = Database.layer(url, {
    // One for each command, and some for the relay, its listener and the totals
    maxConnections: concurrency + 8
  })
  const carried = Layer.provideMerge(Broker.layer(broker), database)
  // A consumer that has ended counts nothing
  const counting = EventConsumer.EventConsumer.use(({ join }) => join)
  const ready = Console.log(`ready role=${role}`)
  switch (role) {
    case "all":
      return yield* Effect.raceFirst(trade(options), counting).pipe(
        Effect.provide(ShopLive.pipe(
          Layer.provideMerge(OutboxRelay.layerFromEnv),
          // Below the relay: subscribed before it publishes, and closed after it
          Layer.provideMerge(TotalsLive),
          Layer.provideMerge(carried)
        ))
      )
    case "shop":
      return yield* Effect.provide(trade(options), Layer.provideMerge(ShopLive, database))
    case "relay":
      return yield* Effect.provide(
        Effect.andThen(ready, Effect.never),
        Layer.provide(OutboxRelay.layerFromEnv, carried)
      )
    case "totals":
      return yield* Effect.provide(Effect.andThen(ready, counting), Layer.provide(TotalsLive, carried))
  }
})

const trade = Effect.fnUntraced(function*(options: Options) {
  yield* open(options)
  const settled = new Set(yield* settledOrders)
  const orders = Array.range(1, options.orders).map((number) => toOrder(number, options))
    .filter(({ order }) => !settled.has(order))
  let done = options.orders - orders.length
  const progress = Effect.suspend(() => Console.log(`progress settled=${done} orders=${options.orders}`))

  yield* progress
  const inTurn = options.rate === undefined ? Effect.void : pace(options.rate)
  yield* Effect.forEach(orders, (order) =>
    inTurn.pipe(
      Effect.andThen(placeAndPay(order)),
      Effect.andThen(
        Effect.suspend(() => ++done % progressEvery === 0 || done === options.orders ? progress : Effect.void)
      )
    ), { concurrency: options.concurrency, discard: true })
  const books = yield* caughtUp

  yield* Console.log(`\n${Books.render(books)}\n`)
  const differences = Books.differences(books)
  if (differences.length > 0) return yield* new OutOfBalance({ differences })
  yield* Console.log("The books balance.")
})

const progressEvery = 10

/** An effect that ends at most so many times a second, whoever runs it. */
const pace = (rate: number): Effect.Effect<void> => {
  let next = 0
  return Effect.flatMap(Clock.currentTimeMillis, (now) => {
    next = Math.max(now, next + 1000 / rate)
    return Effect.sleep(next - now)
  })
}

/** A customer. Each command can be sent again, whether or not its transaction was committed: it does nothing twice. */
const placeAndPay = Effect.fn("placeAndPay")(
  function*(placing: PlaceOrder) {
    yield* Mediator.send(placing)
    yield* Mediator.send(new PayOrder({ order: placing.order }))
  },
  Effect.retry({
    while: ({ _tag }) => _tag === "TransactionError",
    schedule: Schedule.exponential("100 millis"),
    times: 5
  })
)

/** Products and customers that are not there yet. */
const open = Effect.fnUntraced(function*({ customers, money, products, stock }: Options) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO shop.products (product, price, opening, in_stock)
    SELECT 'product-' || n, 500 + 137 * (n - 1), ${stock}::int, ${stock}::int FROM generate_series(1, ${products}::int) n
    ON CONFLICT (product) DO NOTHING
  `
  yield* sql`
    INSERT INTO shop.customers (customer, opening, money)
    SELECT 'customer-' || n, ${money}::int, ${money}::int FROM generate_series(1, ${customers}::int) n
    ON CONFLICT (customer) DO NOTHING
  `
})

const settledOrders = SqlClient.SqlClient.use((sql) =>
  Effect.map(
    sql<{ order_id: string }>`SELECT order_id FROM shop.orders WHERE state <> 'open'`,
    (rows) => rows.map(({ order_id }) => order_id)
  )
)

/** The books when the totals have caught up, or after two minutes. */
const caughtUp = Books.read.pipe(
  Effect.repeat({
    until: Books.isCaughtUp,
    schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "2 minutes" }))
  }),
  Effect.andThen(Books.read)
)

/** The order of this number, the same in every run. */
const toOrder = (number: number, { customers, products }: Options): PlaceOrder => {
  const first = number * 7
  const [line, ...lines] = Array.range(0, Math.min(number % 3, products - 1)).map((i) => ({
    product: `product-${(first + i) % products + 1}`,
    quantity: (number + i) % 3 + 1
  })) as [PlaceOrder["lines"][0], ...Array<PlaceOrder["lines"][0]>]
  return new PlaceOrder({
    order: `order-${number}`,
    customer: `customer-${(number * 5 + Math.floor(number / customers)) % customers + 1}`,
    lines: [line, ...lines]
  })
}
