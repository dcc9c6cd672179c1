/** What `OutboxRelay` publishes, in which order, and what it does with rows that it cannot publish. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { Outbox, OutboxAdmin, OutboxRelay } from "@event-flow/sql-layer"
import { Array as Arr, Deferred, Effect, Exit, Fiber, Layer, Redacted, Schema, type Scope } from "effect"
import type { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { byKey, message, numbered, textOf } from "./support/messages.ts"
import {
  brokerLayer,
  database,
  failingOn,
  left,
  manualRelay,
  outbox,
  put,
  recorder,
  rejected,
  rows,
  startRelay,
  startRelayOn,
  unreachable
} from "./support/relays.ts"
import { type ClientOptions, eventually, withServer } from "./support/support.ts"

type Services = PgClient.PgClient | SqlClient.SqlClient | Scope.Scope

const live = <E>(name: string, test: () => Effect.Effect<void, E, Services>, client?: ClientOptions) =>
  it.live(name, () => Effect.suspend(test).pipe(Effect.scoped, Effect.provide(database(client))))

/** Nothing but what is told of new rows wakes a relay. */
const never = "1 hour"

const started = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** The connections of this database that listen. */
const listeners = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  return yield* sql<{ pid: number }>`
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'
  `
})
const listening = eventually("a relay to listen", Effect.map(listeners, (found) => found.length > 0))

const empty = eventually("the outbox to be empty", Effect.map(left, (left) => left.length === 0))

const inTurns = (...lists: ReadonlyArray<ReadonlyArray<string>>): Array<string> =>
  lists[0]!.flatMap((_, n) => lists.map((list) => list[n]!))

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

