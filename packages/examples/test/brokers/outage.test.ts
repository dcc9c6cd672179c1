/** The database of a consumer is away for 20 seconds: no message is dead-lettered, none is lost, keys stay in order. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import {
  type Broker,
  EventConsumer,
  EventEmitter,
  EventHandler,
  EventMap,
  NotificationEvent,
  Subscriber
} from "@event-flow/core"
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { RabbitBroker, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Inbox, Migrations } from "@event-flow/sql-layer"
import { eventually, unique } from "@event-flow/test-support/effects"
import { find, start } from "@event-flow/test-support/postgresServer"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { ConfigProvider, Context, Effect, Fiber, Layer, Logger, Redacted, Schedule, Schema } from "effect"
import { SqlClient, SqlError } from "effect/sql"

const group = unique("counting")

class Paid extends NotificationEvent.Class<Paid>()("Paid", { n: Schema.Int }, {
  topic: unique("paid"),
  key: ({ n }) => `key ${n % keys}`
}) {}
const keys = 8
const Count = EventHandler.make("Count", { on: Paid, error: SqlError.SqlError })

const { topic } = Paid.route
const deadLetters = `${topic}.dead-letter`

const environment = ConfigProvider.layer(ConfigProvider.fromUnknown({
  KAFKA_BOOTSTRAP_SERVERS: serverTests("kafka").address,
  RABBITMQ_URL: serverTests("rabbitmq").address
}))

const kafka = Layer.merge(KafkaBroker.layerFromEnv, KafkaSubscriber.layerFromEnv).pipe(
  Layer.provide(
    Layer.effectDiscard(
      KafkaTopics.KafkaTopics.use(({ ensure }) =>
        ensure([topic, deadLetters].map((topic) => ({ topic, partitions: 2, retention: "1 hour" })))
      )
    ).pipe(Layer.provide(KafkaTopics.layerFromEnv))
  ),
  Layer.provide(environment)
)

const rabbitmq = Layer.merge(RabbitBroker.layerFromEnv, RabbitSubscriber.layerFromEnv).pipe(
  Layer.provide(
    Layer.effectDiscard(
      RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(RabbitTopology.specs(group, [topic])))
    ).pipe(Layer.provide(RabbitTopology.layerFromEnv))
  ),
  Layer.provide(environment)
)

/** A server to stop. */
const ownPostgres = Effect.acquireRelease(
  Effect.promise(async () => {
    const found = await find()
    if (found._tag === "None") throw new Error(found.reason)
    const server = await start(found)
    if (server.control === undefined) throw new Error("the server of DATABASE_URL is not ours")
    return { ...server, control: server.control }
  }),
  ({ dispose }) => Effect.promise(dispose)
)

const table = (name: string) =>
  Layer.effectDiscard(SqlClient.SqlClient.use((sql) => sql`CREATE TABLE ${sql(name)} (seq serial, n int)`))

/** Inserts each into a table; its handler dies where it cannot. */
const dying = EventConsumer.layer([Count], { group, concurrency: 4 }).pipe(
  Layer.provide(
    Count.toLayer(
      Effect.map(SqlClient.SqlClient, (sql) => ({ n }) => Effect.orDie(sql`INSERT INTO dying (n) VALUES (${n})`))
    )
  ),
  Layer.provide(table("dying"))
)

/** The same in the transaction of an inbox; its handler fails with the error of the database. */
const failing = EventConsumer.layer([Count], { group, concurrency: 4, dedupe: true }).pipe(
  Layer.provide(
    Count.toLayer(
      Effect.map(SqlClient.SqlClient, (sql) => ({ n }) => Effect.asVoid(sql`INSERT INTO failing (n) VALUES (${n})`))
    )
  ),
  Layer.provide([table("failing"), Inbox.layer().pipe(Layer.provide(Migrations.layer))])
)

