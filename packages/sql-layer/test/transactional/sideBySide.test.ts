/** Work side by side in one transaction, of which some is undone. */
import { assert, it } from "@effect/vitest"
import { Command, EventFlow, Mediator } from "@event-flow/core"
import { Outbox, Transactional } from "@event-flow/sql-layer"
import { Deferred, Effect, Layer, Random } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { Checked, database, flow, Place, Placed, write, written } from "../support/orders.ts"
import { withServer } from "../support/support.ts"

const names = Array.from({ length: 30 }, (_, n) => n)

const inSavepoint = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(effect))

/** Runs a command of its own over a fresh database. */
const inCommand = <A>(
  handler: Effect.Effect<void, never, SqlClient.SqlClient>,
  after: Effect.Effect<A, never, SqlClient.SqlClient>
) => {
  class Run extends Command.Class<Run>()("Run", {
    middleware: [Transactional.make({ statementTimeout: "500 millis" })]
  }) {}
  class Runs extends EventFlow.make("Runs", { commands: [Run] }) {}
  return Effect.andThen(Effect.orDie(Mediator.send(new Run())), after).pipe(
    Effect.provide(
      Runs.layer().pipe(
        Layer.provide([Run.toLayer([SqlClient.SqlClient], () => handler), Outbox.layer()]),
        Layer.provideMerge(database())
      )
    )
  )
}

/** One handler opens a savepoint that it goes back to, when the other one has written or was long enough about to. */
const sideBySide = () => {
  const isOpen = Deferred.makeUnsafe<void>()
  const isWritten = Deferred.makeUnsafe<void>()
  return flow({
    concurrency: 2,
    place: ({ id }, { collectAll }) => Effect.as(collectAll([new Placed({ id }), new Checked({ id })]), id),
    onPlaced: () =>
      Effect.gen(function*() {
        yield* write("placed")
        yield* Deferred.succeed(isOpen, undefined)
        yield* Effect.timeoutOption(Deferred.await(isWritten), "300 millis")
        return yield* Effect.fail("undo")
      }).pipe(inSavepoint, Effect.ignore),
    onChecked: () =>
      Deferred.await(isOpen).pipe(
        Effect.andThen(write("checked")),
        Effect.andThen(Effect.asVoid(Deferred.succeed(isWritten, undefined)))
      )
  })
}

withServer("what is undone by a savepoint", () => {
  it.live("is the work in it alone, whatever others write meanwhile", () =>
    inCommand(
      Effect.forEach(names, (n) =>
        Effect.gen(function*() {
          yield* write(`${n} before`)
          const depth = yield* Random.nextIntBetween(1, 3)
          let work: Effect.Effect<void, SqlError.SqlError | "undo", SqlClient.SqlClient> = Effect.gen(function*() {
            yield* write(`${n} within`)
            const sql = yield* SqlClient.SqlClient
            for (let i = yield* Random.nextIntBetween(0, 3); i > 0; i--) yield* sql`SELECT pg_sleep(0.002)`
            if (n % 2 === 1) return yield* Effect.fail("undo" as const)
          })
          for (let i = 0; i < depth; i++) work = inSavepoint(work)
          yield* Effect.catchIf(work, (error) => error === "undo", () => Effect.void)
          yield* write(`${n} after`)
        }), { concurrency: "unbounded", discard: true }).pipe(Effect.orDie),
      Effect.gen(function*() {
        const expected = names.flatMap((n) =>
          n % 2 === 1 ? [`${n} before`, `${n} after`] : [`${n} before`, `${n} within`, `${n} after`]
        )
        assert.sameMembers(yield* Effect.orDie(written), expected)
      })
    ))

  it.live("is not what another event handler of the dispatch has written", () =>
    Effect.gen(function*() {
      yield* Mediator.send(new Place({ id: "a" }))
      assert.sameMembers(yield* written, ["checked"])
    }).pipe(Effect.provide(sideBySide())))

  it.live("does not wait for ever for one that waits for it", () => {
    const isOpen = Deferred.makeUnsafe<void>()
    const isWritten = Deferred.makeUnsafe<void>()
    return inCommand(
      Effect.gen(function*() {
        const holder = inSavepoint(
          Effect.andThen(
            Deferred.succeed(isOpen, undefined),
            Effect.timeoutOption(Deferred.await(isWritten), "30 seconds")
          )
        )
        const writer = Effect.andThen(Deferred.await(isOpen), write("b")).pipe(
          Effect.flip,
          Effect.ensuring(Deferred.succeed(isWritten, undefined))
        )
        const [, error] = yield* Effect.all([holder, writer], { concurrency: 2 })
        assert.strictEqual(error.reason._tag, "LockTimeoutError")
        assert.include(error.reason.message, "savepoint")
      }).pipe(Effect.orDie),
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* Effect.orDie(written), [])
      })
    )
  })
})
