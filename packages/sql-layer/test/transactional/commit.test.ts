/** What `Transactional` makes one transaction, and that it rolls back as one. */
import { assert, it } from "@effect/vitest"
import { Command, EventFlow, Mediator } from "@event-flow/core"
import { Transactional } from "@event-flow/sql-layer"
import { Deferred, Effect, Exit, Fiber, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import {
  Announced,
  announced,
  Boom,
  Failure,
  flow,
  nothing,
  onChecked,
  onPlaced,
  Place,
  place,
  Placed,
  write,
  written
} from "../support/orders.ts"
import { eventually, started, withServer } from "../support/support.ts"

const send = Mediator.send(new Place({ id: "a" }))

const all = ["a handler", "a placed", "a checked"]

withServer("Transactional commits", () => {
  it.live("what handler, event handlers and follow-ups wrote, and what they announced, together", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* send, "a")
      assert.deepStrictEqual(yield* written, all)
      assert.deepStrictEqual(yield* announced, all)
      // One transaction wrote all of it
      const sql = yield* SqlClient.SqlClient
      const transactions = yield* sql`SELECT xmin::text FROM writes UNION SELECT xmin::text FROM event_flow_outbox`
      assert.strictEqual(transactions.length, 1)
    }).pipe(Effect.provide(flow())))

  it.live("nothing before the end: others see none of it while an event handler runs", () =>
    Effect.gen(function*() {
      const isThere = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      yield* Effect.gen(function*() {
        const sending = yield* started(send)
        yield* Deferred.await(isThere)
        assert.deepStrictEqual(yield* nothing, [])
        yield* Deferred.succeed(goOn, undefined)
        yield* Fiber.join(sending)
        assert.deepStrictEqual(yield* written, all)
      }).pipe(Effect.provide(flow({
        onChecked: (event, context) =>
          Deferred.succeed(isThere, undefined).pipe(
            Effect.andThen(Deferred.await(goOn)),
            Effect.andThen(onChecked(event, context))
          )
      })))
    }))

  for (const concurrency of [1, 4, "unbounded"] as const) {
    it.live(`of ${concurrency} event handlers at a time, over one connection`, () =>
      Effect.gen(function*() {
        yield* send
        const ids = Array.from({ length: 50 }, (_, i) => String(i)).sort()
        assert.deepStrictEqual((yield* written).sort(), ids.map((id) => `${id} placed`))
        assert.deepStrictEqual((yield* announced).sort(), ids.map((id) => `${id} placed`))
        const sql = yield* SqlClient.SqlClient
        const transactions = yield* sql`SELECT xmin::text FROM writes UNION SELECT xmin::text FROM event_flow_outbox`
        assert.strictEqual(transactions.length, 1)
      }).pipe(Effect.provide(flow({
        concurrency,
        client: { maxConnections: 1 },
        outbox: { notify: false },
        place: (_, { collectAll }) =>
          Effect.as(collectAll(Array.from({ length: 50 }, (_, i) => new Placed({ id: String(i) }))), "a"),
        onPlaced: ({ id }, { collect }) =>
          Effect.andThen(write(`${id} placed`), collect(new Announced({ id: `${id} placed` })))
      }))))
  }

  for (const isolation of [undefined, "read committed", "repeatable read", "serializable"] as const) {
    class Ask extends Command.Class<Ask>()("Ask", {
      success: Schema.String,
      error: Failure,
      middleware: [Transactional.make({ isolation })]
    }) {}
    class Asking extends EventFlow.make("Asking", { commands: [Ask] }) {}
    it.live(`in the isolation that was asked for: ${isolation}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* Mediator.send(new Ask()), isolation ?? "read committed")
      }).pipe(Effect.provide(
        Asking.layer().pipe(
          Layer.provide(Ask.toLayer(Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            return Effect.fnUntraced(function*() {
              const [row] = yield* sql<{ level: string }>`SELECT current_setting('transaction_isolation') AS level`
              return row!.level
            })
          }))),
          Layer.provideMerge(flow())
        )
      )))
  }
})

withServer("Transactional rolls back all of it", () => {
  const boom = new Boom({ id: "a" })
  const fails = {
    "the handler": { place: (command, context) => Effect.andThen(place(command, context), Effect.fail(boom)) },
    "an event handler": { onPlaced: (event, context) => Effect.andThen(onPlaced(event, context), Effect.fail(boom)) },
    "a follow-up's handler": {
      onChecked: (event, context) => Effect.andThen(onChecked(event, context), Effect.fail(boom))
    }
  } satisfies Record<string, Parameters<typeof flow>[0]>
  const dies = {
    "the handler": { place: (command, context) => Effect.andThen(place(command, context), Effect.die(boom)) },
    "an event handler": { onPlaced: (event, context) => Effect.andThen(onPlaced(event, context), Effect.die(boom)) },
    "a follow-up's handler": {
      onChecked: (event, context) => Effect.andThen(onChecked(event, context), Effect.die(boom))
    }
  } satisfies Record<string, Parameters<typeof flow>[0]>

  for (const [who, options] of Object.entries(fails)) {
    for (const concurrency of [1, 4]) {
      it.live(`when ${who} fails, and gives its error as it is: concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(send)
          if (who === "the handler") assert.strictEqual(error, boom)
          else assert.isTrue(error._tag === "EventHandlerError" && error.cause === boom)
          assert.deepStrictEqual(yield* nothing, [])
        }).pipe(Effect.provide(flow({ ...options, concurrency }))))
    }
  }

  for (const [who, options] of Object.entries(dies)) {
    it.live(`when ${who} dies, and stays a defect`, () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(send)
        assert.deepStrictEqual(exit, Exit.die(boom))
        assert.deepStrictEqual(yield* nothing, [])
      }).pipe(Effect.provide(flow(options))))
  }

  for (const who of ["place", "onPlaced", "onChecked"] as const) {
    it.live(`when it is interrupted in ${who}, and gives the connection back`, () =>
      Effect.gen(function*() {
        const isThere = yield* Deferred.make<void>()
        const hangs = Effect.andThen(Deferred.succeed(isThere, undefined), Effect.never)
        yield* Effect.gen(function*() {
          const sending = yield* started(send)
          yield* Deferred.await(isThere)
          yield* Fiber.interrupt(sending)
          assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(sending)))
          assert.deepStrictEqual(yield* nothing, [])
        }).pipe(Effect.provide(flow({
          client: { maxConnections: 1 },
          ...(who === "place"
            ? { place: (command, context) => Effect.andThen(place(command, context), hangs) }
            : who === "onPlaced"
            ? { onPlaced: (event, context) => Effect.andThen(onPlaced(event, context), hangs) }
            : { onChecked: (event, context) => Effect.andThen(onChecked(event, context), hangs) })
        })))
      }))
  }

  it.live("when it is interrupted in a statement, which is cancelled", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const sending = yield* started(send)
      const isSleeping = Effect.map(
        sql`SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'
          AND datname = current_database()`,
        (rows) => rows.length > 0
      )
      yield* eventually("the statement runs", isSleeping)
      yield* Fiber.interrupt(sending)
      yield* eventually("the statement has ended", Effect.map(isSleeping, (is) => !is))
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(flow({
      onPlaced: (event, context) =>
        Effect.andThen(
          onPlaced(event, context),
          Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.asVoid(sql`SELECT pg_sleep(600)`))
        )
    }))))

  it.live("also with an accumulating processor, which runs all the rest first", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(send)
      assert.strictEqual(error._tag, "EventsFailed")
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(flow({ onFailure: "accumulate", onChecked: () => Effect.fail(boom) }))))

  it.live("not with a processor that logs: the dispatch has succeeded", () =>
    Effect.gen(function*() {
      yield* send
      assert.deepStrictEqual(yield* written, ["a handler", "a placed"])
    }).pipe(Effect.provide(flow({ onFailure: "log", onChecked: () => Effect.fail(boom) }))))
})