withServer("a row that cannot be published", () => {
  const kinds: Record<string, (text: string) => Effect.Effect<void, ReturnType<typeof rejected>>> = {
    "is rejected": (text) => Effect.fail(rejected(text)),
    "has the broker die": () => Effect.die(new Error("poison a:1")),
    "has the broker interrupt itself": () => Effect.interrupt,
    "times out": () => Effect.never
  }
  for (const [how, fail] of Object.entries(kinds)) {
    live(`as it ${how}, waits, the later ones of its key behind it; the others go on`, () =>
      Effect.gen(function*() {
        yield* put(inTurns(numbered("a", 3), numbered("b", 3), numbered("", 3)))
        let isHealed = false
        const broker = recorder(failingOn((text) => text === "a:1" && !isHealed ? fail(text) : undefined))
        let delay: string = never
        const relay = yield* startRelay(broker.layer, {
          publishTimeout: "300 millis",
          retryDelay: () => delay as "1 hour",
          pollInterval: "50 millis"
        })
        yield* eventually("the others to be published", Effect.map(left, (left) => left.length === 3))
        const [first, ...behind] = yield* rows
        assert.include(first, { text: "a:1", state: "pending", attempts: 1, waits: true })
        assert.match(first!.last_error!, how === "times out" ? /publishTimeout/ : /poison a:1|interrupted/i)
        assert.deepStrictEqual(behind.map(({ attempts, text }) => [text, attempts]), [["a:2", 0], ["a:3", 0]])
        assert.isUndefined(byKey(broker.log()).get("a"))

        // Those that come later go on as well
        yield* put(["b:4", "a:4"])
        yield* eventually("a later one to be published", () => broker.log().includes("b:4"))
        yield* relay.close
        isHealed = true
        delay = "0 millis"
        yield* (yield* PgClient.PgClient)`UPDATE event_flow_outbox SET next_attempt_at = now() WHERE attempts > 0`
        yield* startRelay(broker.layer)
        yield* empty
        const published = byKey(broker.log())
        assert.deepStrictEqual([published.get("a"), published.get("b")], [numbered("a", 4), numbered("b", 4)])
        assert.lengthOf(broker.log(), 11)
      }))
  }

  live("as the broker throws, is its own trouble alone", () =>
    Effect.gen(function*() {
      yield* put(["a:1", "b:1"])
      const log: Array<string> = []
      const broker = brokerLayer((messages) => {
        const texts = messages.map(textOf)
        if (texts.includes("a:1")) throw new Error("poison a:1")
        return Effect.sync(() => {
          log.push(...texts)
        })
      })
      const relay = yield* manualRelay(broker, { maxAttempts: 2, retryDelay: () => 0 })
      assert.strictEqual(yield* relay.drain, 1)
      assert.include((yield* rows)[0], { text: "a:1", state: "dead", last_error: "Error: poison a:1" })
      assert.deepStrictEqual(log, ["b:1"])
    }))

  live("is tried again after its delay, and then the ones behind it", () =>
    Effect.gen(function*() {
      yield* put(inTurns(numbered("a", 3), numbered("b", 3)))
      let failures = 5
      const broker = recorder(
        failingOn((text) => text === "a:1" && failures-- > 0 ? Effect.fail(rejected(text)) : undefined)
      )
      const asked: Array<number> = []
      yield* startRelay(broker.layer, {
        retryDelay: (attempts) => {
          asked.push(attempts)
          // No whole number
          return attempts * 20.5
        },
        // The relay knows when the next attempt is due
        pollInterval: never
      })
      yield* empty
      assert.deepStrictEqual(byKey(broker.log()).get("a"), numbered("a", 3))
      assert.deepStrictEqual(asked, [1, 2, 3, 4])
    }))

  live("is tried again in time, although other work woke the relay meanwhile", () =>
    Effect.gen(function*() {
      const { publish } = yield* outbox()
      yield* put(["a:1", "b:1"])
      let failures = 2
      const broker = recorder(
        failingOn((text) => text === "a:1" && failures-- > 0 ? Effect.fail(rejected(text)) : undefined)
      )
      yield* startRelay(broker.layer, { retryDelay: () => "500 millis", pollInterval: never })
      yield* listening
      yield* eventually("the first attempt to have failed", () => failures === 0)
      yield* publish([message("c:1")])
      yield* empty
      assert.sameMembers([...broker.log()], ["a:1", "b:1", "c:1"])
    }))

  live("may wait longer than the database can count milliseconds", () =>
    Effect.gen(function*() {
      yield* put(["a:1", "b:1"])
      const broker = recorder(failingOn((text) => text === "a:1" ? Effect.fail(rejected(text)) : undefined))
      for (const retryDelay of ["100 days", "Infinity"] as const) {
        const relay = yield* manualRelay(broker.layer, { retryDelay: () => retryDelay })
        yield* relay.drain
        const [row] = yield* rows
        assert.include(row, { text: "a:1", state: "pending", waits: true })
        yield* (yield* PgClient.PgClient)`UPDATE event_flow_outbox SET next_attempt_at = now()`
      }
      assert.deepStrictEqual(broker.log(), ["b:1"])
    }))

  live("is dead after maxAttempts, with its last error; the later ones of its key go on", () =>
    Effect.gen(function*() {
      yield* put(inTurns(numbered("a", 3), numbered("b", 3)))
      const broker = recorder(failingOn((text) => text === "a:1" ? Effect.fail(rejected(text)) : undefined))
      const relay = yield* manualRelay(broker.layer, { maxAttempts: 3, retryDelay: () => 0 })
      assert.strictEqual(yield* relay.drain, 5)
      const [dead, ...others] = yield* OutboxAdmin.list()
      assert.deepStrictEqual(others, [])
      assert.include(dead, { state: "dead", attempts: 3, key: "a", topic: "topic", messageType: "Note.v1" })
      assert.include(dead!.lastError, "poison a:1")
      assert.deepStrictEqual(byKey(broker.log()).get("a"), ["a:2", "a:3"])
      // Once with the others, three times by itself
      assert.lengthOf(broker.calls.filter((texts) => texts.includes("a:1")), 4)
    }))

  live(
    "holds the later ones of its key when it is dead, if so asked, until it is redriven",
    () =>
      Effect.gen(function*() {
        yield* put(inTurns(numbered("a", 3), numbered("b", 3)))
        let isHealed = false
        const broker = recorder(
          failingOn((text) => text === "a:1" && !isHealed ? Effect.fail(rejected(text)) : undefined)
        )
        const relay = yield* manualRelay(broker.layer, { maxAttempts: 2, retryDelay: () => 0, afterDead: "hold" })
        assert.strictEqual(yield* relay.drain, 3)
        yield* put(["a:4"])
        assert.strictEqual(yield* relay.drain, 0)
        assert.deepStrictEqual((yield* rows).map(({ state, text }) => `${text} ${state}`), [
          "a:1 dead",
          "a:2 pending",
          "a:3 pending",
          "a:4 pending"
        ])
        // In vain: it waits again, and they behind it
        assert.strictEqual(yield* OutboxAdmin.redrive("all"), 1)
        assert.strictEqual(yield* relay.drain, 0)
        isHealed = true
        assert.strictEqual(yield* OutboxAdmin.redrive("all"), 1)
        assert.strictEqual(yield* relay.drain, 4)
        assert.deepStrictEqual(byKey(broker.log()).get("a"), numbered("a", 4))
      })
  )

  live("holds them until it is pruned, too", () =>
    Effect.gen(function*() {
      yield* put(numbered("a", 3))
      const broker = recorder(failingOn((text) => text === "a:1" ? Effect.fail(rejected(text)) : undefined))
      const relay = yield* manualRelay(broker.layer, { maxAttempts: 1, afterDead: "hold" })
      assert.strictEqual(yield* relay.drain, 0)
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: 0, state: "dead" }), 1)
      assert.strictEqual(yield* relay.drain, 2)
      assert.deepStrictEqual(broker.log(), ["a:2", "a:3"])
    }))

  live("is published at once when it is redriven", () =>
    Effect.gen(function*() {
      yield* put(["a:1", "b:1"])
      let isHealed = false
      const broker = recorder(
        failingOn((text) => text === "a:1" && !isHealed ? Effect.fail(rejected(text)) : undefined)
      )
      yield* startRelay(broker.layer, { maxAttempts: 1, pollInterval: never })
      yield* listening
      yield* eventually("it to be dead", Effect.map(OutboxAdmin.status, ({ dead }) => dead === 1))
      isHealed = true
      assert.strictEqual(yield* OutboxAdmin.redrive({ topic: "topic" }), 1)
      yield* empty
      assert.deepStrictEqual(broker.log(), ["b:1", "a:1"])
    }))

  live("is never dead for what may pass by itself", () =>
    Effect.gen(function*() {
      yield* put(["a:1", "a:2", "b:1"])
      let failures = 20
      const broker = recorder(
        failingOn((text) => text === "a:1" && failures-- > 0 ? Effect.fail(unreachable(text)) : undefined)
      )
      const relay = yield* manualRelay(broker.layer, { maxAttempts: 2, retryDelay: () => 0 })
      for (let n = 2; n < 30; n++) {
        yield* Effect.exit(relay.drain)
        assert.strictEqual((yield* OutboxAdmin.status).dead, 0)
        // Something that gets through
        yield* put([`b:${n}`])
      }
      assert.isBelow(failures, 0)
      assert.deepStrictEqual(byKey(broker.log()).get("a"), ["a:1", "a:2"])
      assert.strictEqual((yield* OutboxAdmin.status).dead, 0)
    }))

  live(
    "for a reason that may pass does not hold up the others, when it is alone in its batch",
    () =>
      Effect.gen(function*() {
        const { publish } = yield* outbox()
        const broker = recorder(failingOn((text) => text === "a:1" ? Effect.fail(unreachable(text)) : undefined))
        yield* put(["a:1", "b:1"])
        yield* startRelay(broker.layer, { retryDelay: () => 10, pollInterval: never })
        yield* eventually(
          "it to have failed by itself ten times",
          () => broker.calls.filter((texts) => texts.length === 1 && texts[0] === "a:1").length > 10
        )
        // The relay is not in a pause
        const before = performance.now()
        yield* publish([message("c:1")])
        yield* eventually("another to be published", () => broker.log().includes("c:1"))
        assert.isBelow(performance.now() - before, 3_000)
      })
  )

  live("as nothing can be read from it, is its own trouble alone", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* put(["b:1"])
      yield* sql`
        INSERT INTO event_flow_outbox (slot, topic, key, attributes, headers, body)
        VALUES (7, 'topic', 'a', '{"id":"1"}', '{"name":5}', convert_to('a:1', 'UTF8'))
      `
      const broker = recorder()
      const relay = yield* manualRelay(broker.layer, { maxAttempts: 2, retryDelay: () => 0 })
      assert.strictEqual(yield* relay.drain, 1)
      assert.include((yield* rows)[0], { text: "a:1", state: "dead", attempts: 2 })
      assert.deepStrictEqual(broker.log(), ["b:1"])
    }))
})

