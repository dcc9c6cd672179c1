/** The inbox for batches, on a real database. */
import { assert, it } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  EventConsumer,
  EventHandler,
  Inbox as CoreInbox,
  MemoryBroker,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Inbox } from "@event-flow/sql-layer"
import { Array as Arr, Effect, Layer, Schema } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { Boom, database, needsSql, write, written } from "./support/orders.ts"
import { withServer } from "./support/support.ts"

const onceAll = <A, E, R>(
  ids: ReadonlyArray<string>,
  handle: (isNew: ReadonlyArray<boolean>) => Effect.Effect<A, E, R>
) => CoreInbox.Inbox.use((inbox) => inbox.onceAll("c", ids, handle))

const inbox = Inbox.layer().pipe(Layer.provideMerge(database()))

class Counted extends NotificationEvent.Class<Counted>()("Counted", { n: Schema.Int }, { topic: "counts" }) {}
const One = EventHandler.make("One", { on: Counted, error: SqlError.SqlError })
const All = EventHandler.batch("All", { on: Counted, error: Schema.Union([SqlError.SqlError, Boom]) })

const isPoison = (n: number): boolean => n % 97 === 13

withServer("an inbox for batches", () => {
  it.live("tells the new messages apart, remembers all of a batch or none, and hashes what it cannot store", () =>
    Effect.gen(function*() {
      const told = (ids: ReadonlyArray<string>) => onceAll(ids, Effect.succeed)
      assert.deepStrictEqual(yield* told(["1", "2"]), [true, true])
      const boom = new Boom({ id: "1" })
      const failed = onceAll(["2", "3"], () => Effect.andThen(write("lost"), Effect.fail(boom)))
      assert.strictEqual(yield* Effect.flip(failed), boom)
      assert.deepStrictEqual(yield* told(["3", "2", "4", "3", "a\0b", "x".repeat(5000), "a\0b"]), [
        true,
        false,
        true,
        false,
        true,
        true,
        false
      ])
      assert.deepStrictEqual(yield* told(["a\0b", "x".repeat(5000), "5"]), [false, false, true])
      assert.deepStrictEqual(yield* told([]), [])
      assert.deepStrictEqual(yield* written, [])
    }).pipe(Effect.provide(inbox)))

  it.live("batches that have messages in common, in any order, handle each of them once", () =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 20 }, (_, i) => String(i))
      const some = (from: number) => [...ids.slice(from), ...ids.slice(0, from)].slice(0, 15)
      const batches = ids.map((_, from) => from % 2 === 0 ? some(from) : some(from).toReversed())
      yield* Effect.forEach(
        batches,
        (batch) => onceAll(batch, (isNew) => Effect.forEach(batch.filter((_, i) => isNew[i]), write)),
        { concurrency: 8, discard: true }
      )
      assert.deepStrictEqual((yield* written).toSorted(), ids.toSorted())
    }).pipe(Effect.provide(Inbox.layer().pipe(Layer.provideMerge(database({ maxConnections: 10 }))))))

  it.live("1,000 messages of 50 keys, each sent twice, eleven of them poison: handled once, in the order of their keys", () =>
    Effect.gen(function*() {
      const count = 1_000
      const broker = yield* MemoryBroker.MemoryBroker
      const consumer = EventConsumer.layer([One, All], {
        group: "c",
        dedupe: true,
        concurrency: 4,
        batch: { size: 50 },
        outage: false,
        policy: () => ConsumerPolicy.deadLetter()
      }).pipe(
        Layer.provide([
          One.toLayer(needsSql, ({ n }) => write(`${n % 50} ${n}`)),
          // One statement for the batch; as many rows as events
          All.toLayer(needsSql, (events) =>
            events.some(({ n }) => isPoison(n))
              ? Effect.fail(new Boom({ id: "poison" }))
              : SqlClient.SqlClient.use((sql) =>
                Effect.asVoid(
                  sql`INSERT INTO writes ${sql.insert(Arr.map(events, ({ n }) => ({ what: `batch ${n}` })))}`
                )
              ))
        ]),
        Layer.provide(Inbox.layer())
      )
      yield* Effect.gen(function*() {
        for (const round of ["first", "again"]) {
          const messages = Array.from({ length: count }, (_, n) =>
            Message.make({
              topic: "counts",
              key: String(n % 50),
              attributes: { specversion: "1.0", id: String(n), source: "/test", type: "Counted.v1", round },
              body: new TextEncoder().encode(JSON.stringify({ n }))
            }))
          yield* Broker.Broker.use(({ publish }) => publish(messages as [Message.Message, ...Array<Message.Message>]))
        }
        yield* broker.awaitIdle
      }).pipe(Effect.provide(consumer))

      const good = Array.from({ length: count }, (_, n) => n).filter((n) => !isPoison(n))
      const rows = yield* written
      const byHandler = (isBatch: boolean) => rows.filter((row) => row.startsWith("batch") === isBatch)
      assert.deepStrictEqual(byHandler(true).toSorted(), good.map((n) => `batch ${n}`).toSorted())
      for (let key = 0; key < 50; key++) {
        assert.deepStrictEqual(
          byHandler(false).filter((row) => row.startsWith(`${key} `)),
          good.filter((n) => n % 50 === key).map((n) => `${key} ${n}`)
        )
      }
      assert.strictEqual(byHandler(false).length, good.length)
      // Each of the two
      assert.strictEqual((yield* broker.messages("counts.dead-letter")).length, 2 * (count - good.length))
    }).pipe(Effect.provide(Layer.mergeAll(MemoryBroker.layer(), database({ maxConnections: 8 })))))
})
