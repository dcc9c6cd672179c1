/** The orders example on a real database: the books balance, also when the process is killed again and again. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Mediator } from "@event-flow/core"
import { OutboxAdmin } from "@event-flow/sql-layer"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { ConfigProvider, Console, Effect, Layer, Redacted, type Scope } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import * as Books from "../../src/orders/books.ts"
import * as Database from "../../src/orders/database.ts"
import { PayOrder, PlaceOrder } from "../../src/orders/domain.ts"
import { type Options, run as runOrders } from "../../src/orders/run.ts"
import { ShopLive } from "../../src/orders/shop.ts"
import { start } from "../support.ts"

const postgres = serverTests("postgres")
const kafka = serverTests("kafka")
const rabbitmq = serverTests("rabbitmq")

it("orders says how to start a database when nobody has said where it is", async () => {
  const { code, stderr, stdout } = await start("orders/main.ts", [], { DATABASE_URL: "" }).ended
  assert.strictEqual(code, 1)
  assert.include(stderr, "DATABASE_URL is not set. To start a server, run \"npm run postgres\"")
  assert.strictEqual(stdout, "")
})

postgres.withServer("orders", () => {
  const server = postgres.address!

  let databases = 0
  const maintain = (statement: string) =>
    Effect.asVoid(Effect.provide(
      SqlClient.SqlClient.use((sql) => sql.unsafe(statement)),
      PgClient.layer({ url: Redacted.make(server), maxConnections: 1 })
    ))

  /** A database of its own; gives its address. */
  const freshDatabase: Effect.Effect<string, SqlError.SqlError, Scope.Scope> = Effect.suspend(() => {
    const name = `orders_${process.pid}_${++databases}`
    const url = new URL(server)
    url.pathname = `/${name}`
    return Effect.acquireRelease(
      Effect.as(maintain(`CREATE DATABASE ${name}`), url.href),
      () => Effect.ignore(maintain(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
    )
  })

  /** The shop alone: what is in the outbox stays there. */
  const shop = Layer.unwrap(
    Effect.map(freshDatabase, (url) => Layer.provideMerge(ShopLive, Database.layer(Redacted.make(url))))
  )

  const goods = Effect.fnUntraced(function*(stock: Record<string, number>, money: number) {
    const sql = yield* SqlClient.SqlClient
    for (const [product, units] of Object.entries(stock)) {
      yield* sql`INSERT INTO shop.products VALUES (${product}, 100, ${units}, ${units})`
    }
    yield* sql`INSERT INTO shop.customers VALUES ('ada', ${money}, ${money}), ('bob', ${money}, ${money})`
  })

  const state = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const stock = yield* sql<{ product: string; in_stock: number }>`SELECT * FROM shop.products`
    const customers = yield* sql<{ customer: string; money: number }>`SELECT * FROM shop.customers`
    const orders = yield* sql<{ order_id: string; state: string; reason: string | null }>`
      SELECT * FROM shop.orders ORDER BY order_id
    `
    const outbox = yield* OutboxAdmin.list({ state: "pending" })
    return {
      stock: Object.fromEntries(stock.map(({ in_stock, product }) => [product, in_stock])),
      money: Object.fromEntries(customers.map(({ customer, money }) => [customer, money])),
      orders: orders.map(({ order_id, reason, state }) => [order_id, state, reason]),
      outbox: outbox.map(({ key, messageType }) => [messageType, key])
    }
  })

  const order = (order: string, customer: string, first: readonly [string, number], ...rest: Array<[string, number]>) =>
    new PlaceOrder({
      order,
      customer,
      lines: [{ product: first[0], quantity: first[1] }, ...rest.map(([product, quantity]) => ({ product, quantity }))]
    })

  it.live("an order beyond the stock is cancelled with all of its lines, and announced", () =>
    Effect.gen(function*() {
      yield* goods({ apple: 5, pear: 2 }, 10_000)
      yield* Mediator.send(order("1", "ada", ["apple", 3], ["pear", 3]))
      assert.strictEqual(yield* Mediator.send(new PayOrder({ order: "1" })), "cancelled")
      assert.deepStrictEqual(yield* state, {
        stock: { apple: 5, pear: 2 },
        money: { ada: 10_000, bob: 10_000 },
        orders: [["1", "cancelled", "out of stock"]],
        outbox: [["OrderReceived.v1", "ada"], ["OrderCancelled.v1", "ada"]]
      })
    }).pipe(Effect.provide(shop)))

  it.live("a refused payment cancels the order, and gives its stock back", () =>
    Effect.gen(function*() {
      yield* goods({ apple: 5 }, 299)
      yield* Mediator.send(order("1", "ada", ["apple", 3]))
      assert.deepStrictEqual((yield* state).stock, { apple: 2 })
      assert.strictEqual(yield* Mediator.send(new PayOrder({ order: "1" })), "cancelled")
      assert.deepStrictEqual(yield* state, {
        stock: { apple: 5 },
        money: { ada: 299, bob: 299 },
        orders: [["1", "cancelled", "payment refused"]],
        outbox: [["OrderReceived.v1", "ada"], ["OrderCancelled.v1", "ada"]]
      })
    }).pipe(Effect.provide(shop)))

  it.live("a command that fails leaves nothing, and one that is sent again does nothing", () =>
    Effect.gen(function*() {
      yield* goods({ apple: 5 }, 1000)
      const placing = order("1", "ada", ["apple", 2], ["fig", 1])
      assert.strictEqual((yield* Effect.flip(Mediator.send(placing)))._tag, "UnknownProduct")
      assert.strictEqual((yield* Effect.flip(Mediator.send(new PayOrder({ order: "1" }))))._tag, "UnknownOrder")
      assert.deepStrictEqual((yield* state).orders, [])
      assert.deepStrictEqual((yield* state).outbox, [])

      const place = Mediator.send(order("1", "ada", ["apple", 2]))
      yield* Effect.all([place, place, place], { concurrency: "unbounded" })
      const pay = Mediator.send(new PayOrder({ order: "1" }))
      assert.deepStrictEqual(yield* Effect.all([pay, pay], { concurrency: "unbounded" }), ["paid", "paid"])
      yield* place
      assert.deepStrictEqual(yield* state, {
        stock: { apple: 3 },
        money: { ada: 800, bob: 1000 },
        orders: [["1", "paid", null]],
        outbox: [["OrderReceived.v1", "ada"], ["OrderPaid.v1", "ada"]]
      })
    }).pipe(Effect.provide(shop)))

  it.live("the last units are sold once", () =>
    Effect.gen(function*() {
      yield* goods({ apple: 4, pear: 100 }, 500)
      const results = yield* Effect.forEach(Array.from({ length: 20 }, (_, i) => i), (i) =>
        Effect.andThen(
          Mediator.send(order(String(i), i % 2 === 0 ? "ada" : "bob", ["pear", 1], ["apple", 1])),
          Mediator.send(new PayOrder({ order: String(i) }))
        ), { concurrency: "unbounded" })
      const { money, outbox, stock } = yield* state
      // Whoever has reserved one may still be refused, and others may have been told "out of stock" before that
      const paid = results.filter((result) => result === "paid").length
      assert.isAtLeast(paid, 2)
      assert.deepStrictEqual(stock, { apple: 4 - paid, pear: 100 - paid })
      assert.strictEqual(money["ada"]! + money["bob"]!, 1000 - 200 * paid)
      assert.strictEqual(outbox.length, 40)
    }).pipe(Effect.provide(shop)))

  const options: Options = {
    orders: 120,
    customers: 7,
    products: 5,
    stock: 40,
    money: 25_000,
    concurrency: 8,
    role: "all",
    broker: "memory"
  }

  /** A run in this process; gives what it prints. */
  const run = (url: string, changes?: Partial<Options>) =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const console: Console.Console = { ...globalThis.console, log: (...args) => void lines.push(args.join(" ")) }
      yield* Effect.provide(runOrders({ ...options, ...changes }), [
        Layer.succeed(Console.Console)(console),
        ConfigProvider.layer(ConfigProvider.fromUnknown({ DATABASE_URL: url }))
      ])
      return lines.join("\n")
    })

  it.live("balances with orders out of stock and payments refused, and goes on where it was", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase
      const first = yield* run(url)
      assert.match(first, /^progress settled=0 orders=120\n/)
      const { outOfStock, paid, refused } = yield* audit(url, 120)
      for (const number of [outOfStock, paid, refused]) assert.isAtLeast(number, 5)
      assert.include(
        first,
        `120 placed = ${paid} paid + ${outOfStock + refused} cancelled ` +
          `(${outOfStock} out of stock, ${refused} payment refused) + 0 open\n`
      )
      assert.match(first, /\nThe books balance\.$/)

      const again = yield* run(url, { orders: 150 })
      assert.match(again, /^progress settled=120 orders=150\n/)
      assert.include(again, "150 placed = ")
      yield* audit(url, 150)
      const nothing = yield* run(url, { orders: 150 })
      assert.strictEqual(
        nothing.replace(/^progress.*\n/, ""),
        again.replace(/^(progress.*\n)+/, "")
      )
    }))

  it.live("balances with three processes that do the same at once", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase
      const go = () => start("orders/main.ts", ["--orders", "150", "--stock", "40"], { DATABASE_URL: url }).ended
      for (const { code, stderr, stdout } of yield* Effect.promise(() => Promise.all([go(), go(), go()]))) {
        assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" }, stdout)
      }
      yield* audit(url, 150)
    }))

  it.live("says what does not balance", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase
      yield* run(url)
      yield* Effect.provide(
        SqlClient.SqlClient.use((sql) =>
          Effect.andThen(
            sql`UPDATE totals.customers SET placed = placed + 1 WHERE customer = 'customer-3'`,
            sql`UPDATE shop.customers SET money = money + 5 WHERE customer = 'customer-4'`
          )
        ),
        Database.layer(Redacted.make(url))
      )
      const error = yield* Effect.flip(run(url))
      assert(error._tag === "OutOfBalance")
      assert.deepStrictEqual(error.differences.map((line) => line.replace(/:.*/, "")), [
        "money opening = left + paid",
        "orders placed = counted",
        "customers with wrong totals"
      ])
    }))

  const orders = 300
  const settled = (from: number) =>
    new RegExp(`settled=(${Array.from({ length: orders - from + 1 }, (_, i) => from + i).join("|")}) `)

  /** Starts it and kills it, again and again, and lets it end at last. */
  const killAndFinish = Effect.fnUntraced(function*(kills: ReadonlyArray<number>, env: Record<string, string>) {
    const url = yield* freshDatabase
    const go = () =>
      start(
        "orders/main.ts",
        ["--orders", String(orders), "--stock", "85", "--money", "50000", "--broker", env["broker"] ?? "memory"],
        { ...env, DATABASE_URL: url }
      )
    let unfinished = 0
    for (const from of kills) {
      const process = go()
      yield* Effect.promise(() => process.printed(settled(from)))
      process.kill("SIGKILL")
      const { code, stderr } = yield* Effect.promise(() => process.ended)
      assert.deepStrictEqual({ code, stderr }, { code: null, stderr: "" }, `killed at ${from}`)
      const books = yield* Effect.provide(Books.read, Database.layer(Redacted.make(url)))
      // At any moment: what is atomic is atomic
      assert.deepStrictEqual(
        Books.differences(books).filter((line) => !/counted|totals|outbox/.test(line)),
        [],
        `killed at ${from}`
      )
      unfinished += books.open + books.outbox.pending
    }
    assert.isAbove(unfinished, 0, "no kill came in between")
    const { code, stderr, stdout } = yield* Effect.promise(() => go().ended)
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" }, stdout)
    assert.match(stdout, /\nThe books balance\.\n$/)
    yield* audit(url, orders)
  })

  it.live("balances after kills, with the broker in memory", () => killAndFinish([30, 130, 240], {}))

  /** A process for each part; those that count and those that publish go on until they are told to stop. */
  const inProcessesOfTheirOwn = Effect.fnUntraced(function*(env: Record<string, string>) {
    const url = yield* freshDatabase
    const go = (role: string) =>
      start(
        "orders/main.ts",
        ["--role", role, "--orders", String(orders), "--stock", "85", "--broker", env["broker"]!],
        { ...env, DATABASE_URL: url }
      )
    // The first one makes the tables
    const relay = go("relay")
    yield* Effect.promise(() => relay.printed(/^ready role=relay$/m))
    const totals = [go("totals"), go("totals")]
    yield* Effect.promise(() => Promise.all(totals.map((one) => one.printed(/^ready role=totals$/m))))
    const { code, stderr, stdout } = yield* Effect.promise(() => go("shop").ended)
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" }, stdout)
    assert.match(stdout, /\nThe books balance\.\n$/)
    for (const one of [relay, ...totals]) one.kill("SIGTERM")
    for (const one of [relay, ...totals]) {
      const { stderr, stdout } = yield* Effect.promise(() => one.ended)
      assert.deepStrictEqual({ lines: stdout.split("\n").length, stderr }, { lines: 2, stderr: "" })
    }
    yield* audit(url, orders)
  })

  it("orders does not start a part that no other process could reach", async () => {
    const { code, stderr } = await start("orders/main.ts", ["--role", "relay"]).ended
    assert.strictEqual(code, 1)
    assert.include(stderr, "--role relay needs a broker that other processes reach")
  })

  kafka.withServer("over Kafka", () => {
    const env = {
      broker: "kafka",
      KAFKA_BOOTSTRAP_SERVERS: kafka.address!,
      // How soon the group takes the killed member for dead
      KAFKA_SESSION_TIMEOUT: "6 seconds",
      KAFKA_HEARTBEAT_INTERVAL: "1 second",
      KAFKA_REVOKE_TIMEOUT: "3 seconds"
    }
    it.live("balances after kills", () => killAndFinish([100, 200], env))
    it.live("balances with a process for each part", () => inProcessesOfTheirOwn(env))
  })

  rabbitmq.withServer("over RabbitMQ", () => {
    const env = { broker: "rabbitmq", RABBITMQ_URL: rabbitmq.address! }
    it.live("balances after kills", () => killAndFinish([100, 200], env))
    it.live("balances with a process for each part", () => inProcessesOfTheirOwn(env))
  })
})

