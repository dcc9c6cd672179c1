/** What `Inbox.layer` remembers, and that a consumer's effects happen once with it. */
import { assert, it } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  EventConsumer,
  EventHandler,
  Inbox as CoreInbox,
  MemoryBroker,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Inbox, Outbox, Tables } from "@event-flow/sql-layer"
import { Deferred, Effect, Exit, Fiber, Layer, Option, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { isSqlError } from "effect/sql/SqlError"
import {
  Announced,
  announced,
  Boom,
  conflicts,
  database,
  emits,
  Failure,
  needsSql,
  write,
  written
} from "./support/orders.ts"
import { clientLayer, eventually, freshDatabase, withServer } from "./support/support.ts"

const once = <A, E, R>(consumer: string, id: string, handle: Effect.Effect<A, E, R>) =>
  CoreInbox.Inbox.use((inbox) => inbox.once(consumer, id, handle))

const inbox = (options?: Inbox.Options, client?: Parameters<typeof database>[0]) =>
  Inbox.layer(options).pipe(Layer.provideMerge(database(client)))

const remembered = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ consumer: string; message_id: string }>`
    SELECT consumer, message_id FROM event_flow_inbox ORDER BY handled_at, message_id
  `
  return rows.map((row) => `${row.consumer} ${row.message_id}`)
})

const started = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

