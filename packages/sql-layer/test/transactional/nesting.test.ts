/** Commands within each other, and streams. */
import { assert, it } from "@effect/vitest"
import { Command, EventFlow, Mediator } from "@event-flow/core"
import { Outbox, Transactional } from "@event-flow/sql-layer"
import { Effect, Exit, Layer, Schema, Stream } from "effect"
import { SqlClient } from "effect/sql"
import {
  Announced,
  announced,
  Boom,
  conflicts,
  emits,
  Failure,
  flow,
  needsSql,
  nothing,
  onChecked,
  Place,
  raise,
  write,
  written
} from "../support/orders.ts"
import { withServer } from "../support/support.ts"

const all = ["a handler", "a placed", "a checked"]

withServer("Transactional commands within each other", () => {
  class Outer extends Command.Class<Outer>()("Outer", {
    payload: { recovers: Schema.Boolean },
    success: Schema.String,
    error: Failure,
    emits,
    sends: [Place],
    middleware: [Transactional.make()]
  }) {}
  class Outside extends EventFlow.make("Outside", { commands: [Outer] }) {}

  /** `Outer`, which sends `Place` of the other flow. */
  const over = (options: Parameters<typeof flow>[0], implementation = outer) =>
    Outside.layer().pipe(Layer.provide([implementation, Outbox.layer()]), Layer.provideMerge(flow(options)))

  const outer = Outer.toLayer(needsSql, ({ recovers }, { collect }) =>
    Effect.gen(function*() {
      yield* write("outer before")
      const inner = Mediator.send(new Place({ id: "a" })).pipe(
        Effect.catchTags({
          EventHandlerError: ({ cause }) => Effect.fail(cause as Failure),
          BrokerNotFound: Effect.die,
          PublishError: Effect.die,
          CascadeTooDeep: Effect.die,
          EventsFailed: Effect.die,
          TransactionError: Effect.die
        })
      )
      const answer = yield* (recovers ? Effect.catch(inner, () => Effect.succeed("recovered")) : inner)
      yield* write("outer after")
      yield* collect(new Announced({ id: "outer" }))
      return answer
    }))

  it.live("are one transaction, over one connection", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Mediator.send(new Outer({ recovers: false })), "a")
      assert.deepStrictEqual(yield* written, ["outer before", ...all, "outer after"])
      assert.deepStrictEqual(yield* announced, [...all, "outer"])
      const sql = yield* SqlClient.SqlClient
      const ends = yield* sql<{ n: number }>`SELECT count(DISTINCT xmin::text)::int AS n FROM event_flow_outbox`
      assert.isAtLeast(ends[0]!.n, 1)
    }).pipe(Effect.provide(over({ client: { maxConnections: 1 } }))))

  it.live("an inner failure that is recovered from undoes the inner writes and messages alone", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Mediator.send(new Outer({ recovers: true })), "recovered")
      assert.deepStrictEqual(yield* written, ["outer before", "outer after"])
      assert.deepStrictEqual(yield* announced, ["outer"])
    }).pipe(Effect.provide(over({
      onChecked: (event, context) => Effect.andThen(onChecked(event, context), Effect.fail(new Boom({ id: "a" })))
    }))))

  it.live("an inner statement that fails does not spoil the outer transaction", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Mediator.send(new Outer({ recovers: true })), "recovered")
      assert.deepStrictEqual(yield* written, ["outer before", "outer after"])
    }).pipe(Effect.provide(over({ onChecked: () => raise("23505") }))))

  it.live("an inner failure that is not recovered from undoes all", () =>
    Effect.gen(function*() {
      yield* Effect.flip(Mediator.send(new Outer({ recovers: false })))
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(over({
      onChecked: (event, context) => Effect.andThen(onChecked(event, context), Effect.fail(new Boom({ id: "a" })))
    }))))

  it.live("a conflict of the inner one runs the outer one again, as a whole", () => {
    const conflict = conflicts(2)
    const transactions = new Set<unknown>()
    return Effect.gen(function*() {
      assert.strictEqual(yield* Mediator.send(new Outer({ recovers: false })), "a")
      assert.strictEqual(conflict.attempts, 3)
      assert.strictEqual(transactions.size, 3)
      assert.deepStrictEqual(yield* written, ["outer before", ...all, "outer after"])
      assert.deepStrictEqual(yield* announced, [...all, "outer"])
    }).pipe(Effect.provide(over({
      onChecked: (event, context) =>
        Effect.gen(function*() {
          yield* onChecked(event, context)
          const sql = yield* SqlClient.SqlClient
          const [row] = yield* sql`SELECT pg_current_xact_id()::text AS id`
          transactions.add(row!["id"])
          yield* conflict.run
        })
    })))
  })

  it.live("an inner one that spoiled the transaction says so, as an outer one does", () => {
    const outcomes: Array<string> = []
    return Effect.gen(function*() {
      const error = yield* Effect.flip(Mediator.send(new Outer({ recovers: false })))
      assert.isTrue(error._tag === "TransactionError" && error.outcome === "rolledBack")
      assert.deepStrictEqual(outcomes, ["rolledBack"])
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(over(
      {
        // A failed statement, which it does not mention
        place: ({ id }) => Effect.as(Effect.ignore(raise("23505")), id)
      },
      Outer.toLayer(needsSql, () =>
        Mediator.send(new Place({ id: "a" })).pipe(
          Effect.catchTag("TransactionError", (error) => {
            outcomes.push(error.outcome)
            return Effect.succeed("recovered")
          }),
          Effect.orDie
        ))
    )))
  })

  it.live("in parallel are savepoints one after another", () => {
    class Many
      extends Command.Class<Many>()("Many", { error: Failure, sends: [Place], middleware: [Transactional.make()] })
    {}
    class AtOnce extends EventFlow.make("AtOnce", { commands: [Many] }) {}
    return Effect.gen(function*() {
      yield* Mediator.send(new Many())
      assert.deepStrictEqual((yield* written).sort(), ["0", "2", "4", "6", "8"].map((id) => `${id} handler`))
      assert.deepStrictEqual(yield* announced, yield* written)
    }).pipe(Effect.provide(
      AtOnce.layer().pipe(
        Layer.provide(Many.toLayer(() =>
          Effect.forEach(
            Array.from({ length: 10 }, (_, i) => i),
            (i) => Effect.ignore(Mediator.send(new Place({ id: String(i) }))),
            { concurrency: 4, discard: true }
          )
        )),
        Layer.provideMerge(flow({
          place: ({ id }, { collect }) =>
            write(`${id} handler`).pipe(
              Effect.andThen(collect(new Announced({ id: `${id} handler` }))),
              Effect.andThen(Number(id) % 2 === 0 ? Effect.succeed(id) : raise("23505").pipe(Effect.as(id)))
            )
        }))
      )
    ))
  })
})

