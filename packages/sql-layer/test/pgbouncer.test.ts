/** PgBouncer in transaction mode between the programs and their database. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Broker } from "@event-flow/core"
import { Outbox, OutboxRelay } from "@event-flow/sql-layer"
import { noPgBouncer, startPgBouncer } from "@event-flow/test-support/pgBouncer"
import { unless } from "@event-flow/test-support/sharedServer"
import { Cause, Context, Effect, Layer, Logger, Redacted, References } from "effect"
import { SqlClient } from "effect/sql"
import { byKey, message, numbered } from "./support/messages.ts"
import { database, empty, recorder } from "./support/relays.ts"
import { clientLayer, eventually, withServer } from "./support/support.ts"

/** The database's address through the pooler. */
const pooled = Effect.flatMap(PgClient.PgClient, (sql) => {
  const direct = new URL(Redacted.value(sql.config.url!))
  return Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => startPgBouncer(direct.href)),
      (pooler) => Effect.promise(pooler.close)
    ),
    ({ url }) => url
  )
})

/** Twenty transactions at a time through a client of the outbox's own. */
const write = (url: string, keys: number, prepare: boolean) =>
  Effect.scoped(Effect.gen(function*() {
    const services = yield* Layer.build(Outbox.layer().pipe(Layer.provideMerge(clientLayer(url, { prepare }))))
    const sql = Context.get(services, SqlClient.SqlClient)
    const { publish } = Context.get(services, Broker.Broker)
    yield* Effect.forEach(
      Array.from({ length: keys }, (_, n) => n),
      (n) =>
        sql.withTransaction(
          Effect.forEach(numbered(`k${n}`, 4), (text) => publish([message(text)]), { discard: true })
        ),
      { concurrency: 20, discard: true }
    )
  }))

unless(noPgBouncer())("PgBouncer in transaction mode", () => {
  withServer("with prepare: false", () => {
    it.live("has everything published once and in order; the relay finds out that nobody tells it, and says so", () =>
      Effect.gen(function*() {
        const url = yield* pooled
        const lines: Array<string> = []
        const broker = recorder()
        const relay = Context.get(
          yield* Layer.build(
            OutboxRelay.layer({ concurrency: 2, statementTimeout: "3 seconds", pollInterval: "100 millis" }).pipe(
              Layer.provide([broker.layer, clientLayer(url, { prepare: false })]),
              Layer.provide([
                Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))]),
                Layer.succeed(References.MinimumLogLevel, "Warn")
              ])
            )
          ),
          OutboxRelay.OutboxRelay
        )
        yield* write(url, 60, false)
        yield* empty
        assert.lengthOf(broker.log(), 240)
        const published = byKey(broker.log())
        for (let n = 0; n < 60; n++) assert.deepStrictEqual(published.get(`k${n}`), numbered(`k${n}`, 4))
        yield* eventually(
          "the relay to notice",
          Effect.map(
            relay.health,
            (health) => health?.isListening === false && health.listenProblem?.includes("transaction mode") === true
          )
        )
        assert.isTrue(lines.some((line) => line.includes("it looks every 100ms") && line.includes("PgBouncer")))
        assert.strictEqual((yield* relay.health)?.state, "connected")
      }).pipe(Effect.scoped, Effect.provide(database())))
  })

  withServer("with statements that stay prepared", () => {
    it.live("fails, and the error says what to set", () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(write(yield* pooled, 200, true))
        assert.isTrue(exit._tag === "Failure")
        if (exit._tag === "Failure") {
          assert.isTrue(
            Cause.prettyErrors(exit.cause).some(({ message }) => message.includes("prepare: false")),
            Cause.pretty(exit.cause)
          )
        }
      }).pipe(Effect.scoped, Effect.provide(database())))
  })
})