/** An independent look at the books: every row, added up here. */
const audit = (url: string, placed: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const orders = yield* sql<{ order_id: string; customer: string; state: string; reason: string; total: number }>`
      SELECT * FROM shop.orders
    `
    const lines = yield* sql<{ order_id: string; product: string; quantity: number; price: number }>`
      SELECT * FROM shop.lines
    `
    const payments = yield* sql<{ order_id: string; customer: string; amount: number }>`SELECT * FROM shop.payments`
    const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((a, b) => a + b, 0)
    const paid = new Set(orders.flatMap(({ order_id, state }) => state === "paid" ? [order_id] : []))

    assert.strictEqual(orders.length, placed)
    for (const { order_id, total } of orders) {
      const own = lines.filter((line) => line.order_id === order_id)
      assert.strictEqual(sum(own.map(({ price, quantity }) => price * quantity)), total, order_id)
    }
    assert.sameDeepMembers(
      payments.map((row) => ({ ...row })),
      orders.filter(({ order_id }) => paid.has(order_id))
        .map(({ customer, order_id, total }) => ({ order_id, customer, amount: total }))
    )

    const sold = lines.filter(({ order_id }) => paid.has(order_id))
    const products = yield* sql<{ product: string; opening: number; in_stock: number }>`SELECT * FROM shop.products`
    const productsCounted = yield* sql`SELECT * FROM totals.products`
    const soldOf = products.map(({ in_stock, opening, product }) => {
      const own = sold.filter((line) => line.product === product)
      const units = sum(own.map(({ quantity }) => quantity))
      assert.strictEqual(opening, in_stock + units, product)
      return { product, sold: units, revenue: sum(own.map(({ price, quantity }) => price * quantity)) }
    })
    assert.sameDeepMembers(productsCounted.map((row) => ({ ...row })), soldOf)

    const customers = yield* sql<{ customer: string; opening: number; money: number; announced: number }>`
      SELECT * FROM shop.customers
    `
    const customersCounted = yield* sql`SELECT * FROM totals.customers`
    const totals = customers.map(({ announced, customer, money, opening }) => {
      const own = orders.filter((order) => order.customer === customer)
      const spent = sum(own.filter(({ state }) => state === "paid").map(({ total }) => total))
      assert.strictEqual(opening, money + spent, customer)
      const count = (state: string) => own.filter((order) => order.state === state).length
      const counts = { placed: own.length, paid: count("paid"), cancelled: count("cancelled") }
      // Numbered without gaps, and counted in the order of the numbers
      assert.strictEqual(announced, counts.placed + counts.paid + counts.cancelled, customer)
      return { customer, ...counts, spent, latest: announced, late: 0 }
    })
    assert.sameDeepMembers(customersCounted.map((row) => ({ ...row })), totals)

    const { dead, pending } = yield* OutboxAdmin.status
    assert.deepStrictEqual({ dead, pending }, { dead: 0, pending: 0 })
    // Every order was told twice: that it was received, and how it ended
    assert.deepStrictEqual(yield* sql`SELECT count(*)::int AS handled FROM event_flow_inbox`, [{ handled: 2 * placed }])
    const cancelledFor = (reason: string) =>
      orders.filter((order) => order.state === "cancelled" && order.reason === reason).length
    const result = {
      paid: paid.size,
      outOfStock: cancelledFor("out of stock"),
      refused: cancelledFor("payment refused")
    }
    assert.strictEqual(result.paid + result.outOfStock + result.refused, placed)
    return result
  }).pipe(Effect.provide(Database.layer(Redacted.make(url))))
