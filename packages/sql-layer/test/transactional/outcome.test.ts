/** What became of a transaction that failed, and what the sender is told. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Mediator } from "@event-flow/core"
import { startProxy } from "@event-flow/test-support/proxy"
import { Context, Deferred, Effect, Fiber, Layer, Redacted } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { announced, database, flow, flowOver, nothing, Place, raise, write, written } from "../support/orders.ts"
import {
  clientLayer,
  control,
  eventually,
  freshDatabase,
  ownServer,
  silently,
  started,
  withOwnServer,
  withServer
} from "../support/support.ts"

const send = Mediator.send(new Place({ id: "a" }))

const all = ["a handler", "a placed", "a checked"]

withServer("Transactional says what became of a transaction", () => {
  const transactionError = Effect.flatMap(
    Effect.flip(send),
    (error) => error._tag === "TransactionError" ? Effect.succeed(error) : Effect.die(error)
  )

  it.live("rolledBack: a deferred constraint is violated at commit", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE known (what text PRIMARY KEY)`
      yield* sql`ALTER TABLE writes ADD FOREIGN KEY (what) REFERENCES known DEFERRABLE INITIALLY DEFERRED`
      const error = yield* transactionError
      assert.strictEqual(error.outcome, "rolledBack")
      assert.strictEqual(error.command, "Place")
      assert.strictEqual((error.cause as SqlError.SqlError).reason._tag, "ConstraintError")
      assert.include(error.message, "nothing has changed")
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(flow())))

  it.live("rolledBack: the handler recovered from a failed statement, and nothing else can be done", () =>
    Effect.gen(function*() {
      const error = yield* transactionError
      assert.strictEqual(error.outcome, "rolledBack")
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(flow({
      place: ({ id }) => write("lost").pipe(Effect.andThen(raise("23505")), Effect.ignore, Effect.as(id))
    }))))

  it.live("nothing of the kind: the handler recovered around a savepoint of its own", () =>
    Effect.gen(function*() {
      yield* send
      assert.deepStrictEqual(yield* written, ["kept"])
    }).pipe(Effect.provide(flow({
      place: ({ id }) =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* Effect.ignore(sql.withTransaction(Effect.andThen(write("lost"), raise("23505"))))
          yield* write("kept")
          return id
        })
    }))))

  /** A flow over a proxy, and a look at the database behind its back. */
  const throughProxy = Effect.gen(function*() {
    const behind = yield* Layer.build(database())
    const url = Redacted.value(Context.get(behind, PgClient.PgClient).config.url!)
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy(url)),
      (proxy) => Effect.promise(proxy.close)
    )
    const client = clientLayer(proxy.url, { maxConnections: 1, connectTimeout: "2 seconds" })
    const over = yield* Layer.build(
      flowOver({ outbox: { notify: false } }).pipe(
        Layer.provideMerge(client),
        Layer.provide(silently)
      )
    )
    return { proxy, behind: Effect.provide(behind), over: Effect.provide(over) }
  })

  /** A commit that waits until `release`. */
  const slowCommit = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN new; END $$`)
    yield* sql`CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON writes DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW WHEN (new.what = 'a handler') EXECUTE FUNCTION slow()`
    const release = yield* Deferred.make<void>()
    const isHeld = yield* Deferred.make<void>()
    yield* started(sql.withTransaction(
      sql`SELECT pg_advisory_xact_lock(4711)`.pipe(
        Effect.andThen(Deferred.succeed(isHeld, undefined)),
        Effect.andThen(Deferred.await(release))
      )
    ))
    yield* Deferred.await(isHeld)
    const isCommitting = eventually(
      "it commits",
      Effect.map(
        sql`SELECT FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'advisory'
          AND datname = current_database()`,
        (rows) => rows.length > 0
      )
    )
    return { isCommitting, release: Deferred.succeed(release, undefined) }
  })

  it.live("unknown: the connection is lost while it commits, and the commit comes to pass", () =>
    Effect.gen(function*() {
      const { behind, over, proxy } = yield* throughProxy
      const { isCommitting, release } = yield* behind(slowCommit)
      const sending = yield* started(over(transactionError))
      yield* behind(isCommitting)
      proxy.cut()
      const error = yield* Fiber.join(sending)
      assert.strictEqual(error.outcome, "unknown")
      assert.include(error.message, "it may have been")
      assert.deepStrictEqual(yield* behind(nothing), [])
      yield* release
      yield* eventually("it has committed", behind(Effect.map(written, (rows) => rows.length === 3)))
      assert.deepStrictEqual(yield* behind(announced), all)
      // And the client goes on
      assert.deepStrictEqual(yield* over(written), all)
    }))

  it.live("notStarted: there is no way to the database", () =>
    Effect.gen(function*() {
      const { behind, over, proxy } = yield* throughProxy
      yield* Effect.promise(proxy.close)
      const error = yield* over(transactionError)
      assert.strictEqual(error.outcome, "notStarted")
      assert.include(error.message, "could not be begun")
      assert.deepStrictEqual(yield* behind(nothing), [])
    }))

  it.live("the handler's own error: the connection is lost in the middle, roll-back is the server's work", () =>
    Effect.gen(function*() {
      const { behind, over, proxy } = yield* throughProxy
      const sql = yield* behind(SqlClient.SqlClient)
      // The second insert waits for this
      const isHeld = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      yield* started(sql.withTransaction(
        sql`LOCK TABLE event_flow_outbox`.pipe(
          Effect.andThen(Deferred.succeed(isHeld, undefined)),
          Effect.andThen(Deferred.await(release))
        )
      ))
      yield* Deferred.await(isHeld)
      const sending = yield* started(over(Effect.flip(send)))
      yield* eventually(
        "it waits",
        Effect.map(
          sql`SELECT FROM pg_locks WHERE NOT granted AND relation = 'event_flow_outbox'::regclass`,
          (rows) => rows.length > 0
        )
      )
      proxy.cut()
      const error = yield* Fiber.join(sending)
      assert.isTrue(error._tag === "PublishError" && error.reason._tag === "Unreachable")
      yield* Deferred.succeed(release, undefined)
      yield* eventually(
        "its session has ended",
        Effect.map(
          sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND state <> 'idle'`,
          (rows) => rows.length === 0
        )
      )
      assert.deepStrictEqual(yield* behind(nothing), [])
      assert.strictEqual(yield* over(send), "a")
    }))
})

withOwnServer("Transactional, when the server dies while it commits", () => {
  it.live("says unknown; what the server has after its recovery is all or nothing", () =>
    Effect.gen(function*() {
      const server = yield* ownServer()
      const url = yield* freshDatabase({ server: server.url })
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN PERFORM pg_sleep(600); RETURN new; END $$`)
        yield* sql`CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON writes DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION slow()`
        const sending = yield* started(Effect.flip(send))
        yield* eventually(
          "it commits",
          Effect.map(
            sql`SELECT FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'`,
            (rows) => rows.length > 0
          )
        )
        yield* control(server, "kill")
        const error = yield* Fiber.join(sending)
        assert.isTrue(error._tag === "TransactionError" && error.outcome === "unknown")
        yield* control(server, "start")
        assert.deepStrictEqual(yield* nothing, [])
      }).pipe(Effect.provide(flow({ client: { server: url } })))
    }))
})
