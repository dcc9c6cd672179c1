/** The means of the other tests: servers, databases, faults of the network. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { startProxy } from "@event-flow/test-support/proxy"
import { Effect, Exit, Fiber, Layer, Redacted } from "effect"
import {
  clientLayer,
  control,
  eventually,
  freshDatabase,
  freshDatabaseLayer,
  ownServer,
  silently,
  withOwnServer,
  withServer
} from "./support/support.ts"

withServer("a shared server", () => {
  it.effect("gives a fresh database, and removes it", () =>
    Effect.gen(function*() {
      const url = yield* Effect.scoped(
        Effect.gen(function*() {
          const sql = yield* PgClient.PgClient
          assert.deepStrictEqual(yield* sql`SELECT 1 AS one`, [{ one: 1 }])
          return Redacted.value(sql.config.url!)
        }).pipe(Effect.provide(freshDatabaseLayer({ maxConnections: 2 })))
      )
      const error = yield* Effect.flip(
        Effect.flatMap(PgClient.PgClient, (sql) => sql`SELECT 1`).pipe(Effect.provide(clientLayer(url)))
      )
      assert.include(String(error.reason.cause), "does not exist")
    }))

  it.live("is seen through a proxy that fails", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => startProxy(url)),
        (proxy) => Effect.promise(proxy.close)
      )
      yield* Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* sql`SELECT 1`
        const sleeping = yield* Effect.forkChild(Effect.flip(sql`SELECT pg_sleep(600)`), { startImmediately: true })
        proxy.cut()
        yield* Fiber.join(sleeping)
        assert.deepStrictEqual(yield* sql`SELECT 1 AS one`, [{ one: 1 }])
      }).pipe(Effect.provide(Layer.provideMerge(clientLayer(proxy.url, { maxConnections: 1 }), silently)))
    }))
})

withOwnServer("a server of one's own", () => {
  for (const how of ["kill", "stop"] as const) {
    it.live(`has what was committed after ${how} and start`, () =>
      Effect.gen(function*() {
        const server = yield* ownServer()
        yield* Effect.gen(function*() {
          const sql = yield* PgClient.PgClient
          yield* sql`CREATE TABLE survivors (name text)`
          yield* sql`INSERT INTO survivors VALUES ('committed')`
          // The rollback fails, too: the exit has two reasons
          const open = yield* Effect.forkChild(
            Effect.exit(sql.withTransaction(Effect.andThen(
              sql`INSERT INTO survivors VALUES ('open')`,
              sql`SELECT pg_sleep(600)`
            ))),
            { startImmediately: true }
          )
          yield* eventually(
            "the transaction is open",
            Effect.map(
              sql`SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'`,
              (rows) => rows.length === 1
            )
          )
          yield* control(server, how)
          assert.isTrue(Exit.isFailure(yield* Fiber.join(open)))
          yield* control(server, "start")
          assert.deepStrictEqual(yield* sql`SELECT name FROM survivors`, [{ name: "committed" }])
        }).pipe(Effect.provide(freshDatabaseLayer({ server: server.url })))
      }))
  }
})
