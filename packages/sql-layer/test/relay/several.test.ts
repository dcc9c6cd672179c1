/** Relays that work at the same time, held against a model. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { OutboxAdmin, type OutboxRelay } from "@event-flow/sql-layer"
import { Array as Arr, Deferred, Effect, Exit, Redacted, Schema } from "effect"
import { byKey, message, numbered } from "../support/messages.ts"
import {
  database,
  empty,
  failingOn,
  live,
  manualRelay,
  outbox,
  put,
  recorder,
  rejected,
  rows,
  startRelayOn,
  unreachable
} from "../support/relays.ts"
import { type ClientOptions, eventually, withServer } from "../support/support.ts"

withServer("relays at once", () => {
  live("both get work, neither that of the other", () =>
    Effect.gen(function*() {
      yield* put(Array.from({ length: 200 }, (_, n) => `key-${n}:1`))
      const url = Redacted.value((yield* PgClient.PgClient).config.url!)
      const both = yield* Deferred.make<void>()
      let waiting = 0
      const brokers = [0, 1].map(() => {
        let isFirst = true
        return recorder(() => {
          if (!isFirst) return Effect.void
          isFirst = false
          if (++waiting === 2) Deferred.doneUnsafe(both, Exit.void)
          return Deferred.await(both)
        })
      })
      for (const { layer } of brokers) yield* startRelayOn(url, layer, { pollInterval: "50 millis" })
      yield* empty
      const [first, second] = brokers.map((broker) => broker.log())
      assert.isAbove(first!.length, 0)
      assert.isAbove(second!.length, 0)
      assert.strictEqual(new Set([...first!, ...second!]).size, 200)
      assert.strictEqual(first!.length + second!.length, 200)
    }))

  const stress = (relays: number, options: OutboxRelay.Options, client?: ClientOptions) =>
    Effect.gen(function*() {
      const url = Redacted.value((yield* PgClient.PgClient).config.url!)
      const { publish } = yield* outbox()
      const log: Array<ReadonlyArray<string>> = []
      const brokers = Array.from({ length: relays }, () => recorder(() => Effect.yieldNow, log))
      for (const { layer } of brokers) {
        yield* startRelayOn(url, layer, { pollInterval: "20 millis", ...options }, client)
      }
      const keys = Array.from({ length: 30 }, (_, n) => numbered(`key-${n}`, 100))
      yield* Effect.forEach(keys, (key) => Effect.forEach(key, (text) => publish([message(text)])), { concurrency: 8 })
      yield* empty
      const published = byKey(log.flat())
      for (const key of keys) assert.deepStrictEqual(published.get(key[0]!.split(":")[0]!), key)
      assert.lengthOf(log.flat(), 3_000)
      for (const { calls } of brokers) assert.isAbove(calls.length, 0)
    })

  for (const concurrency of [1, 4]) {
    live(
      `publish each row once, in the order of each key, with concurrency ${concurrency}`,
      () => stress(3, { concurrency, batchSize: 10 })
    )
  }

  // A snapshot that is older than the lock would have rows that another relay has published
  live("do so where transactions are repeatable read by default", () =>
    stress(3, { concurrency: 4, batchSize: 10 }, {
      startupParameters: { default_transaction_isolation: "repeatable read" }
    }))
})

withServer("relays do what their model does", () => {
  const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
  const RowSpec = Schema.Struct({
    /** The last is none. */
    key: between(0, 3),
    fails: Schema.Literals(["never", "rejected", "dies", "unreachable", "always"]),
    /** How often, unless always. */
    times: between(1, 2)
  })
  const Config = Schema.Struct({
    relays: between(1, 3),
    concurrency: between(1, 3),
    batchSize: between(1, 8),
    inTransaction: between(1, 4),
    hold: Schema.Boolean
  })

  it.live.prop(
    "with any rows, failures and relays",
    [Schema.Array(RowSpec).check(Schema.isMinLength(1), Schema.isMaxLength(40)), Config],
    ([specs, { batchSize, concurrency, hold, inTransaction, relays }]) =>
      Effect.gen(function*() {
        const names = ["a", "b", "c", ""]
        const counts = new Map<string, number>()
        const planned = specs.map((spec) => {
          const key = names[spec.key]!
          const n = (counts.get(key) ?? 0) + 1
          counts.set(key, n)
          return { ...spec, key, text: `${key}:${n}`, left: spec.fails === "always" ? Infinity : spec.times }
        })
        const byText = new Map(planned.map((row) => [row.text, row]))

        // The model: what fails always is dead, and holds the later ones of its key, or does not
        const dead = new Set<string>()
        const published: Array<string> = []
        let held = 0
        for (const { fails, key, text } of planned) {
          if (hold && key !== "" && dead.has(key)) {
            held++
          } else if (fails === "always") {
            dead.add(key === "" ? text : key).add(text)
          } else {
            published.push(text)
          }
        }
        const deadRows = planned.filter(({ text }) => dead.has(text)).length

        const hook = failingOn((text) => {
          const row = byText.get(text)
          if (row === undefined) return undefined
          if (row.fails === "never" || row.left-- <= 0) return undefined
          if (row.fails === "unreachable") return Effect.fail(unreachable(text))
          return row.fails === "dies" ? Effect.die(new Error(text)) : Effect.fail(rejected(text))
        })
        const url = Redacted.value((yield* PgClient.PgClient).config.url!)
        const log: Array<ReadonlyArray<string>> = []
        const transactions = Arr.chunksOf(planned.map(({ text }) => text), inTransaction)
        const before = Math.floor(transactions.length / 2)
        yield* Effect.forEach(transactions.slice(0, before), (texts) => put(texts))
        for (let n = 0; n < relays; n++) {
          yield* startRelayOn(url, recorder(hook, log).layer, {
            pollInterval: "10 millis",
            retryDelay: () => 5,
            maxAttempts: 3,
            afterDead: hold ? "hold" : "continue",
            batchSize,
            concurrency
          })
        }
        yield* Effect.forEach(transactions.slice(before), (texts) => put(texts))
        yield* eventually(
          "all to be published, dead or held",
          // That others get through shows whose fault a failure is
          Effect.andThen(
            put(["other:1"]),
            Effect.map(rows, (rows) => {
              const ours = rows.filter(({ text }) => text !== "other:1")
              const dead = ours.filter(({ state }) => state === "dead").length
              return dead === deadRows && ours.length - dead === held
            })
          )
        )
        for (const { attempts } of yield* OutboxAdmin.list()) assert.isAtLeast(attempts, 3)
        // Nothing twice, nothing too few, and each key in order
        const all = log.flat().filter((text) => text !== "other:1")
        assert.deepStrictEqual(all.toSorted(), published.toSorted())
        const [actual, expected] = [byKey(all), byKey(published)]
        for (const key of ["a", "b", "c"]) assert.deepStrictEqual(actual.get(key), expected.get(key), key)
      }).pipe(Effect.scoped, Effect.provide(database())),
    { arbitrary: { runs: 25, seed: 1 } }
  )
})

