/** When `Outbox.layer` refuses a message, and what it says. */
import { assert, it } from "@effect/vitest"
import { Broker, Command, EventFlow, Mediator, Message } from "@event-flow/core"
import { Outbox } from "@event-flow/sql-layer"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Announced, announced, database, emits, Failure, flow, nothing, Place, recorder } from "../support/orders.ts"
import { encoder, message, over, publish, put } from "../support/outbox.ts"
import { eventually, freshDatabaseLayer, withServer } from "../support/support.ts"

const send = Mediator.send(new Place({ id: "a" }))

const reasonOf = <A, E, R>(effect: Effect.Effect<A, E | Broker.PublishError, R>) =>
  Effect.flatMap(
    Effect.flip(effect),
    (error) => error instanceof Broker.PublishError ? Effect.succeed(error.reason) : Effect.die(error)
  )

/** While another transaction has locked the outbox. */
const whileLocked = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const isLocked = yield* Deferred.make<void>()
    yield* sql`LOCK TABLE event_flow_outbox`.pipe(
      Effect.andThen(Deferred.succeed(isLocked, undefined)),
      Effect.andThen(Effect.never),
      sql.withTransaction,
      Effect.forkScoped
    )
    yield* Deferred.await(isLocked)
    return yield* effect
  }))

