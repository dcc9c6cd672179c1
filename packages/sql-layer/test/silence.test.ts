/** Connections that fall silent: the network has forgotten them, and neither end hears of it. New ones work. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Command, EventFlow, Health, Inbox as CoreInbox, Mediator } from "@event-flow/core"
import { Inbox, Outbox, OutboxRelay, Transactional } from "@event-flow/sql-layer"
import { type Proxy, startProxy } from "@event-flow/test-support/proxy"
import { Context, Effect, Layer, Logger, Redacted, References, Schema, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import { byKey, numbered } from "./support/messages.ts"
import { database, empty, never, put, recorder } from "./support/relays.ts"
import { clientLayer, eventually, withServer } from "./support/support.ts"

const statementTimeout = "1 second"

const proxy: Effect.Effect<Proxy, never, PgClient.PgClient | Scope.Scope> = Effect.flatMap(
  PgClient.PgClient,
  (sql) =>
    Effect.acquireRelease(
      Effect.promise(() => startProxy(Redacted.value(sql.config.url!))),
      (proxy) => Effect.promise(proxy.close)
    )
)

/** What is logged, for who is built over it. */
const logged = () => {
  const lines: Array<string> = []
  const layer = Layer.merge(
    Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))]),
    Layer.succeed(References.MinimumLogLevel, "Warn")
  )
  return { lines, layer }
}

/** Has so many connections lie in the pool. */
const fillPool = (connections: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.forEach(
      Array.from({ length: connections }),
      () => sql.withTransaction(sql`SELECT pg_sleep(0.2)`),
      { concurrency: "unbounded", discard: true }
    ))

const written = (what: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO written VALUES (${what})`)

const test = <E>(name: string, test: Effect.Effect<void, E, PgClient.PgClient | SqlClient.SqlClient | Scope.Scope>) =>
  it.live(name, () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE written (what text NOT NULL)`
      yield* test
    }).pipe(Effect.scoped, Effect.provide(database())))

