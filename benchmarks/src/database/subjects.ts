/** A consumer with a database: the inbox and one update for each message in a transaction. */
import {
  Broker,
  EventConsumer,
  EventHandler,
  type Inbox as CoreInbox,
  type Message,
  type Subscriber
} from "@event-flow/core"
import { Inbox, Migrations } from "@event-flow/sql-layer"
import { Effect, Layer, Schema } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { Measured, messages, Source } from "../memorySource.ts"

/** Rows that are updated: different keys have rows in common. */
export const accounts = 1000

const accountOf = (i: number): number => i % accounts

export const setUp = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE account (id int PRIMARY KEY, n bigint NOT NULL)`
  yield* sql`INSERT INTO account SELECT i, 0 FROM generate_series(0, ${accounts - 1}) i`
  yield* sql`CREATE TABLE inbox_by_hand (consumer text, id text, at timestamptz DEFAULT now(), PRIMARY KEY (consumer, id))`
  yield* Migrations.run
})

let made = 0

/** Each message has an id of its own. */
const nextMessage = (): Message.Message => {
  const i = made++
  const message = messages[i % messages.length]!
  return { ...message, attributes: { ...message.attributes, id: `id-${i}` } }
}

/** Handles so many messages, each once. */
export type Run = (count: number) => Effect.Effect<void, unknown, SqlClient.SqlClient>

const updateOne = (sql: SqlClient.SqlClient, i: number) => sql`UPDATE account SET n = n + 1 WHERE id = ${accountOf(i)}`

/** In the order of ids: batches side by side do not wait for each other in turn. */
const updateAll = (sql: SqlClient.SqlClient, is: ReadonlyArray<number>) =>
  sql`UPDATE account a SET n = a.n + c.k FROM (
    SELECT id, count(*) AS k FROM unnest(${is.map(accountOf)}::int[]) id GROUP BY id ORDER BY id
  ) c WHERE a.id = c.id`

const One = EventHandler.make("One", { on: Measured, error: SqlError.SqlError })
const All = EventHandler.batch("All", { on: Measured, error: SqlError.SqlError })

const OneLive = One.toLayer(Effect.map(SqlClient.SqlClient, (sql) => ({ i }) => Effect.asVoid(updateOne(sql, i))))
const AllLive = All.toLayer(
  Effect.map(SqlClient.SqlClient, (sql) => (events) => Effect.asVoid(updateAll(sql, events.map(({ i }) => i))))
)

const consuming = <E, R>(
  source: Source,
  consumer: Layer.Layer<EventConsumer.EventConsumer, E, R | CoreInbox.Inbox | Broker.Broker | Subscriber.Subscriber>
) =>
  Effect.as(
    Layer.build(consumer.pipe(Layer.provide([Inbox.layer(), Broker.layerNone, source.layer]))),
    ((count) => Effect.promise(() => source.run(count))) satisfies Run
  )

const oneByOne = (concurrency: number, batch: boolean) => {
  const source = new Source(nextMessage)
  const options = { group: "bench", concurrency, dedupe: true, batch } as const
  return consuming(source, EventConsumer.layer([One], options).pipe(Layer.provide(OneLive)))
}

const byBatchHandler = (concurrency: number) => {
  const source = new Source(nextMessage)
  const options = { group: "bench", concurrency, dedupe: true, batch: true } as const
  return consuming(source, EventConsumer.layer([All], options).pipe(Layer.provide(AllLive)))
}

const decoder = new TextDecoder()
const decode = Schema.decodeUnknownSync(Schema.Struct({ i: Schema.Number, padding: Schema.String }))
const eventOf = (message: Message.Message) => decode(JSON.parse(decoder.decode(message.body!)))

const oneByHand = (message: Message.Message) =>
  SqlClient.SqlClient.use((sql) =>
    sql.withTransaction(Effect.gen(function*() {
      const { i } = eventOf(message)
      const added = yield* sql`INSERT INTO inbox_by_hand (consumer, id) VALUES ('bench', ${message.attributes["id"]})
        ON CONFLICT DO NOTHING RETURNING id`
      if (added.length > 0) yield* updateOne(sql, i)
    }))
  )

const batchByHand = (batch: ReadonlyArray<Message.Message>, isSet: boolean) =>
  SqlClient.SqlClient.use((sql) =>
    sql.withTransaction(Effect.gen(function*() {
      const ids = batch.map(({ attributes }) => attributes["id"]!)
      const added = yield* sql<{ readonly id: string }>`INSERT INTO inbox_by_hand (consumer, id)
        SELECT 'bench', id FROM unnest(${ids}::text[]) id ORDER BY id ON CONFLICT DO NOTHING RETURNING id`
      const fresh = new Set(added.map(({ id }) => id))
      const events = batch.filter(({ attributes }) => fresh.has(attributes["id"]!)).map(eventOf)
      if (isSet) yield* updateAll(sql, events.map(({ i }) => i))
      else yield* Effect.forEach(events, ({ i }) => updateOne(sql, i), { discard: true })
    }))
  )

export const batchSize = 100

const inBatches = (isSet: boolean, concurrency: number): Run => (count) =>
  Effect.forEach(
    Array.from({ length: count / batchSize }, () => Array.from({ length: batchSize }, nextMessage)),
    (batch) => batchByHand(batch, isSet),
    { concurrency, discard: true }
  )

export const subjects = {
  "event-flow, one by one": (concurrency: number) => oneByOne(concurrency, false),
  "event-flow, batches, one by one in each": (concurrency: number) => oneByOne(concurrency, true),
  "event-flow, batch handler": byBatchHandler,
  "by hand, one by one": (concurrency: number) =>
    Effect.succeed<Run>((count) =>
      Effect.forEach(Array.from({ length: count }, nextMessage), oneByHand, { concurrency, discard: true })
    ),
  // One batch at a time: side by side they wait for each other's rows, in turn
  "by hand, batches, one by one in each": () => Effect.succeed(inBatches(false, 1)),
  "by hand, batches, one statement in each": (concurrency: number) => Effect.succeed(inBatches(true, concurrency))
} as const