withServer("the outbox refuses", () => {
  class Careless extends Command.Class<Careless>()("Careless", { error: Failure, emits }) {}
  class Carelessly extends EventFlow.make("Carelessly", { commands: [Careless] }) {}
  const careless = (outbox?: Outbox.Options) =>
    Carelessly.layer().pipe(
      Layer.provide(Careless.toLayer((_, { collect }) => collect(new Announced({ id: "careless" })))),
      Layer.provide(Outbox.layer(outbox)),
      Layer.provideMerge(database())
    )

  it.live("messages outside of a transaction, and says what to do", () =>
    Effect.gen(function*() {
      const reason = yield* reasonOf(Mediator.send(new Careless()))
      assert.strictEqual(reason._tag, "TransactionRequired")
      assert.isFalse(reason.isRetryable)
      for (const remedy of ["Transactional.make()", "sql.withTransaction", "allowOutsideTransaction"]) {
        assert.include(reason.detail, remedy)
      }
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(careless())))

  it.live("not so where that is allowed: they are there whatever becomes of the rest", () =>
    Effect.gen(function*() {
      yield* Mediator.send(new Careless())
      assert.deepStrictEqual(yield* announced, ["careless"])
    }).pipe(Effect.provide(careless({ allowOutsideTransaction: true }))))

  it.live("a transaction of another client", () =>
    Effect.gen(function*() {
      const other = yield* Layer.build(Layer.fresh(database()))
      const reason = yield* reasonOf(Effect.flatMap(
        Effect.provide(SqlClient.SqlClient, other),
        (sql) => sql.withTransaction(publish(message()))
      ))
      assert.strictEqual(reason._tag, "TransactionRequired")
    }).pipe(Effect.provide(over())))

  it.live("UnknownTopic where the table is missing, and asks for the migrations", () =>
    Effect.gen(function*() {
      const reason = yield* reasonOf(put(message()))
      assert.strictEqual(reason._tag, "UnknownTopic")
      assert.include(reason.detail, "\"event_flow_outbox\" does not exist")
      assert.include(reason.detail, "Migrations")
    }).pipe(Effect.provide(Outbox.layer().pipe(Layer.provideMerge(freshDatabaseLayer())))))

  it.live("NotAuthorised where it may not write", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`SET SESSION AUTHORIZATION pg_monitor`
      const reason = yield* reasonOf(put(message()))
      assert.strictEqual(reason._tag, "NotAuthorised")
    }).pipe(Effect.provide(Outbox.layer().pipe(Layer.provideMerge(database({ maxConnections: 1 }))))))

  it.live("Timeout where a statement takes too long", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      for (const setting of ["lock_timeout", "statement_timeout"]) {
        const reason = yield* reasonOf(
          sql.withTransaction(Effect.andThen(sql.unsafe(`SET LOCAL ${setting} = '50ms'`), publish(message())))
        )
        assert.strictEqual(reason._tag, "Timeout")
        assert.isTrue(reason.isRetryable)
      }
    }).pipe(whileLocked, Effect.provide(over())))

  for (
    const [what, end] of [
      ["an administrator ends its session between two statements", "SELECT pg_terminate_backend(pg_backend_pid())"],
      ["its transaction is idle for too long", "SET LOCAL idle_in_transaction_session_timeout = '20ms'"],
      ["its transaction takes too long", "SET LOCAL transaction_timeout = '20ms'"],
      ["the server is a standby", "SET LOCAL transaction_read_only = on"]
    ] as const
  ) {
    it.live(`Unreachable where ${what}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        let reason: Effect.Success<ReturnType<typeof reasonOf>> | undefined
        // Rolling back fails as well
        yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
          yield* Effect.ignore(sql.unsafe(end))
          yield* Effect.sleep("500 millis")
          reason = yield* reasonOf(publish(message()))
        })))
        if (reason === undefined) return assert.fail("nothing was published")
        assert.strictEqual(reason._tag, "Unreachable", reason.detail)
        assert.isTrue(reason.isRetryable)
      }).pipe(Effect.provide(over())))
  }

  it.live("Unreachable where an administrator ends its session, as a server does that stops", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const publishing = yield* Effect.forkChild(reasonOf(send), { startImmediately: true })
      yield* eventually(
        "it waits, and is ended",
        Effect.map(
          sql`SELECT pg_terminate_backend(pid) FROM pg_locks
            WHERE NOT granted AND relation = 'event_flow_outbox'::regclass`,
          (rows) => rows.length > 0
        )
      )
      const reason = yield* Fiber.join(publishing)
      assert.strictEqual(reason._tag, "Unreachable")
      assert.isTrue(reason.isRetryable)
    }).pipe(whileLocked, Effect.provide(flow())))

  it.live("MessageTooLarge for one that no relay could read, which would be in the way of all others", () =>
    Effect.gen(function*() {
      const large = message({ body: new Uint8Array(16 * 1024 * 1024) })
      const error = yield* Effect.flip(put(message(), Message.copy(large, { topic: "large" })))
      assert.isTrue(error._tag === "PublishError" && error.reason._tag === "MessageTooLarge" && error.topic === "large")
      assert.include(error.message, "maxMessageSize")
      assert.deepStrictEqual(yield* announced, [])
      // What is just small enough is read
      yield* put(message({ body: new Uint8Array(16 * 1024 * 1024 - 200) }))
      assert.strictEqual(yield* recorder().drain, 1)
    }).pipe(Effect.provide(over())))

  it.live("MessageTooLarge by what its client reads, whichever column it is", () =>
    Effect.gen(function*() {
      const part = "ü".repeat(30_000)
      for (
        const large of [
          message({ key: part, body: new Uint8Array(10_000) }),
          message({ key: encoder.encode(part), body: new Uint8Array(10_000) }),
          message({ headers: { part }, body: new Uint8Array(10_000) }),
          message({ attributes: { part }, body: new Uint8Array(10_000) })
        ]
      ) {
        assert.strictEqual((yield* reasonOf(put(large)))._tag, "MessageTooLarge")
      }
      yield* put(message({ headers: { part } }))
      assert.strictEqual(yield* recorder().drain, 1)
    }).pipe(Effect.provide(Outbox.layer().pipe(Layer.provideMerge(database({ maxMessageSize: 65_536 }))))))

  it.live("Rejected for anything else", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`ALTER TABLE event_flow_outbox ADD CHECK (topic <> 'forbidden')`
      const reason = yield* reasonOf(put(message({ topic: "forbidden" })))
      assert.strictEqual(reason._tag, "Rejected")
    }).pipe(Effect.provide(over())))

  it.live("a message that lost its attributes in a copy, with a defect", () =>
    Effect.gen(function*() {
      const { attributes: _, ...broken } = message()
      const exit = yield* Effect.exit(put(broken as Message.Message))
      assert.include(String(exit), "lost its attributes")
    }).pipe(Effect.provide(over())))
})
