/** What `OutboxRelay` does with rows that cannot publish, and with a broker that is away. */
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { Broker } from "@event-flow/core"
import { OutboxAdmin } from "@event-flow/sql-layer"
import { Effect } from "effect"
import { byKey, inTurns, message, numbered, textOf } from "../support/messages.ts"
import {
  brokerLayer,
  empty,
  failingOn,
  left,
  listening,
  live,
  manualRelay,
  never,
  outbox,
  put,
  recorder,
  rejected,
  rows,
  startRelay,
  unreachable
} from "../support/relays.ts"
import { eventually, withServer } from "../support/support.ts"

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
        // In vain: it waits again, and they behind it. That another one gets through shows whose fault it is
        assert.strictEqual(yield* OutboxAdmin.redrive("all"), 1)
        yield* put(["c:1"])
        assert.strictEqual(yield* relay.drain, 1)
        isHealed = true
        assert.strictEqual(yield* OutboxAdmin.redrive("all"), 1)
        assert.strictEqual(yield* relay.drain, 4)
        assert.deepStrictEqual(byKey(broker.log()).get("a"), numbered("a", 4))
      })
  )

  live("holds them until it is pruned, too", () =>
    Effect.gen(function*() {
      yield* put([...numbered("a", 3), "b:1"])
      const broker = recorder(failingOn((text) => text === "a:1" ? Effect.fail(rejected(text)) : undefined))
      const relay = yield* manualRelay(broker.layer, { maxAttempts: 1, afterDead: "hold" })
      assert.strictEqual(yield* relay.drain, 1)
      assert.strictEqual(yield* OutboxAdmin.prune({ olderThan: 0, state: "dead" }), 1)
      assert.strictEqual(yield* relay.drain, 2)
      assert.deepStrictEqual(broker.log(), ["b:1", "a:2", "a:3"])
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
  for (
    const reason of [
      new Broker.NotAuthorised({ detail: "the right to write was taken away" }),
      new Broker.Rejected({ detail: "the disk is full" }),
      new Broker.UnknownTopic({ detail: "topics were deleted" })
    ]
  ) {
    live(
      `makes no row dead, although it says ${reason._tag}; afterwards a poison row is found`,
      () =>
        Effect.gen(function*() {
          let isAway = false
          let refused = 0
          const broker = recorder((texts) => {
            if (!isAway && !texts.includes("poison:1")) return Effect.void
            refused++
            return Effect.fail(Broker.publishError(message(texts[0]!), reason))
          })
          yield* startRelay(broker.layer, { maxAttempts: 3, retryDelay: () => 20, pollInterval: "20 millis" })
          yield* put(["before:1"])
          yield* empty
          isAway = true
          yield* put([...inTurns(numbered("a", 10), numbered("b", 10)), "poison:1"])
          const attempted = Effect.map(rows, (rows) => rows.filter(({ attempts }) => attempts >= 5).length === 3)
          yield* eventually("more attempts than a row has", attempted)
          assert.isTrue((yield* rows).every(({ state }) => state === "pending"))
          isAway = false
          yield* eventually(
            "the poison row alone to be there, dead",
            Effect.map(rows, (rows) => rows.length === 1 && rows[0]!.state === "dead" && rows[0]!.text === "poison:1")
          )
          const published = byKey(broker.log())
          for (const key of ["a", "b"]) assert.deepStrictEqual(published.get(key), numbered(key, 10))
          assert.lengthOf(broker.log(), 21)
          assert.isAbove(refused, 15)
        })
    )
  }

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