withServer("a key that is stuck", () => {
  live("has the 100,000 rows behind it cost nobody anything, in its slot and elsewhere", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* put(["stuck:1"])
      // Everything in the slot of the stuck key
      const more = (key: string, from: number, to: number) =>
        sql`
          INSERT INTO event_flow_outbox (slot, topic, key, attributes, body)
          SELECT (SELECT slot FROM event_flow_outbox ORDER BY id LIMIT 1), 'topic', ${key}, '{"id":"1"}',
            convert_to(${key} || ':' || n, 'UTF8') FROM generate_series(${from}::int, ${to}::int) n
        `
      yield* more("stuck", 2, 100_000)
      yield* sql`
        UPDATE event_flow_outbox SET attempts = 1, next_attempt_at = now() + interval '1 hour'
        WHERE id = (SELECT min(id) FROM event_flow_outbox)
      `
      yield* sql`ANALYZE event_flow_outbox`
      const broker = recorder()
      const relay = yield* manualRelay(broker.layer)
      /** The rows that the server reads for it: all of this is over one connection. */
      const read = Effect.gen(function*() {
        yield* sql`SELECT pg_stat_force_next_flush()`
        yield* sql`SELECT pg_stat_clear_snapshot()`
        const [row] = yield* sql<{ n: number }>`
          SELECT (idx_tup_fetch + seq_tup_read)::float8 AS n FROM pg_stat_user_tables
          WHERE relname = 'event_flow_outbox'
        `
        return row!.n
      })
      const counted = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.gen(function*() {
          const before = yield* read
          return [yield* effect, (yield* read) - before] as const
        })
      // Once it sees each of them, and puts it aside
      assert.strictEqual(yield* relay.drain, 0)
      const [none, idle] = yield* counted(relay.drain)
      assert.strictEqual(none, 0)
      assert.isBelow(idle, 100)
      yield* more("stuck", 100_001, 100_010)
      yield* more("free", 1, 1_000)
      yield* put(["elsewhere:1"])
      const [published, busy] = yield* counted(relay.drain)
      assert.strictEqual(published, 1_001)
      assert.deepStrictEqual(byKey(broker.log()).get("free"), numbered("free", 1_000))
      console.info(`100,000 rows behind a stuck key: ${idle} rows read for a look, ${busy} to publish 1,001 others`)
      assert.isBelow(busy, 20_000)
      // It goes on, and they behind it
      yield* sql`DELETE FROM event_flow_outbox WHERE id > (SELECT min(id) + 2000 FROM event_flow_outbox)`
      yield* sql`UPDATE event_flow_outbox SET next_attempt_at = now() WHERE attempts > 0`
      const behind = (yield* rows).map(({ text }) => text)
      assert.isAbove(behind.length, 1_500)
      assert.strictEqual(yield* relay.drain, behind.length)
      assert.deepStrictEqual(byKey(broker.log()).get("stuck"), behind)
    }), { maxConnections: 1 })

  live("is found when something else has removed the row that it waited for", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* put([...numbered("a", 5), "b:1"])
      const broker = recorder(failingOn((text) => text === "a:1" ? Effect.fail(rejected(text)) : undefined))
      const relay = yield* manualRelay(broker.layer, { retryDelay: () => "1 hour" })
      assert.strictEqual(yield* relay.drain, 1)
      yield* sql`DELETE FROM event_flow_outbox WHERE attempts > 0`
      assert.strictEqual(yield* relay.drain, 4)
      assert.deepStrictEqual(byKey(broker.log()).get("a"), ["a:2", "a:3", "a:4", "a:5"])
    }))
})