withServer("a broker that is away", () => {
  for (const concurrency of [1, 4]) {
    live(
      `leaves the rows as they are; they are published when it is back, with concurrency ${concurrency}`,
      () =>
        Effect.gen(function*() {
          const keys = Array.from({ length: 20 }, (_, n) => numbered(`key-${n}`, 3))
          yield* put(inTurns(...keys))
          let isAway = true
          const broker = recorder(([text]) => isAway ? Effect.fail(unreachable(text!)) : Effect.void)
          yield* startRelay(broker.layer, { maxAttempts: 1, concurrency })
          yield* eventually("some attempts", () => broker.calls.length > 30)
          assert.isTrue((yield* rows).every(({ attempts, state }) => attempts === 0 && state === "pending"))
          isAway = false
          yield* empty
          assert.lengthOf(broker.log(), 60)
          for (const key of keys) assert.deepStrictEqual(byKey(broker.log()).get(key[0]!.split(":")[0]!), key)
        })
    )
  }

  live("is what drain fails with", () =>
    Effect.gen(function*() {
      yield* put(["a:1"])
      const relay = yield* manualRelay(recorder(() => Effect.fail(unreachable("a:1"))).layer)
      const error = yield* Effect.flip(relay.drain)
      assert.strictEqual(error._tag, "BrokerUnavailable")
      assert.include(error.message, "\"test\"")
      assert.deepStrictEqual((yield* rows).map(({ attempts }) => attempts), [0])
    }))

  live("does not keep a relay from closing", () =>
    Effect.gen(function*() {
      yield* put(["a:1"])
      const broker = recorder(() => Effect.fail(unreachable("a:1")))
      const relay = yield* startRelay(broker.layer, { concurrency: 4, drainTimeout: never })
      yield* eventually("long pauses", () => broker.calls.length > 10)
      yield* relay.close
      assert.deepStrictEqual(yield* left, ["a:1"])
    }))

  live("is not an end: a broker that interrupts every publish is one that is away", () =>
    Effect.gen(function*() {
      yield* put(["a:1", "b:1"])
      let isAway = true
      const broker = recorder(() => isAway ? Effect.interrupt : Effect.void)
      yield* startRelay(broker.layer, { maxAttempts: 1 })
      yield* eventually("some attempts", () => broker.calls.length > 6)
      isAway = false
      yield* empty
      assert.sameMembers([...broker.log()], ["a:1", "b:1"])
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
      assert.deepStrictEqual(yield* listeners, [])
    }))
})

