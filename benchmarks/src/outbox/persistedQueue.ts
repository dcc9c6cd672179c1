/** effect's PersistedQueue with its default settings, taken by several fibers. It keeps no order, of keys or at all. */
import { Effect, Layer, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { SqlClient } from "effect/sql"
import type { Task } from "./work.ts"
import { begun, clientLayer, Counter, main, work } from "./work.ts"

/** As many fibers as gave the most, with a connection each. */
const takers = 16

const Queued = Schema.Struct({
  topic: Schema.String,
  key: Schema.String,
  attributes: Schema.Record(Schema.String, Schema.String),
  body: Schema.String
})

const queue = PersistedQueue.make({ name: "outbox", schema: Queued })

const live = (url: string) =>
  PersistedQueue.layer.pipe(
    Layer.provide(PersistedQueue.layerStoreSql()),
    Layer.provideMerge(clientLayer(url, takers + 4))
  )

const fill = (task: Extract<Task, { readonly role: "fill" }>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const { offer } = yield* queue
    // In one transaction: what offers cost is no part of this
    yield* sql.withTransaction(Effect.forEach(
      Array.from({ length: task.rows }, (_, i) => work(i)),
      (message) => offer({ ...message, body: Buffer.from(message.body).toString() }),
      { discard: true }
    ))
  }).pipe(Effect.provide(live(task.url)))

const relay = (task: Extract<Task, { readonly role: "relay" }>) =>
  Effect.gen(function*() {
    const { take } = yield* queue
    yield* (yield* SqlClient.SqlClient)`SELECT 1`
    const counter = new Counter(task.check)
    yield* begun
    const taker = Effect.forever(
      // Counted when it is taken for good
      Effect.map(
        take(({ attributes }) => Effect.succeed(attributes["id"])),
        (id) => counter.add(1, () => [id])
      )
    )
    yield* Effect.all(Array.from({ length: takers }, () => taker), { concurrency: "unbounded", discard: true })
  }).pipe(Effect.provide(live(task.url)))

main({ fill, relay })
