/** How relays are told of new messages. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Mediator } from "@event-flow/core"
import { Outbox } from "@event-flow/sql-layer"
import { Array as Arr, Effect, Fiber, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { Announced, announced, Boom, database, flow, Place, write, written } from "../support/orders.ts"
import { message, over, publish, put } from "../support/outbox.ts"
import { withServer } from "../support/support.ts"

const send = Mediator.send(new Place({ id: "a" }))

withServer("relays are told", () => {
  const listening = Effect.flatMap(PgClient.PgClient, (sql) => sql.listen("event_flow_outbox"))
  /** Behind all notifications that are on their way. */
  const mark = Effect.flatMap(PgClient.PgClient, (sql) => sql.notify("event_flow_outbox", "mark"))

  it.live("after a commit", () =>
    Effect.gen(function*() {
      const told = yield* listening
      yield* send
      assert.strictEqual((yield* Queue.take(told)).payload, "")
    }).pipe(Effect.scoped, Effect.provide(flow())))

  it.live("neither before it nor after a roll-back", () =>
    Effect.gen(function*() {
      const told = yield* listening
      const sql = yield* SqlClient.SqlClient
      const broken = yield* Effect.flip(sql.withTransaction(
        Effect.gen(function*() {
          yield* publish(message())
          yield* Effect.forkDetach(mark).pipe(Effect.flatMap(Fiber.join))
          return yield* new Boom({ id: "a" })
        })
      ))
      assert.strictEqual(broken._tag, "Boom")
      yield* mark
      assert.deepStrictEqual((yield* Queue.takeN(told, 2)).map(({ payload }) => payload), ["mark", "mark"])
      assert.deepStrictEqual(yield* announced, [])
    }).pipe(Effect.scoped, Effect.provide(over())))

  it.live("not where that is switched off", () =>
    Effect.gen(function*() {
      const told = yield* listening
      yield* put(message())
      yield* mark
      assert.strictEqual((yield* Queue.take(told)).payload, "mark")
    }).pipe(Effect.scoped, Effect.provide(over({ notify: false }))))

  it.live("once for many commits of a moment, and again for later ones", () =>
    Effect.gen(function*() {
      const told = yield* listening
      yield* Effect.forEach(Arr.range(1, 100), (i) => Mediator.send(new Place({ id: String(i) })), { concurrency: 50 })
      yield* Queue.take(told)
      yield* mark
      const before: Array<string> = []
      while (before.at(-1) !== "mark") before.push((yield* Queue.take(told)).payload)
      assert.isBelow(before.length, 60)
      yield* Queue.clear(told)
      yield* send
      assert.strictEqual((yield* Queue.take(told)).payload, "")
      assert.strictEqual((yield* written).length, 101)
    }).pipe(
      Effect.scoped,
      Effect.provide(flow({
        client: { maxConnections: 20 },
        place: ({ id }, { collect }) => write(id).pipe(Effect.andThen(collect(new Announced({ id }))), Effect.as(id))
      }))
    ))

  it.live("once for a commit, and not again and again", () =>
    Effect.gen(function*() {
      const told = yield* listening
      const sql = yield* SqlClient.SqlClient
      yield* put(message())
      assert.strictEqual((yield* Queue.take(told)).payload, "")
      for (let i = 0; i < 200; i++) yield* sql`SELECT 1`
      yield* mark
      assert.strictEqual((yield* Queue.take(told)).payload, "mark")
    }).pipe(Effect.scoped, Effect.provide(over())))

  it.live("again after that has failed, which harms nobody", () =>
    Effect.gen(function*() {
      const told = yield* listening
      const sql = yield* SqlClient.SqlClient
      yield* sql`ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_away`
      yield* put(message())
      // Behind the attempt, on the one connection that is left
      yield* sql`ALTER FUNCTION pg_catalog.pg_notify_away(text, text) RENAME TO pg_notify`
      yield* put(message())
      assert.strictEqual((yield* Queue.take(told)).payload, "")
    }).pipe(Effect.scoped, Effect.provide(Outbox.layer().pipe(Layer.provideMerge(database({ maxConnections: 2 }))))))
})
