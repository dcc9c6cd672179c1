/** The inbox in memory. */
import { assert, describe, it } from "@effect/vitest"
import { Inbox } from "@event-flow/core"
import { Effect, Exit, Fiber, Option, References } from "effect"
import { adjust, Boom, Journal } from "./fixtures.ts"

const once = <A, E, R>(consumer: string, id: string, handle: Effect.Effect<A, E, R>) =>
  Inbox.Inbox.use((inbox) => inbox.once(consumer, id, handle))

const started = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

describe("Inbox.layerMemory", () => {
  it.effect("a message is handled once by each consumer", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      assert.deepStrictEqual(yield* once("c", "1", Effect.as(note("c 1"), "result")), Option.some("result"))
      assert.deepStrictEqual(yield* once("c", "1", note("c 1 again")), Option.none())
      assert.deepStrictEqual(yield* once("c", "2", Effect.as(note("c 2"), "result")), Option.some("result"))
      assert.deepStrictEqual(yield* once("d", "1", Effect.as(note("d 1"), "result")), Option.some("result"))
      assert.deepStrictEqual(entries, ["c 1", "c 2", "d 1"])
    }).pipe(Effect.provide(Inbox.layerMemory())))

  it.effect("consumer and id are told apart, whatever their characters", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      for (
        const [consumer, id] of [["a\",\"b", "c"], ["a", "b\",\"c"], ["a,b", "c"], ["a", "b,c"], ["", "ab"], [
          "ab",
          ""
        ]] as const
      ) {
        yield* once(consumer, id, note(`${consumer} ${id}`))
      }
      assert.strictEqual(entries.length, 6)
    }).pipe(Effect.provide(Inbox.layerMemory())))

  it.effect("of two at the same time the second waits, and is a duplicate", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const first = yield* started(once("c", "1", work("first", 10)))
      const second = yield* started(once("c", "1", work("second", 10)))
      yield* adjust(5)
      assert.isUndefined(second.pollUnsafe())
      yield* adjust(5)
      assert.isTrue(Option.isSome(yield* Fiber.join(first)))
      assert.isTrue(Option.isNone(yield* Fiber.join(second)))
      assert.deepStrictEqual(entries, ["first starts@0", "first ends@10"])
    }).pipe(Effect.provide(Inbox.layerMemory())))

  it.effect("a failure and a defect are not remembered; who waits has a go", () =>
    Effect.gen(function*() {
      const { entries, note, work } = new Journal()
      const boom = new Boom({ id: "1" })
      const first = yield* started(once("c", "1", Effect.andThen(work("first", 10), Effect.fail(boom))))
      const second = yield* started(once("c", "1", Effect.andThen(work("second", 10), Effect.die(boom))))
      const third = yield* started(once("c", "1", work("third", 10)))
      yield* adjust(30)
      assert.deepStrictEqual(yield* Fiber.await(first), Exit.fail(boom))
      assert.deepStrictEqual(yield* Fiber.await(second), Exit.die(boom))
      assert.isTrue(Option.isSome(yield* Fiber.join(third)))
      assert.isTrue(Option.isNone(yield* once("c", "1", note("fourth"))))
      assert.deepStrictEqual(entries, [
        "first starts@0",
        "first ends@10",
        "second starts@10",
        "second ends@20",
        "third starts@20",
        "third ends@30"
      ])
    }).pipe(Effect.provide(Inbox.layerMemory())))

  it.effect("an interrupted one is not remembered; who waits has a go", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const first = yield* started(once("c", "1", work("first", 10)))
      const second = yield* started(once("c", "1", work("second", 10)))
      yield* adjust(5)
      yield* Fiber.interrupt(first)
      yield* adjust(10)
      assert.isTrue(Option.isSome(yield* Fiber.join(second)))
      assert.deepStrictEqual(entries, ["first starts@0", "first interrupted@5", "second starts@5", "second ends@15"])
    }).pipe(Effect.provide(Inbox.layerMemory())))

  it.effect("interrupting one that waits leaves the other alone", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const first = yield* started(once("c", "1", work("first", 10)))
      const second = yield* started(once("c", "1", work("second", 10)))
      yield* Fiber.interrupt(second)
      yield* adjust(10)
      assert.isTrue(Option.isSome(yield* Fiber.join(first)))
      assert.deepStrictEqual(entries, ["first starts@0", "first ends@10"])
    }).pipe(Effect.provide(Inbox.layerMemory())))

  // A fiber may yield between any two steps, and be interrupted there
  it.effect(
    "an interruption at any step leaves nothing behind that others would wait for",
    () =>
      Effect.gen(function*() {
        for (let steps = 0; steps < 30; steps++) {
          const id = String(steps)
          const first = yield* once("c", id, Effect.never).pipe(
            Effect.provideService(References.MaxOpsBeforeYield, 3),
            Effect.forkChild
          )
          for (let i = 0; i < steps; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(first)
          assert.deepStrictEqual(yield* once("c", id, Effect.succeed("second")), Option.some("second"))
        }
      }).pipe(Effect.provide(Inbox.layerMemory())),
    5_000
  )

  it.effect("beyond its capacity it forgets the oldest", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      for (const id of ["1", "2", "3", "3", "2", "1"]) yield* once("c", id, note(id))
      assert.deepStrictEqual(entries, ["1", "2", "3", "1"])
    }).pipe(Effect.provide(Inbox.layerMemory({ capacity: 2 }))))
})