withServer("a relay is refused", () => {
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
          const row = byText.get(text)!
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
          Effect.map(OutboxAdmin.status, (status) => status.pending === held && status.dead === deadRows)
        )
        assert.deepStrictEqual(
          (yield* OutboxAdmin.list()).map(({ attempts }) => attempts),
          Array<number>(deadRows).fill(3)
        )
        // Nothing twice, nothing too few, and each key in order
        assert.deepStrictEqual(log.flat().toSorted(), published.toSorted())
        const [actual, expected] = [byKey(log.flat()), byKey(published)]
        for (const key of ["a", "b", "c"]) assert.deepStrictEqual(actual.get(key), expected.get(key), key)
      }).pipe(Effect.scoped, Effect.provide(database())),
    { arbitrary: { runs: 25, seed: 1 } }
  )
})

withServer("a key that is stuck", () => {
  live("with 100,000 rows does not hold up the others of its slot", () =>
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
      const timed = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.suspend(() => {
          const before = performance.now()
          return Effect.map(effect, (value) => [value, Math.round(performance.now() - before)] as const)
        })
      const [none, idle] = yield* timed(relay.drain)
      assert.strictEqual(none, 0)
      yield* more("free", 1, 1_000)
      const [published, busy] = yield* timed(relay.drain)
      assert.strictEqual(published, 1_000)
      assert.deepStrictEqual(broker.log(), numbered("free", 1_000))
      console.info(`100,000 rows behind a stuck key: a look takes ${idle} ms, publishing 1,000 others ${busy} ms`)
      assert.isBelow(busy, 10_000)
      assert.strictEqual((yield* rows).length, 100_000)
    }))
})