withServer("an inbox in the database", () => {
  it.live("has a message handled once by each consumer", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* once("c", "1", Effect.as(write("c 1"), "result")), Option.some("result"))
      assert.deepStrictEqual(yield* once("c", "1", write("c 1 again")), Option.none())
      assert.isTrue(Option.isSome(yield* once("c", "2", write("c 2"))))
      assert.isTrue(Option.isSome(yield* once("d", "1", write("d 1"))))
      assert.deepStrictEqual(yield* written, ["c 1", "c 2", "d 1"])
      assert.deepStrictEqual(yield* remembered, ["c 1", "c 2", "d 1"])
    }).pipe(Effect.provide(inbox())))

  it.live("remembers beyond the process", () =>
    Effect.gen(function*() {
      const layer = Layer.fresh(Inbox.layer())
      yield* Effect.provide(once("c", "1", write("first")), layer)
      assert.deepStrictEqual(yield* Effect.provide(once("c", "1", write("second")), layer), Option.none())
      assert.deepStrictEqual(yield* written, ["first"])
    }).pipe(Effect.provide(database())))

  it.live("tells any ids apart: of any characters, of any length", () =>
    Effect.gen(function*() {
      // Incompressible: the database would make repetition fit
      const long = Array.from({ length: 4000 }, (_, i) => String.fromCodePoint(0x4e00 + (i * 7919) % 20000)).join("")
      const ids = [
        "",
        " ",
        "1",
        "a\0",
        "a\0b",
        "\0",
        "\ud83d",
        "\ude00",
        "😀",
        "0x6100",
        "sha256:",
        long,
        `${long}1`,
        "'; --"
      ]
      for (let round = 0; round < 2; round++) {
        for (const id of ids) yield* once("c", id, write(String(ids.indexOf(id))))
        for (const consumer of ids) yield* once(consumer, "1", write(`consumer ${ids.indexOf(consumer)}`))
      }
      assert.deepStrictEqual(yield* written, [
        ...ids.map((_, i) => String(i)),
        ...ids.map((_, i) => `consumer ${i}`)
      ])
      // Neither does an id that looks like what another one is stored as
      for (const stored of yield* remembered) {
        if (!stored.startsWith("c ")) continue
        const id = stored.slice(2)
        if (!ids.includes(id)) assert.isTrue(Option.isSome(yield* once("c", id, Effect.void)), id)
      }
    }).pipe(Effect.provide(inbox())))

  for (const [what, failure] of [["failure", Effect.fail], ["defect", Effect.die]] as const) {
    it.live(`leaves nothing of a ${what}: neither writes nor messages nor that it was handled`, () =>
      Effect.gen(function*() {
        const boom = new Boom({ id: "1" })
        const exit = yield* Effect.exit(once("c", "1", Effect.andThen(write("lost"), failure(boom))))
        assert.deepStrictEqual(exit, what === "failure" ? Exit.fail(boom) : Exit.die(boom))
        assert.deepStrictEqual(yield* written, [])
        assert.deepStrictEqual(yield* remembered, [])
        assert.isTrue(Option.isSome(yield* once("c", "1", write("kept"))))
        assert.deepStrictEqual(yield* written, ["kept"])
      }).pipe(Effect.provide(inbox())))
  }

  it.live("leaves nothing of an interrupted one", () =>
    Effect.gen(function*() {
      const isThere = yield* Deferred.make<void>()
      const handling = yield* started(
        once(
          "c",
          "1",
          write("lost").pipe(Effect.andThen(Deferred.succeed(isThere, undefined)), Effect.andThen(Effect.never))
        )
      )
      yield* Deferred.await(isThere)
      yield* Fiber.interrupt(handling)
      assert.deepStrictEqual(yield* remembered, [])
      assert.isTrue(Option.isSome(yield* once("c", "1", write("kept"))))
      assert.deepStrictEqual(yield* written, ["kept"])
    }).pipe(Effect.provide(inbox())))

  for (const succeeds of [true, false]) {
    it.live(`of two at the same time the second waits, and ${succeeds ? "is a duplicate" : "is handled: the first rolled back"}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const isThere = yield* Deferred.make<void>()
        const goOn = yield* Deferred.make<void>()
        const first = yield* started(once(
          "c",
          "1",
          write("first").pipe(
            Effect.andThen(Deferred.succeed(isThere, undefined)),
            Effect.andThen(Deferred.await(goOn)),
            Effect.andThen(succeeds ? Effect.void : Effect.fail(new Boom({ id: "1" })))
          )
        ))
        yield* Deferred.await(isThere)
        const second = yield* started(once("c", "1", write("second")))
        yield* eventually(
          "the second waits",
          Effect.map(
            sql`SELECT FROM pg_locks JOIN pg_database d ON d.oid = database OR locktype = 'transactionid'
              WHERE NOT granted AND d.datname = current_database()`,
            (rows) => rows.length > 0
          )
        )
        assert.isUndefined(second.pollUnsafe())
        yield* Deferred.succeed(goOn, undefined)
        assert.strictEqual(Exit.isSuccess(yield* Fiber.await(first)), succeeds)
        assert.strictEqual(Option.isNone(yield* Fiber.join(second)), succeeds)
        assert.deepStrictEqual(yield* written, [succeeds ? "first" : "second"])
        assert.deepStrictEqual(yield* remembered, ["c 1"])
      }).pipe(Effect.provide(inbox())))
  }

  it.live("of a hundred at the same time one is handled", () =>
    Effect.gen(function*() {
      const results = yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => once("c", "1", write("one")),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(results.filter(Option.isSome).length, 1)
      assert.deepStrictEqual(yield* written, ["one"])
    }).pipe(Effect.provide(inbox())))

  it.live("runs handling again after a conflict, also where errors wrap it", () => {
    const conflict = conflicts(2)
    return Effect.gen(function*() {
      const handling = Effect.andThen(
        write("written"),
        Effect.mapError(conflict.run, (cause) => new Boom({ id: "1", cause }))
      )
      assert.isTrue(Option.isSome(yield* once("c", "1", handling)))
      assert.strictEqual(conflict.attempts, 3)
      assert.deepStrictEqual(yield* written, ["written"])
    }).pipe(Effect.provide(inbox()))
  })

  it.live("as often as its schedule says; then it is the handler's error", () => {
    const conflict = conflicts(Infinity)
    return Effect.gen(function*() {
      const error = yield* Effect.flip(once("c", "1", conflict.run))
      assert.isTrue(error._tag === "SqlError" && error.reason._tag === "SerializationError")
      assert.strictEqual(conflict.attempts, 2)
      assert.deepStrictEqual(yield* remembered, [])
    }).pipe(Effect.provide(inbox({ schedule: Schedule.recurs(1) })))
  })

  it.live("is right under serializable isolation as well, where the second would be in conflict", () =>
    Effect.gen(function*() {
      const results = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => once("c", "1", write("one")),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(results.filter(Option.isSome).length, 1)
      assert.deepStrictEqual(yield* written, ["one"])
    }).pipe(Effect.provide(inbox(
      { schedule: Schedule.recurs(100) },
      { startupOptions: "-c default_transaction_isolation=serializable" }
    ))))

  it.live("joins a transaction that is open", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.ignore(sql.withTransaction(Effect.andThen(once("c", "1", write("lost")), Effect.fail("outer"))))
      assert.deepStrictEqual(yield* remembered, [])
      assert.deepStrictEqual(yield* written, [])
    }).pipe(Effect.provide(inbox())))

  it.live("fails with InboxError where the database is not there, or its table, or where it cannot commit", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE known (what text PRIMARY KEY)`
      yield* sql`ALTER TABLE writes ADD FOREIGN KEY (what) REFERENCES known DEFERRABLE INITIALLY DEFERRED`
      const uncommitted = yield* Effect.flip(once("c", "1", write("unknown")))
      assert.strictEqual(uncommitted._tag, "InboxError")
      assert.deepStrictEqual(yield* remembered, [])
      yield* sql`DROP TABLE event_flow_inbox`
      const error = yield* Effect.flip(once("c", "1", Effect.void))
      assert.deepInclude(error, { _tag: "InboxError", consumer: "c", messageId: "1" })
      assert.isTrue(isSqlError((error as CoreInbox.InboxError).cause))
      const url = yield* freshDatabase()
      const gone = yield* Layer.build(
        Inbox.layer().pipe(Layer.provideMerge(clientLayer(url, { connectTimeout: "5 seconds" })))
      )
      yield* sql.unsafe(`DROP DATABASE ${new URL(url).pathname.slice(1)} WITH (FORCE)`)
      assert.strictEqual((yield* Effect.flip(Effect.provide(once("c", "1", Effect.void), gone)))._tag, "InboxError")
    }).pipe(Effect.scoped, Effect.provide(inbox())))

  it.live("forgets what is older, when asked", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`INSERT INTO event_flow_inbox SELECT 'c', n::text, now() - n * interval '1 hour' FROM generate_series(1, 12000) n`
      assert.strictEqual(yield* Inbox.prune("100 hours"), 11_901)
      assert.strictEqual(yield* Inbox.prune("100 hours"), 0)
      assert.isTrue(Option.isNone(yield* once("c", "99", Effect.void)))
      assert.isTrue(Option.isSome(yield* once("c", "101", Effect.void)))
    }).pipe(Effect.provide(inbox({ pruneInterval: Infinity }))))

  it.live("forgets by itself what is older than its retention, and nothing else", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`INSERT INTO event_flow_inbox SELECT 'c', n::text, now() - n * interval '1 day' FROM generate_series(0, 14) n`
      yield* eventually("the old ones are gone", Effect.map(remembered, (rows) => rows.length < 15))
      assert.deepStrictEqual((yield* remembered).sort(), [0, 1, 2, 3, 4, 5, 6].map((n) => `c ${n}`))
    }).pipe(Effect.provide(inbox({ pruneInterval: "20 millis" }))))

  it.live("is in a table of another name", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE "Seen" (LIKE event_flow_inbox INCLUDING ALL)`
      yield* once("c", "1", Effect.void)
      assert.isTrue(Option.isNone(yield* once("c", "1", Effect.void)))
      assert.deepStrictEqual(yield* sql`SELECT message_id FROM "Seen"`, [{ message_id: "1" }])
      assert.strictEqual(yield* Inbox.prune(0).pipe(Effect.provideService(Tables.Tables, names)), 1)
    }).pipe(Effect.provide(
      Inbox.layer().pipe(
        Layer.provide(Layer.succeed(Tables.Tables)(names)),
        Layer.provideMerge(database())
      )
    )))
  const names = { ...Tables.Tables.defaultValue(), inbox: "Seen" }
})

class Ordered extends NotificationEvent.Class<Ordered>()("Ordered", { id: Schema.String }, { topic: "ordered" }) {}
const OnOrdered = EventHandler.make("OnOrdered", { on: Ordered, emits, error: Failure })

const ordered = (id: string, messageId = id): Message.Message =>
  Message.make({
    topic: "ordered",
    key: id,
    attributes: { specversion: "1.0", id: messageId, source: "/shop", type: "Ordered.v1" },
    body: new TextEncoder().encode(JSON.stringify({ id }))
  })

/** A consumer on the memory broker, whose handler writes and announces in the transaction of the inbox. */
const consumer = (
  handle: (event: Ordered) => Effect.Effect<void, Failure, SqlClient.SqlClient>,
  options: Partial<EventConsumer.Options<true>> = {}
) =>
  EventConsumer.layer([OnOrdered], { group: "group", dedupe: true, ...options }).pipe(
    Layer.provide(
      OnOrdered.toLayer(
        needsSql,
        (event, { collect }) => Effect.andThen(handle(event), collect(new Announced({ id: event.id })))
      )
    ),
    Layer.provide([Inbox.layer(), Outbox.layer()])
  )

const handled = (event: Ordered) => write(event.id)

const publish = (...messages: readonly [Message.Message, ...Array<Message.Message>]) =>
  Effect.andThen(
    Broker.Broker.use((broker) => broker.publish(messages)),
    MemoryBroker.MemoryBroker.use((broker) => broker.awaitIdle)
  )

const ports = Layer.mergeAll(MemoryBroker.layer(), database())

withServer("a consumer with dedupe", () => {
  it.live("handles duplicates once, whoever sends them", () =>
    Effect.gen(function*() {
      yield* publish(ordered("1"), ordered("2"), ordered("1"), ordered("3"), ordered("2"))
      yield* publish(ordered("1"))
      assert.deepStrictEqual((yield* written).sort(), ["1", "2", "3"])
      assert.deepStrictEqual((yield* announced).sort(), ["1", "2", "3"])
      assert.deepStrictEqual((yield* remembered).sort(), ["group /shop 1", "group /shop 2", "group /shop 3"])
    }).pipe(Effect.provide(consumer(handled, { concurrency: 4 }).pipe(Layer.provideMerge(ports)))))

  it.live("commits writes, messages and the inbox in one transaction", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* publish(ordered("1"))
      const transactions = yield* sql`SELECT xmin::text FROM writes UNION SELECT xmin::text FROM event_flow_outbox
        UNION SELECT xmin::text FROM event_flow_inbox`
      assert.strictEqual(transactions.length, 1)
      assert.deepStrictEqual(yield* written, ["1"])
    }).pipe(Effect.provide(consumer(handled).pipe(Layer.provideMerge(ports)))))

  it.live("is one of two groups, each of which handles a message once", () =>
    Effect.gen(function*() {
      yield* publish(ordered("1"), ordered("1"))
      assert.deepStrictEqual((yield* written).sort(), ["other 1", "1"].sort())
      assert.strictEqual((yield* remembered).length, 2)
    }).pipe(Effect.provide(
      Layer.mergeAll(
        Layer.fresh(consumer(handled)),
        Layer.fresh(consumer(({ id }) => write(`other ${id}`), { group: "other" }))
      ).pipe(Layer.provideMerge(ports))
    )))

  it.live("handles a message again that failed, with nothing left of the first attempt", () => {
    let attempts = 0
    return Effect.gen(function*() {
      yield* publish(ordered("1"))
      assert.strictEqual(attempts, 3)
      assert.deepStrictEqual(yield* written, ["1"])
      assert.deepStrictEqual(yield* announced, ["1"])
    }).pipe(Effect.provide(
      consumer(
        (event) =>
          Effect.andThen(
            handled(event),
            Effect.suspend(() => ++attempts < 3 ? Effect.fail(new Boom({ id: "1" })) : Effect.void)
          ),
        { policy: () => ConsumerPolicy.retry(Schedule.recurs(5)) }
      ).pipe(Layer.provideMerge(ports))
    ))
  })

  it.live("sees nothing of a conflict: it is run again below", () => {
    const conflict = conflicts(2)
    return Effect.gen(function*() {
      yield* publish(ordered("1"))
      assert.strictEqual(conflict.attempts, 3)
      assert.deepStrictEqual(yield* written, ["1"])
      assert.deepStrictEqual(yield* announced, ["1"])
    }).pipe(Effect.provide(
      consumer((event) => Effect.andThen(handled(event), conflict.run), { policy: () => ConsumerPolicy.stop }).pipe(
        Layer.provideMerge(ports)
      )
    ))
  })

  it.live("handles messages of any id", () =>
    Effect.gen(function*() {
      const ids = [
        "a\0",
        "\ud83d",
        Array.from({ length: 3000 }, (_, i) => String.fromCodePoint(0x4e00 + (i * 7919) % 20000)).join("")
      ]
      for (const id of ids) yield* publish(ordered(String(ids.indexOf(id)), id), ordered(String(ids.indexOf(id)), id))
      assert.deepStrictEqual(yield* written, ["0", "1", "2"])
    }).pipe(Effect.provide(
      consumer(handled, { policy: () => ConsumerPolicy.stop }).pipe(Layer.provideMerge(ports))
    )))

  it.live("shows the policy that the inbox failed while the inbox is away, and loses nothing", () => {
    const failures: Array<string> = []
    return Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`ALTER TABLE event_flow_inbox RENAME TO away`
      const publishing = yield* started(publish(ordered("1")))
      yield* eventually("it has failed", Effect.sync(() => failures.length > 2))
      yield* sql`ALTER TABLE away RENAME TO event_flow_inbox`
      yield* Fiber.join(publishing)
      assert.deepStrictEqual([...new Set(failures)], ["InboxFailed"])
      assert.deepStrictEqual(yield* written, ["1"])
    }).pipe(Effect.provide(
      consumer(handled, {
        policy: (failure) => {
          failures.push(failure._tag)
          return ConsumerPolicy.retry(Schedule.spaced("10 millis"))
        }
      }).pipe(Layer.provideMerge(ports))
    ))
  })
})