withServer("Transactional streams", () => {
  class Import extends Command.Class<Import>()("Import", {
    payload: { fails: Schema.Boolean },
    success: Schema.String,
    error: Failure,
    emits,
    middleware: [Transactional.make()],
    stream: true
  }) {}
  class Imports extends EventFlow.make("Imports", { commands: [Import] }) {}
  const handler = Import.toLayer(needsSql, ({ fails }, { collect }) =>
    Stream.make("1", "2", "3").pipe(
      Stream.tap((id): Effect.Effect<void, Failure, SqlClient.SqlClient> =>
        fails && id === "3"
          ? Effect.fail(new Boom({ id }))
          : Effect.andThen(write(id), collect(new Announced({ id })))
      )
    ))
  const layer = Imports.layer().pipe(Layer.provide([handler, Outbox.layer()]), Layer.provideMerge(flow()))

  it.live("commit at their end, and not before", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const elements = yield* Mediator.stream(new Import({ fails: false })).pipe(
        Stream.tap(() => Effect.map(nothing, (rows) => seen.push(rows.length))),
        Stream.runCollect
      )
      assert.deepStrictEqual([...elements], ["1", "2", "3"])
      assert.deepStrictEqual(seen, [0, 0, 0])
      assert.deepStrictEqual(yield* written, ["1", "2", "3"])
      assert.deepStrictEqual(yield* announced, ["1", "2", "3"])
    }).pipe(Effect.provide(layer)))

  it.live("undo all when they fail in the middle", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Stream.runDrain(Mediator.stream(new Import({ fails: true }))))
      assert.strictEqual(error._tag, "Boom")
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(layer)))

  it.live("commit what was handed on when the receiver has had enough", () =>
    Effect.gen(function*() {
      const elements = yield* Stream.runCollect(Stream.take(Mediator.stream(new Import({ fails: false })), 2))
      assert.deepStrictEqual([...elements], ["1", "2"])
      assert.deepStrictEqual(yield* written, ["1", "2"])
      assert.deepStrictEqual(yield* announced, ["1", "2"])
    }).pipe(Effect.provide(layer)))

  it.live("undo all when the receiver fails or is interrupted before their end", () =>
    Effect.gen(function*() {
      for (const end of [Effect.fail("enough"), Effect.interrupt]) {
        let taken = 0
        const receiving = Stream.runForEach(
          Mediator.stream(new Import({ fails: false })),
          (): Effect.Effect<void, string> => ++taken < 2 ? Effect.void : end
        )
        assert.isTrue(Exit.isFailure(yield* Effect.exit(receiving)))
        assert.deepStrictEqual(yield* nothing, [])
      }
    }).pipe(Effect.provide(layer)))
})
