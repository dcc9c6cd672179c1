/** What `OutboxRelay` publishes, in which order, and how it ends. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Outbox, OutboxAdmin, OutboxRelay } from "@event-flow/sql-layer"
import { Deferred, Effect, Fiber, Layer, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { byKey, inTurns, message, numbered } from "../support/messages.ts"
import {
  database,
  empty,
  left,
  listeners,
  listening,
  live,
  manualRelay,
  never,
  outbox,
  put,
  recorder,
  rows,
  startRelay
} from "../support/relays.ts"
import { clientLayer, eventually, started, withServer } from "../support/support.ts"

withServer("publishing", () => {
  live("is in the order of each key, in batches, until there is no more", () =>
    Effect.gen(function*() {
      yield* put(inTurns(numbered("a", 25), numbered("b", 25), numbered("", 25)))
      const broker = recorder()
      const relay = yield* manualRelay(broker.layer, { batchSize: 7 })
      assert.strictEqual(yield* relay.drain, 75)
      assert.deepStrictEqual(yield* left, [])
      const published = byKey(broker.log())
      assert.deepStrictEqual(published.get("a"), numbered("a", 25))
      assert.deepStrictEqual(published.get("b"), numbered("b", 25))
      assert.lengthOf(broker.log(), 75)
      for (const batch of broker.batches) assert.isAtMost(batch.length, 7)
      assert.strictEqual(yield* relay.drain, 0)
    }))

  for (const batchSize of [1, 3, 10]) {
    live(`has at most ${batchSize} rows at once, over many slots`, () =>
      Effect.gen(function*() {
        const texts = Array.from({ length: 60 }, (_, n) => `key-${n}:1`)
        yield* put(texts)
        const broker = recorder()
        yield* startRelay(broker.layer, { batchSize, pollInterval: never })
        yield* empty
        assert.sameMembers([...broker.log()], texts)
        for (const batch of broker.batches) assert.isAtMost(batch.length, batchSize)
      }))
  }

  live("goes on by NOTIFY alone", () =>
    Effect.gen(function*() {
      const { publish } = yield* outbox()
      const broker = recorder()
      yield* startRelay(broker.layer, { pollInterval: never })
      yield* listening
      for (const text of numbered("a", 5)) {
        yield* publish([message(text)])
        yield* eventually(`${text} to be published`, () => broker.log().includes(text))
      }
      assert.deepStrictEqual(broker.log(), numbered("a", 5))
    }))

  for (const concurrency of [1, 2, 4]) {
    live(
      `by NOTIFY misses no row that came while its key was being published, with concurrency ${concurrency}`,
      () =>
        Effect.gen(function*() {
          const { publish } = yield* outbox()
          const release = yield* Deferred.make<void>()
          const broker = recorder((texts) => texts.includes("a:1") ? Deferred.await(release) : Effect.void)
          yield* startRelay(broker.layer, { pollInterval: never, concurrency })
          yield* listening
          yield* publish([message("a:1")])
          yield* eventually("the first to be on its way", () => broker.calls.length > 0)
          yield* publish([message("a:2")])
          if (concurrency > 1) {
            // Another worker took the signal, and found the key taken
            yield* publish([message("b:1")])
            yield* eventually("the other to be published", () => broker.log().includes("b:1"))
            yield* eventually("the other worker to find nothing", Effect.map(left, (left) => left.length === 2))
          }
          yield* Deferred.succeed(release, undefined)
          yield* empty
          assert.deepStrictEqual(byKey(broker.log()).get("a"), ["a:1", "a:2"])
        })
    )
  }

  live("goes on by looking, where nobody tells it", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { publish } = yield* outbox({ notify: false })
      const broker = recorder()
      yield* startRelay(broker.layer, { pollInterval: "50 millis" })
      yield* listening
      yield* publish([message("a:1")])
      yield* empty
      yield* sql`
        INSERT INTO event_flow_outbox (slot, topic, key, attributes, body)
        VALUES (7, 'topic', 'b', '{"id":"1"}', convert_to('b:1', 'UTF8'))
      `
      yield* empty
      assert.deepStrictEqual(broker.log(), ["a:1", "b:1"])
    }))

  live("goes on by looking when the connection that listens is lost, and listens again", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const kill = sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query ILIKE 'LISTEN%'
      `
      const polling = recorder()
      const first = yield* startRelay(polling.layer, { pollInterval: "50 millis" })
      yield* listening
      yield* kill
      yield* put(["a:1"])
      yield* empty
      yield* first.close

      const { publish } = yield* outbox()
      const told = recorder()
      yield* startRelay(told.layer, { pollInterval: never })
      yield* listening
      const [before] = yield* listeners
      yield* kill
      yield* eventually(
        "another connection to listen",
        Effect.map(listeners, (found) => found.length === 1 && found[0]!.pid !== before!.pid)
      )
      for (const text of numbered("b", 3)) {
        yield* publish([message(text)])
        yield* eventually(`${text} to be published`, () => told.log().includes(text))
      }
      assert.deepStrictEqual([polling.log(), told.log()], [["a:1"], numbered("b", 3)])
    }))

  live(
    "waits for nobody's poll when it begins: what was committed before is published at once",
    () =>
      Effect.gen(function*() {
        yield* put(numbered("a", 3))
        const broker = recorder()
        yield* startRelay(broker.layer, { pollInterval: never })
        yield* empty
        assert.deepStrictEqual(broker.log(), numbered("a", 3))
      })
  )

  live("keeps published rows for as long as is said, and prunes them", () =>
    Effect.gen(function*() {
      yield* put(numbered("a", 3))
      const broker = recorder()
      const relay = yield* manualRelay(broker.layer, { retention: "1 day" })
      assert.strictEqual(yield* relay.drain, 3)
      assert.strictEqual(yield* relay.drain, 0)
      assert.deepStrictEqual((yield* rows).map(({ state }) => state), ["published", "published", "published"])
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: "1 day" }), 0)
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: 0 }), 3)
      assert.deepStrictEqual(yield* left, [])
      assert.deepStrictEqual(broker.log(), numbered("a", 3))
    }))

  it.effect("prunes them by itself once a minute", () =>
    Effect.gen(function*() {
      yield* put(numbered("a", 3))
      yield* startRelay(recorder().layer, { retention: "1 millis" })
      const all = (state: string | undefined) =>
        TestClock.withLive(eventually(
          `all to be ${state}`,
          Effect.map(rows, (rows) => state === undefined ? rows.length === 0 : rows.every((row) => row.state === state))
        ))
      yield* all("published")
      yield* TestClock.adjust("1 minute")
      yield* all(undefined)
    }).pipe(Effect.scoped, Effect.provide(database())))

  live("is by hand alone with layerManual", () =>
    Effect.gen(function*() {
      const { publish } = yield* outbox()
      const broker = recorder()
      yield* Effect.gen(function*() {
        yield* publish([message("a:1"), message("a:2")])
        assert.deepStrictEqual(yield* listeners, [])
        assert.deepStrictEqual(broker.log(), [])
        assert.strictEqual(yield* OutboxRelay.drainNow, 2)
      }).pipe(Effect.provide(Layer.provide(OutboxRelay.layerManual(), broker.layer)))
      assert.deepStrictEqual(broker.log(), ["a:1", "a:2"])
    }))
})

withServer("closing", () => {
  live("waits for the batch that is being published, and begins no other", () =>
    Effect.gen(function*() {
      yield* put(["a:1", "a:2", "a:3"])
      const release = yield* Deferred.make<void>()
      const broker = recorder(() => Deferred.await(release))
      const relay = yield* startRelay(broker.layer, { batchSize: 1, drainTimeout: never })
      yield* eventually("a batch to be on its way", () => broker.calls.length > 0)
      const closing = yield* started(relay.close)
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(broker.log(), ["a:1"])
      assert.deepStrictEqual(yield* left, ["a:2", "a:3"])
    }))

  live("interrupts it after drainTimeout: the rows stay", () =>
    Effect.gen(function*() {
      yield* put(["a:1", "b:1"])
      let isInterrupted = false
      const broker = recorder(() =>
        Effect.onInterrupt(Effect.never, () =>
          Effect.sync(() => {
            isInterrupted = true
          }))
      )
      const relay = yield* startRelay(broker.layer, { drainTimeout: "50 millis" })
      yield* eventually("a batch to be on its way", () => broker.calls.length > 0)
      yield* relay.close
      assert.isTrue(isInterrupted)
      assert.deepStrictEqual((yield* rows).map(({ attempts, text }) => [text, attempts]), [["a:1", 0], ["b:1", 0]])
      // And nobody has their slots
      const next = recorder()
      assert.strictEqual(yield* (yield* manualRelay(next.layer)).drain, 2)
    }))

  live("takes no time when there is nothing to do", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay(recorder().layer, { concurrency: 4, pollInterval: never, drainTimeout: never })
      yield* listening
      yield* relay.close
      yield* eventually("nobody to listen", Effect.map(listeners, (found) => found.length === 0))
    }))
})

withServer("a relay is refused", () => {
  live("with a pool that it has no connection of to listen", () =>
    Effect.gen(function*() {
      const url = Redacted.value((yield* PgClient.PgClient).config.url!)
      for (const [maxConnections, concurrency] of [[1, 1], [4, 4]] as const) {
        const relay = OutboxRelay.layer({ concurrency }).pipe(
          Layer.provide([recorder().layer, clientLayer(url, { maxConnections })])
        )
        const error = yield* Effect.flip(Layer.build(relay))
        assert.strictEqual(error._tag, "InvalidSetting")
        assert.include(error.message, `pool of ${maxConnections}`)
      }
      // One that is told when to look listens to nobody
      yield* Layer.build(
        OutboxRelay.layerManual().pipe(Layer.provide([recorder().layer, clientLayer(url, { maxConnections: 1 })]))
      )
    }))

  live("with the outbox as its broker", () =>
    Effect.gen(function*() {
      for (const layer of [OutboxRelay.layer, OutboxRelay.layerManual]) {
        const error = yield* Effect.flip(Layer.build(Layer.provide(layer(), Outbox.layer())))
        assert.strictEqual(error._tag, "InvalidSetting")
        assert.include(error.message, "the real broker")
      }
    }))

  live("with options that cannot be", () =>
    Effect.gen(function*() {
      for (const layer of [OutboxRelay.layer, OutboxRelay.layerManual]) {
        const error = yield* Effect.flip(Layer.build(Layer.provide(layer({ batchSize: 0 }), recorder().layer)))
        assert.include(error, { _tag: "InvalidSetting", settings: "OutboxRelay", field: "batchSize" })
      }
    }))
})
