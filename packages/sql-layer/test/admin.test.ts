/** What an operator sees of the outbox and does with it, and its metrics. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Broker, Message, Telemetry } from "@event-flow/core"
import { Outbox, OutboxAdmin, OutboxMetrics, OutboxRelay } from "@event-flow/sql-layer"
import { Effect, Layer, Metric } from "effect"
import { SqlClient } from "effect/sql"
import { database, recorder } from "./support/orders.ts"
import { eventually, withServer } from "./support/support.ts"

/** Rows of all states: ids 1 to 4 pending, of which 4 failed; 5 to 9 dead; 10 and 11 published. */
const rows = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO event_flow_outbox
      (slot, topic, key, attributes, body, state, attempts, created_at, next_attempt_at, published_at, last_error)
    SELECT 0, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 'k' || n,
      json_build_object('id', 'm' || n, 'type', 'T.v1'), '',
      CASE WHEN n <= 4 THEN 'pending' WHEN n <= 9 THEN 'dead' ELSE 'published' END,
      CASE WHEN n < 4 THEN 0 ELSE n END,
      now() - n * interval '1 hour',
      CASE WHEN n = 4 THEN now() + interval '1 hour' END,
      CASE WHEN n >= 10 THEN now() - n * interval '1 minute' END,
      CASE WHEN n BETWEEN 4 AND 9 THEN 'failed' END
    FROM generate_series(1, 11) n
  `
})
const withRows = Layer.effectDiscard(rows).pipe(Layer.provideMerge(database()), Layer.orDie)

const ids = (options?: Parameters<typeof OutboxAdmin.list>[0]) =>
  Effect.map(OutboxAdmin.list(options), (rows) => rows.map((row) => Number(row.id)))

withServer("an operator", () => {
  it.live("sees how many rows are in which state, and how far relays are behind", () =>
    Effect.gen(function*() {
      const { lagSeconds, ...counts } = yield* OutboxAdmin.status
      assert.deepStrictEqual(counts, { pending: 4, retrying: 1, dead: 5, published: 2 })
      assert.closeTo(lagSeconds, 4 * 3600, 60)
    }).pipe(Effect.provide(withRows)))

  it.live("sees an empty outbox", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* OutboxAdmin.status,
        { pending: 0, retrying: 0, dead: 0, published: 0, lagSeconds: 0 }
      )
      assert.deepStrictEqual(yield* OutboxAdmin.list(), [])
    }).pipe(Effect.provide(database())))

  it.live("lists rows by state and topic, oldest first, page by page", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* ids(), [5, 6, 7, 8, 9])
      assert.deepStrictEqual(yield* ids({ state: "pending" }), [1, 2, 3, 4])
      assert.deepStrictEqual(yield* ids({ state: "published" }), [10, 11])
      assert.deepStrictEqual(yield* ids({ topic: "odd" }), [5, 7, 9])
      assert.deepStrictEqual(yield* ids({ topic: "none" }), [])
      assert.deepStrictEqual(yield* ids({ limit: 2 }), [5, 6])
      assert.deepStrictEqual(yield* ids({ limit: 2, after: 6n }), [7, 8])
      assert.deepStrictEqual(yield* ids({ limit: 2, after: 6n, topic: "odd" }), [7, 9])
      assert.deepStrictEqual(yield* ids({ after: 9n }), [])
    }).pipe(Effect.provide(withRows)))

  it.live("sees all of a row but its body", () =>
    Effect.gen(function*() {
      const [row] = yield* OutboxAdmin.list()
      assert.deepStrictEqual(row, {
        id: 5n,
        messageId: "m5",
        messageType: "T.v1",
        topic: "odd",
        key: "k5",
        state: "dead",
        attempts: 5,
        createdAt: row!.createdAt,
        nextAttemptAt: undefined,
        publishedAt: undefined,
        lastError: "failed"
      })
      assert.instanceOf(row!.createdAt, Date)
      const [published] = yield* OutboxAdmin.list({ state: "published" })
      assert.instanceOf(published!.publishedAt, Date)
      const pending = yield* OutboxAdmin.list({ state: "pending" })
      assert.instanceOf(pending[3]!.nextAttemptAt, Date)
      assert.isUndefined(pending[0]!.nextAttemptAt)
    }).pipe(Effect.provide(withRows)))

  it.live("sees rows whose attributes PostgreSQL itself cannot read", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const odd = [
        Message.make({ topic: "t", key: "a\0", attributes: { id: "1", subject: "a\0" }, body: new Uint8Array() }),
        Message.make({
          topic: "t",
          key: "\ud83d",
          attributes: { id: "\ud83d", subject: "\ud83d" },
          body: new Uint8Array()
        }),
        Message.make({ topic: "t", key: Uint8Array.of(0), body: new Uint8Array() })
      ] as const
      yield* sql.withTransaction(Broker.Broker.use((broker) => broker.publish(odd)))
      const rows = yield* OutboxAdmin.list({ state: "pending" })
      assert.deepStrictEqual(rows.map((row) => row.messageId), ["1", "\ud83d", undefined])
      assert.deepStrictEqual(rows.map((row) => row.key), ["0x61000000", "0x3dd8", "0x00"])
    }).pipe(Effect.provide(Outbox.layer().pipe(Layer.provideMerge(database())))))

  for (
    const [what, which, redriven] of [
      ["some, and of these the dead ones alone", { ids: [1n, 5n, 7n, 10n, 99n] }, [5, 7]],
      ["none", { ids: [] }, []],
      ["those of a topic", { topic: "even" }, [6, 8]],
      ["all", "all", [5, 6, 7, 8, 9]]
    ] as const
  ) {
    it.live(`has dead rows published again, with all their attempts before them: ${what}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* OutboxAdmin.redrive(which), redriven.length)
        assert.deepStrictEqual(yield* ids(), [5, 6, 7, 8, 9].filter((id) => !redriven.some((one) => one === id)))
        assert.deepStrictEqual(yield* ids({ state: "published" }), [10, 11])
        const pending = (yield* OutboxAdmin.list({ state: "pending" })).filter((row) => row.id > 4n)
        assert.deepStrictEqual(pending.map((row) => Number(row.id)), [...redriven])
        for (const row of pending) {
          assert.strictEqual(row.attempts, 0)
          assert.isAtMost(row.nextAttemptAt!.getTime(), Date.now())
        }
        const outbox = recorder()
        // The fourth waits for its next attempt
        assert.strictEqual(yield* outbox.drain, 3 + redriven.length)
        assert.deepStrictEqual(
          outbox.messages.map((message) => message.attributes["id"]).sort(),
          [1, 2, 3, ...redriven].map((id) => `m${id}`)
        )
      }).pipe(Effect.provide(withRows)))
  }

  it.live("wakes the relays by that", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const isIdle = Effect.map(OutboxAdmin.status, (status) => status.pending === 1)
      // It looks once when it starts and once when it listens: both are behind it when it publishes this one
      yield* eventually(
        "it listens",
        Effect.map(
          sql`SELECT FROM pg_stat_activity WHERE query ILIKE 'LISTEN%' AND datname = current_database()`,
          (rows) => rows.length > 0
        )
      )
      yield* eventually("it has published what waited", isIdle)
      yield* sql`INSERT INTO event_flow_outbox (slot, topic, attributes, body) VALUES (0, 't', '{}', '')`
      yield* sql.notify("event_flow_outbox", "")
      yield* eventually("it is told", isIdle)
      assert.strictEqual(yield* OutboxAdmin.redrive("all"), 5)
      yield* eventually("they are published", isIdle)
    }).pipe(Effect.provide(
      OutboxRelay.layer({ pollInterval: "1 hour" }).pipe(Layer.provide(recorder().layer), Layer.provideMerge(withRows))
    )))

  it.live("deletes what was published longer ago, and nothing else", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: "1 hour" }), 0)
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: "10.5 minutes" }), 1)
      assert.deepStrictEqual(yield* ids({ state: "published" }), [10])
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: 0, state: "published" }), 1)
      assert.deepInclude(yield* OutboxAdmin.status, { pending: 4, dead: 5, published: 0 })
    }).pipe(Effect.provide(withRows)))

  it.live("deletes dead rows that are as old, when asked for these", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: "7.5 hours", state: "dead" }), 2)
      assert.deepStrictEqual(yield* ids(), [5, 6, 7])
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: 0, state: "dead" }), 3)
      assert.deepInclude(yield* OutboxAdmin.status, { pending: 4, dead: 0, published: 2 })
    }).pipe(Effect.provide(withRows)))

  it.live("deletes more than one batch", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`INSERT INTO event_flow_outbox (slot, topic, attributes, body, state, published_at)
        SELECT 0, 't', '{}', '', 'published', now() - interval '1 day' FROM generate_series(1, 12345)`
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: "1 hour" }), 12_345)
    }).pipe(Effect.provide(database())))
})

