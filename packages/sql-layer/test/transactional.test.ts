/** What `Transactional` makes one transaction, and what becomes of it when something fails. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Command, Mediator } from "@event-flow/core"
import { Transactional } from "@event-flow/sql-layer"
import { startProxy } from "@event-flow/test-support/proxy"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Redacted, Schedule, Schema, Stream } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import {
  Announced,
  announced,
  Boom,
  conflicts,
  database,
  emits,
  Failure,
  flow,
  flowOver,
  nothing,
  onChecked,
  onPlaced,
  Place,
  place,
  Placed,
  PlaceSerializably,
  raise,
  write,
  written
} from "./support/orders.ts"
import {
  clientLayer,
  control,
  eventually,
  freshDatabase,
  ownServer,
  silently,
  withOwnServer,
  withServer
} from "./support/support.ts"

const send = Mediator.send(new Place({ id: "a" }))
const all = ["a handler", "a placed", "a checked"]

/** Waits for a second one that comes here, once; whoever comes later does not wait. */
const meeting = () => {
  const both = Deferred.makeUnsafe<void>()
  let arrived = 0
  return Effect.suspend(() => {
    if (++arrived === 2) Deferred.doneUnsafe(both, Effect.void)
    return Deferred.await(both)
  })
}

const started = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

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

  for (const concurrency of [1, 4, Infinity]) {
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
    it.live(`in the isolation that was asked for: ${isolation}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* Mediator.send(new Ask()), isolation ?? "read committed")
      }).pipe(Effect.provide(
        Ask.toLayer(() =>
          Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            const [row] = yield* sql<{ level: string }>`SELECT current_setting('transaction_isolation') AS level`
            return row!.level
          })
        ).pipe(Layer.provideMerge(flow()))
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
    const once = conflicts(Infinity)
    const never = conflicts(Infinity)
    return Effect.gen(function*() {
      yield* Effect.flip(Mediator.send(new Once()))
      yield* Effect.flip(Mediator.send(new Never()))
      assert.deepStrictEqual([once.attempts, never.attempts], [2, 1])
    }).pipe(Effect.provide(
      Layer.mergeAll(Once.toLayer(() => once.run), Never.toLayer(() => never.run)).pipe(
        Layer.provideMerge(flow())
      )
    ))
  })

  class Slowly extends Command.Class<Slowly>()("Slowly", {
    error: Failure,
    middleware: [Transactional.make({ schedule: Schedule.spaced("1 hour") })]
  }) {}

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
      Slowly.toLayer(() => conflict.run).pipe(Layer.provideMerge(flow({ client: { maxConnections: 1 } })))
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

withServer("Transactional commands within each other", () => {
  class Outer extends Command.Class<Outer>()("Outer", {
    payload: { recovers: Schema.Boolean },
    success: Schema.String,
    error: Failure,
    emits,
    middleware: [Transactional.make()]
  }) {}

  const outer = Outer.toLayer(({ recovers }, { collect }) =>
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
    })
  )

  it.live("are one transaction, over one connection", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Mediator.send(new Outer({ recovers: false })), "a")
      assert.deepStrictEqual(yield* written, ["outer before", ...all, "outer after"])
      assert.deepStrictEqual(yield* announced, [...all, "outer"])
      const sql = yield* SqlClient.SqlClient
      const ends = yield* sql<{ n: number }>`SELECT count(DISTINCT xmin::text)::int AS n FROM event_flow_outbox`
      assert.isAtLeast(ends[0]!.n, 1)
    }).pipe(Effect.provide(outer.pipe(Layer.provideMerge(flow({ client: { maxConnections: 1 } }))))))

  it.live("an inner failure that is recovered from undoes the inner writes and messages alone", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Mediator.send(new Outer({ recovers: true })), "recovered")
      assert.deepStrictEqual(yield* written, ["outer before", "outer after"])
      assert.deepStrictEqual(yield* announced, ["outer"])
    }).pipe(Effect.provide(outer.pipe(Layer.provideMerge(flow({
      onChecked: (event, context) => Effect.andThen(onChecked(event, context), Effect.fail(new Boom({ id: "a" })))
    }))))))

  it.live("an inner statement that fails does not spoil the outer transaction", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Mediator.send(new Outer({ recovers: true })), "recovered")
      assert.deepStrictEqual(yield* written, ["outer before", "outer after"])
    }).pipe(Effect.provide(outer.pipe(Layer.provideMerge(flow({ onChecked: () => raise("23505") }))))))

  it.live("an inner failure that is not recovered from undoes all", () =>
    Effect.gen(function*() {
      yield* Effect.flip(Mediator.send(new Outer({ recovers: false })))
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(outer.pipe(Layer.provideMerge(flow({
      onChecked: (event, context) => Effect.andThen(onChecked(event, context), Effect.fail(new Boom({ id: "a" })))
    }))))))

  it.live("a conflict of the inner one runs the outer one again, as a whole", () => {
    const conflict = conflicts(2)
    const transactions = new Set<unknown>()
    return Effect.gen(function*() {
      assert.strictEqual(yield* Mediator.send(new Outer({ recovers: false })), "a")
      assert.strictEqual(conflict.attempts, 3)
      assert.strictEqual(transactions.size, 3)
      assert.deepStrictEqual(yield* written, ["outer before", ...all, "outer after"])
      assert.deepStrictEqual(yield* announced, [...all, "outer"])
    }).pipe(Effect.provide(outer.pipe(Layer.provideMerge(flow({
      onChecked: (event, context) =>
        Effect.gen(function*() {
          yield* onChecked(event, context)
          const sql = yield* SqlClient.SqlClient
          const [row] = yield* sql`SELECT pg_current_xact_id()::text AS id`
          transactions.add(row!["id"])
          yield* conflict.run
        })
    })))))
  })

  it.live("an inner one that spoiled the transaction says so, as an outer one does", () => {
    const outcomes: Array<string> = []
    return Effect.gen(function*() {
      const error = yield* Effect.flip(Mediator.send(new Outer({ recovers: false })))
      assert.isTrue(error._tag === "TransactionError" && error.outcome === "rolledBack")
      assert.deepStrictEqual(outcomes, ["rolledBack"])
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(
      Outer.toLayer(() =>
        Mediator.send(new Place({ id: "a" })).pipe(
          Effect.catchTag("TransactionError", (error) => {
            outcomes.push(error.outcome)
            return Effect.succeed("recovered")
          }),
          Effect.orDie
        )
      ).pipe(Layer.provideMerge(flow({
        // A failed statement, which it does not mention
        place: ({ id }) => Effect.as(Effect.ignore(raise("23505")), id)
      })))
    ))
  })

  it.live("in parallel are savepoints one after another", () => {
    class Many extends Command.Class<Many>()("Many", { error: Failure, middleware: [Transactional.make()] }) {}
    return Effect.gen(function*() {
      yield* Mediator.send(new Many())
      assert.deepStrictEqual((yield* written).sort(), ["0", "2", "4", "6", "8"].map((id) => `${id} handler`))
      assert.deepStrictEqual(yield* announced, yield* written)
    }).pipe(Effect.provide(
      Many.toLayer(() =>
        Effect.forEach(
          Array.from({ length: 10 }, (_, i) => i),
          (i) => Effect.ignore(Mediator.send(new Place({ id: String(i) }))),
          { concurrency: 4, discard: true }
        )
      ).pipe(Layer.provideMerge(flow({
        place: ({ id }, { collect }) =>
          write(`${id} handler`).pipe(
            Effect.andThen(collect(new Announced({ id: `${id} handler` }))),
            Effect.andThen(Number(id) % 2 === 0 ? Effect.succeed(id) : raise("23505").pipe(Effect.as(id)))
          )
      })))
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
  const layer = Import.toLayer(({ fails }, { collect }) =>
    Stream.make("1", "2", "3").pipe(
      Stream.tap((id): Effect.Effect<void, Failure, SqlClient.SqlClient> =>
        fails && id === "3"
          ? Effect.fail(new Boom({ id }))
          : Effect.andThen(write(id), collect(new Announced({ id })))
      )
    )
  ).pipe(Layer.provideMerge(flow()))

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

  it.live("undo all when the receiver leaves before their end", () =>
    Effect.gen(function*() {
      const elements = yield* Stream.runCollect(Stream.take(Mediator.stream(new Import({ fails: false })), 2))
      assert.deepStrictEqual([...elements], ["1", "2"])
      assert.deepStrictEqual(yield* nothing, [])
    }).pipe(Effect.provide(layer)))
})
