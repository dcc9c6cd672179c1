/** A program whose every command counts and announces, and what must be true of it after a fault. */
import {
  Broker,
  Command,
  DomainEvent,
  EventFlow,
  EventHandler,
  type Message,
  NotificationEvent
} from "@event-flow/core"
import { Outbox, Transactional } from "@event-flow/sql-layer"
import { Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { appendFileSync, existsSync, readFileSync } from "node:fs"
import { byKey, message, numberOf, textOf } from "./messages.ts"

export class Placed extends NotificationEvent.Class<Placed>()("Placed", { key: Schema.String, n: Schema.Int }, {
  topic: "orders",
  key: ({ key }) => key
}) {}

export class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

/** Comes after the announcement, which is in the outbox by then. */
class Settled extends DomainEvent.Class<Settled>()("Settled", { fails: Schema.Boolean }) {}
const Settle = EventHandler.make("Settle", { on: Settled })

/** Places the next order of a key, and announces it; `fault` is what comes then. */
export class Place extends Command.Class<Place>()("Place", {
  payload: {
    key: Schema.String,
    fault: Schema.optionalKey(Schema.Literals(["fail", "die", "hang", "failLater"]))
  },
  success: Schema.Int,
  error: Refused,
  emits: [Placed, Settled],
  middleware: [Transactional.make()]
}) {}

/** The next order of a key; the lock on its counter makes the numbers those of the order of the commits. */
export const next = (key: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ n: number }>`
      INSERT INTO counters VALUES (${key}, 1) ON CONFLICT (key) DO UPDATE SET n = counters.n + 1 RETURNING n
    `
    yield* sql`INSERT INTO orders VALUES (${key}, ${row!.n})`
    return row!.n
  }).pipe(Effect.orDie)

export const createTables = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE counters (key text PRIMARY KEY, n int NOT NULL)`
  yield* sql`CREATE TABLE orders (key text NOT NULL, n int NOT NULL)`
})

class Shop extends EventFlow.make("Shop", { commands: [Place], handlers: [Settle] }) {}

/** `onHang` is run by a command that hangs. */
export const flow = (options: { readonly outbox?: Outbox.Options; readonly onHang?: Effect.Effect<void> } = {}) =>
  Shop.layer().pipe(
    Layer.provide(Place.toLayer(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      return Effect.fnUntraced(function*({ fault, key }, { collect }) {
        const n = yield* Effect.provideService(next(key), SqlClient.SqlClient, sql)
        yield* collect(new Placed({ key, n }))
        yield* collect(new Settled({ fails: fault === "failLater" }))
        if (fault === "fail") return yield* new Refused()
        if (fault === "die") return yield* Effect.die(new Error("fault"))
        if (fault === "hang") return yield* Effect.andThen(options.onHang ?? Effect.void, Effect.never)
        return n
      })
    }))),
    Layer.provide(Settle.toLayer(({ fails }) => fails ? Effect.die(new Error("fault")) : Effect.void)),
    Layer.provide(Outbox.layer(options.outbox))
  )

/** Places an order without the flow, in one transaction: `beforeCommit` is the last thing in it. */
export const placeByHand = (key: string, beforeCommit: Effect.Effect<void> = Effect.void) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const { publish } = yield* Broker.Broker
    yield* sql.withTransaction(Effect.gen(function*() {
      const n = yield* next(key)
      yield* publish([message(`${key}:${n}`)])
      yield* beforeCommit
    }))
  })

/** `"a:1"`, however it was encoded. */
export const orderOf = (message: Message.Message): string => {
  const text = textOf(message)
  if (!text.startsWith("{")) return text
  const { key, n } = JSON.parse(text) as { readonly key: string; readonly n: number }
  return `${key}:${n}`
}

/** A log of what was published that processes share: one write is one append. */
export const append = (file: string, orders: ReadonlyArray<string>): void =>
  appendFileSync(file, orders.map((order) => `${order}\n`).join(""))
export const readLog = (file: string): Array<string> =>
  existsSync(file) ? readFileSync(file, "utf8").split("\n").slice(0, -1) : []

export interface Account {
  readonly committed: number
  /** Different messages. */
  readonly published: number
  readonly duplicates: number
  /** Committed, and neither published nor dead. */
  readonly lost: number
  /** Published, and never committed. */
  readonly invented: number
  /** Messages that were published for the first time after a later one of their key. */
  readonly outOfOrder: number
  readonly dead: number
}

export const account = (log: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const orders = yield* sql<{ text: string }>`SELECT key || ':' || n AS text FROM orders`
    const dead = yield* sql<{ text: string }>`
      SELECT convert_from(body, 'UTF8') AS text FROM event_flow_outbox WHERE state = 'dead'
    `
    const committed = new Set(orders.map(({ text }) => text))
    const published = new Set(log)
    const given = new Set(dead.map(({ text }) => text))
    let outOfOrder = 0
    for (const texts of byKey([...published]).values()) {
      let last = 0
      for (const n of texts.map(numberOf)) {
        if (n < last) outOfOrder++
        last = Math.max(n, last)
      }
    }
    return {
      committed: committed.size,
      published: published.size,
      duplicates: log.length - published.size,
      lost: [...committed].filter((text) => !published.has(text) && !given.has(text)).length,
      invented: [...published].filter((text) => !committed.has(text)).length,
      outOfOrder,
      dead: dead.length
    } satisfies Account
  })