withServer("the metrics of the outbox", () => {
  /** Of topic "bad" nothing is published. */
  const broker = Layer.succeed(Broker.Broker)({
    name: "fake",
    publish: (messages) => {
      const bad = messages.find((message) => message.topic === "bad")
      return bad === undefined
        ? Effect.void
        : Effect.fail(Broker.publishError(bad, new Broker.Rejected({ detail: "no" })))
    }
  })

  /** Counters and gauges by name; those of a broker with its name. */
  const metrics = Effect.map(
    Metric.snapshot,
    (snapshots) =>
      Object.fromEntries(
        snapshots.filter(({ id }) => id.startsWith("event_flow.outbox.")).map((snapshot) => [
          [snapshot.id.slice("event_flow.outbox.".length), snapshot.attributes?.["messaging.system"]].filter(Boolean)
            .join(" "),
          "count" in snapshot.state
            ? snapshot.state.count
            : "value" in snapshot.state
            ? snapshot.state.value
            : undefined
        ])
      )
  )

  const messages = (topic: string, n: number) =>
    Array.from(
      { length: n },
      (_, i) => Message.make({ topic, key: `${topic} ${i}`, body: new Uint8Array() })
    ) as unknown as readonly [Message.Message, ...Array<Message.Message>]

  const put = Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql.withTransaction(
        Broker.Broker.use((broker) => broker.publish([...messages("good", 7), ...messages("bad", 3)]))
      )
  ).pipe(Effect.provide(Outbox.layer()))

  const relay = OutboxRelay.layer({ metricsInterval: "20 millis", maxAttempts: 1, pollInterval: "20 millis" }).pipe(
    Layer.provide(broker)
  )

  it.live("count what is published and what fails, and show what waits and what is dead", () =>
    Effect.gen(function*() {
      yield* put
      // A counter counts before its transaction ends, a gauge is of its last look
      yield* eventually(
        "gauges and counters are those of the end",
        Effect.map(metrics, (all) =>
          Number(all["published fake"]) === 7 && Number(all["failed fake"]) >= 3 && all["dead"] === 3 &&
          all["pending"] === 0 && all["lag"] === 0)
      )
    }).pipe(
      Effect.provide(relay.pipe(Layer.provide(Telemetry.layer({ metrics: true })), Layer.provideMerge(database()))),
      Effect.provideService(Metric.MetricRegistry, new Map())
    ))

  it.live("show how long the oldest row waits", () =>
    Effect.gen(function*() {
      yield* OutboxMetrics.record(yield* OutboxAdmin.status)
      const all = yield* metrics
      assert.strictEqual(all["pending"], 4)
      assert.strictEqual(all["dead"], 5)
      assert.closeTo(Number(all["lag"]), 4 * 3600, 60)
    }).pipe(Effect.provide(withRows), Effect.provideService(Metric.MetricRegistry, new Map())))

  it.live("are not touched where metrics are off", () =>
    Effect.gen(function*() {
      yield* put
      yield* eventually(
        "all is done",
        Effect.map(OutboxAdmin.status, ({ dead, pending }) => pending === 0 && dead === 3)
      )
      assert.deepStrictEqual(yield* metrics, {})
    }).pipe(
      Effect.provide(relay.pipe(Layer.provideMerge(database()))),
      Effect.provideService(Metric.MetricRegistry, new Map())
    ))
})