/** A consumer while something publishes 50 messages a second. */
const busy = <E1, E2>(
  name: string,
  ports: Layer.Layer<Broker.Broker | Subscriber.Subscriber, E1>,
  consumer: Layer.Layer<EventConsumer.EventConsumer, E2, SqlClient.SqlClient | Broker.Broker | Subscriber.Subscriber>
) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const built = yield* Layer.build(
      Layer.merge(
        consumer,
        EventEmitter.layer.pipe(Layer.fresh, Layer.provide(EventMap.layer([])))
      ).pipe(Layer.provideMerge(ports))
    )
    const { publish } = Context.get(built, EventEmitter.EventEmitter)
    let sent = 0
    let isOver = false
    // Not interrupted: a publish that was would leave it open whether its message was sent
    const publishing = yield* Effect.forkScoped(
      Effect.repeat(
        Effect.andThen(Effect.suspend(() => publish([new Paid({ n: sent })])), Effect.sync(() => void sent++)),
        { schedule: Schedule.spaced("20 millis"), while: () => !isOver }
      )
    )
    const dead = yield* Context.get(built, Subscriber.Subscriber).subscribe({
      topics: [deadLetters],
      group: unique("dead"),
      maxInFlight: 10_000
    })
    return {
      name,
      /** Stops publishing; gives how many were sent. */
      sent: Effect.suspend(() => {
        isOver = true
        return Effect.map(Fiber.join(publishing), () => sent)
      }),
      state: Effect.map(Context.get(built, EventConsumer.EventConsumer).state, ({ _tag }) => _tag),
      rows: Effect.map(
        sql<{ n: number }>`SELECT n FROM ${sql(name)} ORDER BY seq`,
        (rows) => rows.map(({ n }) => n)
      ),
      /** How many dead letters there are; waits a little for the first one. */
      dead: Effect.map(Effect.timeoutOption(dead.take, "3 seconds"), (taken) =>
        taken._tag === "None" ? 0 : taken.value.length)
    }
  })

const outOfOrder = (rows: ReadonlyArray<number>): number => {
  const last = new Map<number, number>()
  return rows.filter((n) => {
    const before = last.get(n % keys) ?? -1
    last.set(n % keys, n)
    return n < before
  }).length
}

const withServers = (name: string, tests: () => void) =>
  serverTests("kafka").withServer(
    name,
    () => serverTests("rabbitmq").withServer("", () => serverTests("postgres").withOwnServer("", tests))
  )

withServers("a database that is away for 20 seconds", () => {
  it.live("on Kafka with a handler that dies, on RabbitMQ with an inbox", () =>
    Effect.gen(function*() {
      const { control, url } = yield* ownPostgres
      const client = yield* Layer.build(PgClient.layer({ url: Redacted.make(url), connectTimeout: "1 second" }))
      const consumers = yield* Effect.all([busy("dying", kafka, dying), busy("failing", rabbitmq, failing)]).pipe(
        Effect.provide(client)
      )
      const all = <A, E, R>(f: (consumer: typeof consumers[number]) => Effect.Effect<A, E, R>) =>
        Effect.forEach(consumers, f, { concurrency: 2 })
      yield* all(({ name, rows }) => eventually(`${name} handles`, Effect.map(rows, ({ length }) => length > 20)))
      yield* Effect.promise(control.stop)
      yield* all(({ name, state }) => eventually(`${name} pauses`, Effect.map(state, (tag) => tag === "Paused")))
      yield* Effect.sleep("20 seconds")
      yield* Effect.promise(control.start)
      yield* all(({ name, state }) => eventually(`${name} goes on`, Effect.map(state, (tag) => tag === "Running")))
      for (const { dead, name, rows, sent: stop } of consumers) {
        const sent = yield* stop
        yield* Effect.ignore(Effect.timeout(
          Effect.repeat(rows, { schedule: Schedule.spaced("100 millis"), until: (rows) => new Set(rows).size >= sent }),
          "60 seconds"
        ))
        const handled = yield* rows
        const counts = {
          sent,
          deadLettered: yield* dead,
          lost: sent - new Set(handled).size,
          twice: handled.length - new Set(handled).size,
          outOfOrder: outOfOrder(handled)
        }
        console.info(name, counts)
        assert.deepStrictEqual(counts, { sent, deadLettered: 0, lost: 0, twice: 0, outOfOrder: 0 })
      }
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
})