withServer("a connection that falls silent", () => {
  test(
    "does not hold up a relay: it takes another one, is told of new rows again, and says so",
    Effect.gen(function*() {
      const { silence, url } = yield* proxy
      const { layer, lines } = logged()
      const broker = recorder()
      const relay = Context.get(
        yield* Layer.build(
          OutboxRelay.layer({ statementTimeout, pollInterval: "100 millis" }).pipe(
            Layer.provide([broker.layer, clientLayer(url)]),
            Layer.provideMerge(Health.layer),
            Layer.provide(layer)
          )
        ),
        OutboxRelay.OutboxRelay
      )
      const health = Effect.map(relay.health, (health) => health!)
      yield* put(numbered("a", 20))
      yield* empty
      yield* eventually("it to hear", Effect.map(health, ({ isListening }) => isListening))
      for (let round = 1; round <= 3; round++) {
        silence()
        yield* put(numbered(`b${round}`, 20))
        yield* empty
        assert.isAtLeast(lines.filter((line) => line.includes("gave no answer within 1 seconds: ended")).length, round)
      }
      assert.strictEqual((yield* health).state, "connected")
      const published = byKey(broker.log())
      for (const key of ["a", "b1", "b2", "b3"]) assert.deepStrictEqual(published.get(key), numbered(key, 20))
      assert.lengthOf(broker.log(), 80)
    })
  )

  test(
    "of a batch that is being published, has its rows published again",
    Effect.gen(function*() {
      const { silence, url } = yield* proxy
      let isFirst = true
      const broker = recorder(() =>
        Effect.sync(() => {
          if (isFirst) silence()
          isFirst = false
        })
      )
      yield* Layer.build(
        OutboxRelay.layer({ statementTimeout, pollInterval: "100 millis" }).pipe(
          Layer.provide([broker.layer, clientLayer(url)])
        )
      )
      yield* put(numbered("a", 20))
      yield* empty
      assert.deepStrictEqual(broker.log(), [...numbered("a", 20), ...numbered("a", 20)])
    })
  )

  test(
    "does not fail a command that has not begun, whatever lies in the pool; one that has fails within the bound",
    Effect.gen(function*() {
      const { silence, url } = yield* proxy
      let duringHandler = Effect.void
      class Write extends Command.Class<Write>()("Write", {
        payload: { what: Schema.String },
        middleware: [Transactional.make({ statementTimeout })]
      }) {}
      class Flow extends EventFlow.make("Flow", { commands: [Write] }) {}
      const services = yield* Layer.build(
        Flow.layer().pipe(
          Layer.provide(Write.toLayer([SqlClient.SqlClient], ({ what }) =>
            Effect.andThen(
              duringHandler,
              Effect.orDie(written(what))
            ))),
          Layer.provide(Outbox.layer()),
          Layer.provideMerge(clientLayer(url))
        )
      )
      const send = (what: string) => Effect.provideContext(Mediator.send(new Write({ what })), services)
      yield* Effect.provideContext(fillPool(5), services)
      silence()
      yield* send("after a silence")
      duringHandler = Effect.sync(() => void silence())
      const exit = yield* Effect.exit(send("during a silence"))
      assert.include(String(exit), "gave no answer within 1 seconds")
      duringHandler = Effect.void
      yield* send("at the end")
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<{ what: string }>`SELECT what FROM written`
      assert.deepStrictEqual(rows.map(({ what }) => what), ["after a silence", "at the end"])
    })
  )

  test(
    "at the commit of a command leaves its outcome unknown, and says so",
    Effect.gen(function*() {
      const { silence, url } = yield* proxy
      class Write extends Command.Class<Write>()("Write", {
        middleware: [Transactional.make({ statementTimeout })]
      }) {}
      class Flow extends EventFlow.make("Flow", { commands: [Write] }) {}
      const services = yield* Layer.build(
        Flow.layer().pipe(
          Layer.provide(
            Write.toLayer(
              [SqlClient.SqlClient],
              () => Effect.andThen(Effect.orDie(written("a")), Effect.sync(() => void silence()))
            )
          ),
          Layer.provide(Outbox.layer()),
          Layer.provideMerge(clientLayer(url))
        )
      )
      const error = yield* Effect.flip(Effect.provideContext(Mediator.send(new Write()), services))
      assert.strictEqual(error._tag, "TransactionError")
      assert.strictEqual(error._tag === "TransactionError" && error.outcome, "unknown")
    })
  )

  test(
    "has an inbox handle the message: at once with another one, or when it comes again",
    Effect.gen(function*() {
      const { silence, url } = yield* proxy
      const services = yield* Layer.build(
        Inbox.layer({ statementTimeout }).pipe(Layer.provideMerge(clientLayer(url)))
      )
      const handle = (id: string, before: Effect.Effect<void>) =>
        CoreInbox.Inbox.use((inbox) => inbox.once("c", id, Effect.andThen(before, written(id)))).pipe(
          Effect.provideContext(services)
        )
      yield* Effect.provideContext(fillPool(3), services)
      silence()
      yield* handle("1", Effect.void)
      assert.include(String(yield* Effect.exit(handle("2", Effect.sync(() => void silence())))), "gave no answer")
      yield* handle("2", Effect.void)
      yield* handle("2", Effect.void)
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<{ what: string }>`SELECT what FROM written`
      assert.deepStrictEqual(rows.map(({ what }) => what), ["1", "2"])
    })
  )

  test(
    "that listens is noticed, and replaced",
    Effect.gen(function*() {
      const { silence, url } = yield* proxy
      const broker = recorder()
      const { layer, lines } = logged()
      yield* Layer.build(
        OutboxRelay.layer({ statementTimeout, pollInterval: never }).pipe(
          Layer.provide([broker.layer, clientLayer(url)]),
          Layer.provide(layer)
        )
      )
      const heard = eventually(
        "a relay to be told",
        Effect.gen(function*() {
          const before = broker.log().length
          yield* put(["a:1"])
          yield* (yield* PgClient.PgClient).notify("event_flow_outbox", "")
          yield* Effect.sleep("300 millis")
          return broker.log().length > before
        })
      )
      yield* heard
      silence()
      yield* heard
      assert.isTrue(lines.some((line) => line.includes("is not told of new rows")))
    })
  )
})
