/** A queue of RabbitMQ is full while a relay publishes: no row is dead, and all are published when there is room. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Broker, Message } from "@event-flow/core"
import { RabbitBroker } from "@event-flow/rabbitmq-layer"
import { Migrations, Outbox, OutboxAdmin, OutboxRelay } from "@event-flow/sql-layer"
import { eventually, unique } from "@event-flow/test-support/effects"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { connect } from "amqplib"
import { Effect, Layer, Logger, Redacted } from "effect"
import { SqlClient } from "effect/sql"

const rabbitmq = serverTests("rabbitmq")
const postgres = serverTests("postgres")

const client = (url: string) => PgClient.layer({ url: Redacted.make(url) })

/** A database of its own for the length of a scope; gives its address. */
const freshDatabase = Effect.suspend(() => {
  const address = new URL(postgres.address!)
  const name = unique("full").replace("-", "_")
  const run = (statement: string) =>
    Effect.provide(SqlClient.SqlClient.use((sql) => sql.unsafe(statement)), client(postgres.address!))
  address.pathname = `/${name}`
  return Effect.acquireRelease(
    Effect.as(run(`CREATE DATABASE ${name}`), address.href),
    () => Effect.ignore(run(`DROP DATABASE ${name} WITH (FORCE)`))
  )
})

const channel = Effect.acquireRelease(
  Effect.promise(() => connect(rabbitmq.address!)),
  (model) => Effect.promise(() => model.close())
).pipe(Effect.flatMap((model) => Effect.promise(() => model.createChannel())))

rabbitmq.withServer("a relay and a full queue", () =>
  postgres.withServer("", () => {
    it.live("no row is dead, all are published when there is room", () =>
      Effect.gen(function*() {
        const topic = unique("full")
        const raw = yield* channel
        yield* Effect.promise(async () => {
          await raw.assertExchange("event-flow", "topic")
          await raw.assertQueue(topic, {
            arguments: { "x-queue-type": "quorum", "x-max-length": 10, "x-overflow": "reject-publish" }
          })
          await raw.bindQueue(topic, "event-flow", topic)
        })
        let refused = 0
        // Counts what the server does not take
        const broker = Layer.effect(
          Broker.Broker,
          Effect.map(Broker.Broker, ({ name, publish }) =>
            Broker.Broker.of({
              name,
              publish: (messages) =>
                Effect.tapError(publish(messages), (error) =>
                  Effect.sync(() => {
                    if (error._tag === "PublishError" && error.reason._tag === "Unavailable") refused++
                  }))
            }))
        ).pipe(Layer.provide(RabbitBroker.layer({ url: rabbitmq.address! })))

        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          // The server notices that a queue is full when it has taken more than that
          const { publish } = yield* Broker.Broker
          const fill = publish([Message.make({ topic, body: new TextEncoder().encode("fill") })])
          yield* Effect.ignore(Effect.forever(fill))
          refused = 0
          const texts = Array.from({ length: 120 }, (_, n) => String(n))
          yield* sql.withTransaction(Broker.Broker.use(({ publish }) =>
            Effect.forEach(texts, (text) =>
              publish([Message.make({
                topic,
                key: `key-${Number(text) % 3}`,
                attributes: { specversion: "1.0", id: text, type: "Note.v1", source: "/test" },
                body: new TextEncoder().encode(text)
              })]))
          )).pipe(Effect.provide(Outbox.layer()))
          yield* Layer.build(OutboxRelay.layer({
            maxAttempts: 2,
            retryDelay: () => "20 millis",
            pollInterval: "20 millis"
          }))
          // Two rounds of one batch and three keys: more often than a row may fail
          yield* eventually("the server to refuse", () => refused >= 8)
          const during = yield* OutboxAdmin.status
          assert.deepStrictEqual({ dead: during.dead, pending: during.pending > 0 }, { dead: 0, pending: true })

          const arrived = new Set<string>()
          yield* Effect.promise(() =>
            raw.consume(topic, (delivery) => {
              const text = delivery!.content.toString()
              if (text !== "fill") arrived.add(text)
              raw.ack(delivery!)
            })
          )
          yield* eventually("all rows to be published", Effect.map(OutboxAdmin.status, ({ pending }) => pending === 0))
          yield* eventually("all messages to arrive", () => arrived.size === texts.length)
          const { dead } = yield* OutboxAdmin.status
          assert.strictEqual(dead, 0)
          console.info(
            `a relay and a full queue: refused ${refused} times, ${arrived.size} of 120 arrived, ${dead} dead`
          )
        }).pipe(
          // The relay is closed before its database
          Effect.scoped,
          Effect.provide(
            Layer.provideMerge(
              Migrations.layer,
              Layer.merge(broker, Layer.unwrap(Effect.map(freshDatabase, client)))
            )
          )
        )
      }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
  }))
