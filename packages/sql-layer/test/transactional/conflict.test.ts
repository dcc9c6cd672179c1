/** A dispatch runs again after a conflict with other transactions. */
import { assert, it } from "@effect/vitest"
import { Command, EventFlow, Mediator } from "@event-flow/core"
import { Transactional } from "@event-flow/sql-layer"
import { Cause, Effect, Exit, Fiber, Layer, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import {
  Announced,
  announced,
  Boom,
  conflicts,
  Failure,
  flow,
  meeting,
  needsSql,
  nothing,
  onChecked,
  Place,
  place,
  Placed,
  PlaceSerializably,
  raise,
  write,
  written
} from "../support/orders.ts"
import { eventually, started, withServer } from "../support/support.ts"

const send = Mediator.send(new Place({ id: "a" }))

const all = ["a handler", "a placed", "a checked"]

withServer("Transactional runs a dispatch again after a conflict", () => {
  /** Reads what the other writes, and the other way about: PostgreSQL lets only one of them commit. */
  const skew = (attempts: Array<string>, isAtCommit: boolean) => {
    const meet = meeting()
    return (
      { id }: { readonly id: string },
      { collect }: Parameters<typeof place>[1]
    ) =>
      Effect.gen(function*() {
        attempts.push(id)
        const sql = yield* SqlClient.SqlClient
        const [sum] = yield* sql<{ sum: number }>`SELECT count(*)::int AS sum FROM writes`
        if (!isAtCommit) yield* meet
        yield* write(`${id} ${sum!.sum}`)
        yield* collect(new Announced({ id: `${id} ${sum!.sum}` }))
        if (isAtCommit) yield* meet
        return id
      })
  }
  const both = Effect.all(
    [Mediator.send(new PlaceSerializably({ id: "a" })), Mediator.send(new PlaceSerializably({ id: "b" }))],
    { concurrency: 2 }
  )

  for (const isAtCommit of [false, true]) {
    const attempts: Array<string> = []
    it.live(
      `two serializable ones in conflict: both end, each with one set of rows${isAtCommit ? "; found at commit" : ""}`,
      () =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* both, ["a", "b"])
          assert.isAtLeast(attempts.length, 3)
          const rows = yield* written
          // As if one had been after the other
          assert.include(
            [["a 0", "b 1"], ["b 0", "a 1"]].map(String),
            String(rows.toSorted((x, y) => x.at(-1)! < y.at(-1)! ? -1 : 1))
          )
          assert.deepStrictEqual((yield* announced).sort(), rows.toSorted())
        }).pipe(Effect.provide(flow({ place: skew(attempts, isAtCommit) })))
    )
  }

  it.live("two that wait for each other's rows", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* write("x")
      yield* write("y")
      assert.deepStrictEqual(
        yield* Effect.all([send, Mediator.send(new Place({ id: "b" }))], { concurrency: 2 }),
        ["a", "b"]
      )
      assert.deepStrictEqual((yield* announced).sort(), ["a", "b"])
      const rows = yield* sql<{ what: string }>`SELECT what FROM writes ORDER BY what`
      assert.deepStrictEqual(
        rows.map((row) => row.what),
        ["xab", "yab"].flatMap((what) => rows.some((row) => row.what === what) ? [what] : [what[0] + "ba"])
      )
    }).pipe(Effect.provide((() => {
      const meet = meeting()
      return flow({
        client: { startupOptions: "-c deadlock_timeout=50ms" },
        place: ({ id }, { collect }) =>
          Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            const append = (row: string) => sql`UPDATE writes SET what = what || ${id} WHERE what LIKE ${row + "%"}`
            yield* collect(new Announced({ id }))
            yield* append(id === "a" ? "x" : "y")
            yield* meet
            yield* append(id === "a" ? "y" : "x")
            return id
          })
      })
    })())))

  it.live("with an empty collection: an attempt that failed announces nothing", () => {
    const conflict = conflicts(3)
    return Effect.gen(function*() {
      assert.strictEqual(yield* send, "a")
      assert.strictEqual(conflict.attempts, 4)
      assert.deepStrictEqual(yield* written, all)
      assert.deepStrictEqual(yield* announced, all)
    }).pipe(Effect.provide(flow({
      place: (command, context) => Effect.tap(place(command, context), conflict.run)
    })))
  })

  it.live("in an event handler, whose error wraps it: EventHandlerError", () => {
    const conflict = conflicts(2)
    return Effect.gen(function*() {
      yield* send
      assert.strictEqual(conflict.attempts, 3)
      assert.deepStrictEqual(yield* written, all)
      assert.deepStrictEqual(yield* announced, all)
    }).pipe(Effect.provide(flow({
      onChecked: (event, context) => Effect.andThen(onChecked(event, context), conflict.run)
    })))
  })

  it.live("beside others that were interrupted by it", () => {
    const conflict = conflicts(2)
    let attempt = 0
    return Effect.gen(function*() {
      yield* send
      assert.strictEqual(conflict.attempts, 3)
      assert.deepStrictEqual(yield* written, ["last"])
    }).pipe(Effect.provide(flow({
      concurrency: 4,
      place: (_, { collectAll }) =>
        Effect.suspend(() => {
          attempt++
          return Effect.as(collectAll(["1", "2", "3", "last"].map((id) => new Placed({ id }))), "a")
        }),
      onPlaced: ({ id }) =>
        Effect.suspend(() =>
          id === "last" ? Effect.andThen(conflict.run, write("last")) : attempt > 2 ? Effect.void : Effect.never
        )
    })))
  })

  it.live("among the failures that an accumulating processor lists, wherever it is", () => {
    const conflict = conflicts(1)
    return Effect.gen(function*() {
      const error = yield* Effect.flip(send)
      // The second attempt had only the failure that is none of others' doing
      assert.isTrue(error._tag === "EventsFailed" && error.failures.length === 1)
      assert.strictEqual(conflict.attempts, 2)
    }).pipe(Effect.provide(flow({
      onFailure: "accumulate",
      place: (_, { collectAll }) => Effect.as(collectAll(["1", "2"].map((id) => new Placed({ id }))), "a"),
      onPlaced: ({ id }) =>
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(id === "1" ? raise("23514") : conflict.run))
    })))
  })

  it.live("that the handler wrapped in an error of its own, with it as the cause", () => {
    const conflict = conflicts(2)
    return Effect.gen(function*() {
      yield* send
      assert.strictEqual(conflict.attempts, 3)
    }).pipe(Effect.provide(flow({
      place: ({ id }) =>
        conflict.run.pipe(
          Effect.mapError((cause) => new Boom({ id, cause: new Error("outer", { cause }) })),
          Effect.as(id)
        )
    })))
  })

  it.live("that the handler made a defect of", () => {
    const conflict = conflicts(2)
    return Effect.gen(function*() {
      yield* send
      assert.strictEqual(conflict.attempts, 3)
    }).pipe(Effect.provide(flow({ place: ({ id }) => Effect.as(Effect.orDie(conflict.run), id) })))
  })

  it.live("in the insert into the outbox: PublishError", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE SEQUENCE inserts`
      yield* sql.unsafe(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF nextval('inserts') <= 2 THEN RAISE EXCEPTION 'made' USING ERRCODE = '40001'; END IF;
          RETURN new;
        END $$`)
      yield* sql`CREATE TRIGGER refuse BEFORE INSERT ON event_flow_outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse()`
      yield* send
      assert.deepStrictEqual(yield* announced, all)
      // Two that were refused, and the three of the third attempt
      assert.deepStrictEqual(yield* sql`SELECT last_value::int AS inserts FROM inserts`, [{ inserts: 5 }])
    }).pipe(Effect.provide(flow({
      onChecked: (event, context) => Effect.andThen(onChecked(event, context), Effect.void)
    }))))

  it.live("that a constraint trigger finds at commit", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE SEQUENCE commits`
      yield* sql.unsafe(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF nextval('commits') <= 2 THEN RAISE EXCEPTION 'made' USING ERRCODE = '40001'; END IF;
          RETURN new;
        END $$`)
      yield* sql`CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON writes DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (new.what = 'a handler') EXECUTE FUNCTION refuse()`
      yield* send
      assert.deepStrictEqual(yield* written, all)
      assert.deepStrictEqual(yield* announced, all)
      assert.deepStrictEqual(yield* sql`SELECT last_value::int AS commits FROM commits`, [{ commits: 3 }])
    }).pipe(Effect.provide(flow())))

  it.live("at most five times; then it is the last error, as it is", () => {
    const conflict = conflicts(Infinity)
    return Effect.gen(function*() {
      const error = yield* Effect.flip(send)
      assert.isTrue(error._tag === "SqlError" && error.reason._tag === "SerializationError")
      assert.strictEqual(conflict.attempts, 6)
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(flow({
      place: (command, context) => Effect.tap(place(command, context), conflict.run)
    })))
  })

  it.live("at most as often as its schedule says", () => {
    class Once extends Command.Class<Once>()("Once", {
      error: Failure,
      middleware: [Transactional.make({ schedule: Schedule.recurs(1) })]
    }) {}
    class Never extends Command.Class<Never>()("Never", {
      error: Failure,
      middleware: [Transactional.make({ schedule: Schedule.recurs(0) })]
    }) {}
    class Few extends EventFlow.make("Few", { commands: [Once, Never] }) {}
    const once = conflicts(Infinity)
    const never = conflicts(Infinity)
    return Effect.gen(function*() {
      yield* Effect.flip(Mediator.send(new Once()))
      yield* Effect.flip(Mediator.send(new Never()))
      assert.deepStrictEqual([once.attempts, never.attempts], [2, 1])
    }).pipe(Effect.provide(
      Few.layer().pipe(
        Layer.provide([Once.toLayer(needsSql, () => once.run), Never.toLayer(needsSql, () => never.run)]),
        Layer.provideMerge(flow())
      )
    ))
  })

  class Slowly extends Command.Class<Slowly>()("Slowly", {
    error: Failure,
    middleware: [Transactional.make({ schedule: Schedule.spaced("1 hour") })]
  }) {}
  class Slow extends EventFlow.make("Slow", { commands: [Slowly] }) {}

  it.live("and is interrupted at once where it waits before the next", () => {
    const conflict = conflicts(Infinity)
    return Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const sending = yield* started(Mediator.send(new Slowly()))
      yield* eventually("the first attempt has ended", Effect.sync(() => conflict.attempts === 1))
      // It holds no connection meanwhile: there is one
      yield* sql`SELECT 1`
      yield* Fiber.interrupt(sending)
      assert.strictEqual(conflict.attempts, 1)
    }).pipe(Effect.provide(
      Slow.layer().pipe(
        Layer.provide(Slowly.toLayer(needsSql, () => conflict.run)),
        Layer.provideMerge(flow({ client: { maxConnections: 1 } }))
      )
    ))
  })

  it.live("not after other failures of the database", () => {
    let attempts = 0
    return Effect.gen(function*() {
      const error = yield* Effect.flip(send)
      assert.isTrue(error._tag === "SqlError" && error.reason._tag === "UniqueViolation")
      assert.strictEqual(attempts, 1)
    }).pipe(Effect.provide(flow({
      place: ({ id }) => Effect.suspend(() => (attempts++, Effect.as(raise("23505"), id)))
    })))
  })

  it.live("not when it was interrupted", () => {
    let attempts = 0
    return Effect.gen(function*() {
      const exit = yield* Effect.exit(send)
      assert.isTrue(Exit.hasInterrupts(exit))
      assert.strictEqual(attempts, 1)
    }).pipe(Effect.provide(flow({
      place: () =>
        Effect.suspend(() => {
          attempts++
          return Effect.catchCause(
            raise("40001"),
            (cause) => Effect.failCause(Cause.combine(cause, Cause.interrupt()))
          ).pipe(Effect.as("a"))
        })
    })))
  })
})
