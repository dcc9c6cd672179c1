import { assert, describe, it } from "@effect/vitest"
import { Health, MemoryBroker, Subscriber } from "@event-flow/core"
import { Effect, Exit, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"

const subject: Health.Subject = { system: "test", component: "subscription", group: "board", topics: ["meetings"] }

describe("Health", () => {
  it.effect("has what is open, with its details, until the scope closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      let lag = 7
      const { current, set } = yield* Scope.provide(Health.report(subject, () => ({ lag })), scope)
      assert.isFalse(yield* Health.isConnected)
      set("connected")
      assert.isTrue(yield* Health.isConnected)
      lag = 3
      const expected = { ...subject, state: "connected", since: 0, detail: undefined, lag: 3 } as const
      assert.deepStrictEqual(yield* Health.all, [expected])
      assert.deepStrictEqual(current(), expected)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Health.all, [])
      assert.isTrue(yield* Health.isConnected)
    }).pipe(Effect.provide(Health.layer)))

  it.effect("says since when it has its state: the same state again is no change", () =>
    Effect.gen(function*() {
      const { current, set } = yield* Health.report(subject, () => ({}))
      const times: Array<readonly [Health.State, number, string | undefined]> = []
      const note = Effect.sync(() => times.push([current().state, current().since, current().detail]))
      yield* TestClock.adjust("1 second")
      set("connected")
      yield* note
      yield* TestClock.adjust("1 second")
      set("disconnected", "refused")
      yield* note
      yield* TestClock.adjust("1 second")
      set("disconnected", "no answer")
      yield* note
      yield* TestClock.adjust("1 second")
      set("connected")
      yield* note
      assert.deepStrictEqual(times, [
        ["connected", 1_000, undefined],
        ["disconnected", 2_000, "refused"],
        ["disconnected", 2_000, "no answer"],
        ["connected", 4_000, undefined]
      ])
    }).pipe(Effect.provide(Health.layer)))

  it.effect("one that is not connected is enough", () =>
    Effect.gen(function*() {
      const first = yield* Health.report(subject, () => ({}))
      const second = yield* Health.report({ ...subject, component: "publisher" }, () => ({}))
      first.set("connected")
      assert.isFalse(yield* Health.isConnected)
      second.set("disconnected", "away")
      assert.isFalse(yield* Health.isConnected)
      second.set("connected")
      assert.isTrue(yield* Health.isConnected)
    }).pipe(Effect.provide(Health.layer)))

  it.effect("the memory broker is connected, and so are its subscriptions", () =>
    Effect.gen(function*() {
      const subscriber = yield* Subscriber.Subscriber
      yield* subscriber.subscribe({ topics: ["meetings"], group: "board", maxInFlight: 1 }).pipe(
        Effect.andThen(Health.all),
        Effect.map((all) =>
          assert.deepStrictEqual(all.map(({ component, group, state, system }) => [system, component, group, state]), [
            ["memory", "publisher", undefined, "connected"],
            ["memory", "subscription", "board", "connected"]
          ])
        ),
        Effect.scoped
      )
      assert.lengthOf(yield* Health.all, 1)
    }).pipe(Effect.provide(Layer.provideMerge(MemoryBroker.layer(), Health.layer))))
})
