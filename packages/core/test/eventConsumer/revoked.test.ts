import { assert, describe, it } from "@effect/vitest"
import { Broker, ConsumerPolicy } from "@event-flow/core"
import type { Exit } from "effect"
import { Deferred, Effect, References, Schedule } from "effect"
import { adjust, Boom, Journal, passTime } from "../fixtures.ts"
import { Counted, order, publishError, settled, setup, squashed } from "./support.ts"

describe("revoked deliveries", () => {
  it.effect("those that run are interrupted, those that wait are not handled, others go on", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { deliver, log, subscriber } = yield* setup({ concurrency: 2 }, ({ n }) => work(`order ${n}`, 10))
      yield* deliver(order(1), order(2), order(3, { key: "key 1" }), order(4), order(5))
      yield* adjust(5)
      yield* subscriber.revoke(({ attributes }) => ["1", "3", "4"].includes(attributes["id"]!))
      yield* adjust("1 minute")
      assert.deepStrictEqual(entries, [
        "order 1 starts@0",
        "order 2 starts@0",
        "order 1 interrupted@5",
        "order 5 starts@5",
        "order 2 ends@10",
        "order 5 ends@15"
      ])
      // Each gets an answer, which tells the subscriber that nobody works on it any more
      assert.sameMembers(log, ["nack 1, revoked", "nack 3, revoked", "nack 4, revoked", "ack 2", "ack 5"])
    }))

  it.effect("those that wait are answered before the listener ends, with no worker free for them", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { deliver, log, subscriber } = yield* setup({}, ({ n }) => work(`order ${n}`, 10))
      yield* deliver(
        order(1, { key: "a" }),
        order(2, { key: "a" }),
        order(3, { key: "b" }),
        order(4, { key: "b" }),
        order(5, { key: undefined }),
        order(6, { key: "c" })
      )
      yield* settled
      yield* subscriber.revoke(({ attributes }) => !["1", "4"].includes(attributes["id"]!))
      assert.sameMembers(log, [2, 3, 5, 6].map((n) => `nack ${n}, revoked`))
      yield* deliver(order(7, { key: "c" }), order(8, { key: "a" }))
      yield* adjust("1 minute")
      assert.deepStrictEqual(entries.filter((entry) => entry.includes("starts")), [
        "order 1 starts@0",
        "order 4 starts@10",
        "order 7 starts@20",
        "order 8 starts@30"
      ])
    }))

  it.effect("that are revoked while their retry is due are not handled again", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      // A subscriber that tells nobody: the consumer finds out by itself
      const { deliver, log, subscriber } = yield* setup(
        { policy: () => ConsumerPolicy.retry(Schedule.spaced("1 second")) },
        ({ n }) => Effect.andThen(note(`order ${n}`), n === 1 ? Effect.fail(new Boom({ id: "1" })) : Effect.void)
      )
      yield* deliver(order(1), order(2))
      yield* settled
      yield* subscriber.revokeSilently(({ attributes }) => attributes["id"] === "1")
      yield* adjust("1 minute")
      assert.deepStrictEqual(entries, ["order 1", "order 2"])
      assert.deepStrictEqual(log, ["nack 1, revoked", "ack 2"])
    }))

  // A fiber may yield between any two steps, and be interrupted there
  it.effect("an interruption at any step does not keep the key from what comes next", () =>
    Effect.gen(function*() {
      const { deliver, log, subscriber } = yield* Effect.provideService(
        setup({ concurrency: 2 }, ({ n }) => n % 2 === 1 ? Effect.never : Effect.void),
        References.MaxOpsBeforeYield,
        3
      )
      for (let steps = 0; steps < 100; steps++) {
        yield* deliver(order(2 * steps + 1, { key: "key" }))
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        yield* subscriber.revoke(() => true)
        yield* deliver(order(2 * steps + 2, { key: "key" }))
        while (!log.includes(`ack ${2 * steps + 2}`)) yield* Effect.yieldNow
      }
    }), 5_000)

  it.effect("the listener ends when the interrupted handlers have", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      const { deliver, subscriber } = yield* setup(
        {},
        () => Effect.onInterrupt(Effect.never, () => Effect.andThen(Effect.sleep(10), at("cleaned up")))
      )
      yield* deliver(order(1))
      yield* settled
      yield* passTime(Effect.andThen(subscriber.revoke(() => true), at("revoked")))
      assert.deepStrictEqual(entries, ["cleaned up@10", "revoked@10"])
    }))

  it.effect("a retry, and a dead letter that waits for the broker, end as well; the key goes on with what comes next", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const unreachable = new Broker.Unreachable({ detail: "the test says so" })
      const { broker, deliver, log, subscriber } = yield* setup(
        { concurrency: 2, publish: () => Effect.fail(publishError(unreachable)) },
        ({ n }) => {
          if (n === 1) return Effect.andThen(note("order 1"), Effect.fail(new Boom({ id: "1" })))
          return n === 2 ? Effect.die("bug") : note(`order ${n}`)
        }
      )
      yield* deliver(order(1), order(2))
      yield* settled
      yield* subscriber.revoke(() => true)
      yield* deliver(order(3, { key: "key 1" }), order(4, { key: "key 2" }))
      yield* adjust("1 hour")
      assert.deepStrictEqual(entries, ["order 1", "order 3", "order 4"])
      assert.strictEqual(broker.batches.length, 1)
      assert.deepStrictEqual(log.slice(-2), ["ack 3", "ack 4"])
    }))

  it.effect("a handler that was interrupted collects no more: what it left running is told so", () =>
    Effect.gen(function*() {
      const late = yield* Deferred.make<Exit.Exit<void>>()
      const { deliver, log, subscriber } = yield* setup({}, ({ n }, { collect }) => {
        const after = Effect.andThen(Effect.sleep(10), collect(new Counted({ n })))
        return Effect.forkDetach(Effect.flatMap(Effect.exit(after), (exit) => Deferred.succeed(late, exit))).pipe(
          Effect.andThen(Effect.never)
        )
      })
      yield* deliver(order(1))
      yield* settled
      yield* subscriber.revoke(() => true)
      assert.deepStrictEqual(log, ["nack 1, revoked"])
      yield* adjust(10)
      assert.match(String(squashed(yield* Deferred.await(late))), /collected after its handler had ended/)
    }))
})
