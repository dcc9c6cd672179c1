/** Consumer groups of the memory broker that come and go. */
import { assert, describe, it } from "@effect/vitest"
import { Command, EventConsumer, EventHandler, Mediator, MemoryBroker, NotificationEvent } from "@event-flow/core"
import { Effect, Exit, Fiber, Layer, Schema } from "effect"
import { alone, open, RecordingLogger } from "../fixtures.ts"
import { ackAll, numbers, pending, publish, reasonOf, started, stored, subscribe } from "./support.ts"

const awaitIdle = MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
const topics = MemoryBroker.MemoryBroker.use(({ topics }) => topics)
const unsubscribe = (group: string) => MemoryBroker.MemoryBroker.use(({ unsubscribe }) => unsubscribe(group))

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe("an ephemeral group", () => {
  it.effect("starts at the end", () =>
    Effect.gen(function*() {
      yield* publish([1, 2])
      const { take } = yield* subscribe({ ephemeral: true })
      assert.strictEqual(yield* pending, 0)
      yield* publish([3])
      assert.deepStrictEqual(numbers(yield* take), [3])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("is forgotten with its last subscription: publishing goes on beyond the capacity", () =>
    Effect.gen(function*() {
      const { close, take } = yield* subscribe({ ephemeral: true })
      yield* publish([1, 2, 3], { key: "key" })
      yield* publish([4, 5])
      assert.deepStrictEqual(numbers(yield* take), [1, 4, 5])
      assert.strictEqual(yield* pending, 5)
      const idle = yield* started(awaitIdle)
      assert.isUndefined(idle.pollUnsafe())
      yield* close
      yield* Fiber.join(idle)
      assert.strictEqual(yield* pending, 0)
      yield* publish(range(6, 30))
      const again = yield* subscribe({ ephemeral: true })
      yield* publish([31], { key: "key" })
      assert.deepStrictEqual(numbers(yield* again.take), [31])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 5 }))))

  it.effect("lives as long as one of its subscriptions, which takes over from the others", () =>
    Effect.gen(function*() {
      const first = yield* subscribe({ ephemeral: true })
      const second = yield* subscribe({ ephemeral: true })
      yield* publish([1, 2, 3])
      const [one, two] = yield* first.take
      yield* two!.ack
      yield* first.close
      assert.isTrue(one!.isRevoked())
      const rest = yield* second.take
      assert.deepStrictEqual(numbers(rest), [1, 3])
      yield* second.close
      // Too late for an acknowledgement, and nothing to count it against
      yield* ackAll(rest)
      yield* Effect.forEach(rest, ({ nack }) => nack)
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("that is full holds up who publishes until it is gone", () =>
    Effect.gen(function*() {
      const { close } = yield* subscribe({ ephemeral: true })
      yield* publish([1, 2])
      const waiting = yield* started(publish([3, 4, 5]))
      assert.isUndefined(waiting.pollUnsafe())
      yield* close
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(yield* stored(), [1, 2, 3, 4, 5])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))))

  it.effect("takes nothing from the others, nor keeps anything for itself", () =>
    Effect.gen(function*() {
      const durable = yield* subscribe()
      const { close } = yield* subscribe({ group: "client", ephemeral: true })
      yield* publish([1, 2, 3, 4])
      const taken = yield* durable.take
      yield* ackAll(taken.slice(0, 3))
      assert.deepStrictEqual(yield* stored(), [1, 2, 3, 4], "kept for the client")
      yield* close
      assert.deepStrictEqual(yield* stored(), [3, 4])
      assert.strictEqual(yield* pending, 1)
      yield* taken[3]!.nack
      assert.deepStrictEqual(numbers(yield* durable.take), [4])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 2 }))))

  it.effect("is no durable one: a subscription of the other kind is refused", () =>
    Effect.gen(function*() {
      yield* subscribe({ group: "durable" })
      yield* subscribe({ group: "client", ephemeral: true })
      for (const options of [{ group: "durable", ephemeral: true }, { group: "client" }]) {
        const error = yield* Effect.flip(subscribe({ topics: ["other", "topic"], ...options }))
        assert.strictEqual(reasonOf(Exit.fail(error)), "Rejected")
        assert.include(error.message, "at topic \"topic\"")
      }
      assert.deepStrictEqual(yield* topics, ["topic"], "and leaves no group behind")
    }).pipe(Effect.provide(MemoryBroker.layer())))

  class Tick extends NotificationEvent.Class<Tick>()("Tick", { n: Schema.Int }, { topic: "ticks" }) {}
  class Go extends Command.Class<Go>()("Go", { payload: { n: Schema.Int }, emits: [Tick] }) {}
  const Show = EventHandler.make("Show", { on: Tick })

  it.effect("of an event consumer, one for each client that connects", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const client = EventConsumer.layer([Show], { group: "client-1", ephemeral: true }).pipe(
        Layer.provide(Show.toLayer(({ n }) => Effect.sync(() => seen.push(n))))
      )
      const send = (n: number) => Mediator.send(new Go({ n }))
      yield* send(1)
      for (const first of [2, 200]) {
        const { close } = yield* open(client)
        yield* send(first)
        yield* awaitIdle
        yield* close
        yield* Effect.forEach(range(first + 1, first + 50), send)
      }
      assert.deepStrictEqual(seen, [2, 200])
      assert.strictEqual(yield* pending, 0)
    }).pipe(
      Effect.provide(
        alone(Go, Go.toLayer(({ n }, { collect }) => collect(new Tick({ n })))).pipe(
          Layer.provideMerge(MemoryBroker.layer({ capacity: 10 }))
        )
      )
    ))
})

describe("unsubscribe", () => {
  it.effect("forgets a durable group: publishing goes on, and a later one of its name starts as a new one", () =>
    Effect.gen(function*() {
      const { close, take } = yield* subscribe({ topics: ["topic", "other"] })
      yield* publish([1, 2])
      yield* publish([3], { topic: "other" })
      yield* ackAll((yield* take).slice(0, 1))
      yield* close
      assert.strictEqual(reasonOf(yield* Effect.exit(publish([4, 5]))), "Rejected")
      const idle = yield* started(awaitIdle)
      assert.isUndefined(idle.pollUnsafe())
      yield* unsubscribe("group")
      yield* Fiber.join(idle)
      yield* publish(range(5, 9))
      assert.strictEqual(yield* pending, 0)
      const again = yield* subscribe()
      assert.deepStrictEqual(numbers(yield* again.take), [7, 8, 9])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2, retention: 3 }))))

  it.effect("leaves the messages of other groups", () =>
    Effect.gen(function*() {
      const other = yield* subscribe({ group: "other" })
      const { close } = yield* subscribe()
      yield* close
      yield* publish([1, 2])
      yield* unsubscribe("group")
      assert.strictEqual(yield* pending, 2)
      assert.deepStrictEqual(numbers(yield* other.take), [1, 2])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 0 }))))

  it.effect("fails while the group has subscriptions, and does nothing where there is none", () =>
    Effect.gen(function*() {
      const first = yield* subscribe({ topics: ["a", "b"] })
      yield* Effect.tap(subscribe({ topics: ["c"] }), ({ close }) => close)
      yield* publish([1], { topic: "c" })
      const error = yield* Effect.flip(unsubscribe("group"))
      assert.instanceOf(error, MemoryBroker.GroupInUse)
      assert.deepStrictEqual(error.topics, ["a", "b"])
      assert.strictEqual(yield* pending, 1, "nothing was forgotten")
      yield* first.close
      yield* unsubscribe("group")
      yield* unsubscribe("group")
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer())))
})

describe("topics", () => {
  it.effect("without messages and groups are forgotten", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* stored("asked for"), [])
      yield* publish([1], { topic: "nobody's" })
      for (let n = 0; n < 3; n++) {
        const topic = `reply-${n}`
        const { close, take } = yield* subscribe({ topics: [topic], ephemeral: true })
        yield* publish([n], { topic })
        assert.deepStrictEqual(yield* topics, [topic])
        const [reply] = yield* take
        if (n > 0) yield* reply!.ack
        yield* close
      }
      assert.deepStrictEqual(yield* topics, [])
      yield* subscribe()
      yield* subscribe({ group: "client", ephemeral: true })
      assert.deepStrictEqual(yield* topics, ["topic"])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 0 }))))

  it.effect("without groups keep the newest messages, and say once that they drop some", () =>
    Effect.gen(function*() {
      const logger = new RecordingLogger()
      yield* publish(range(1, 4)).pipe(Effect.andThen(publish(range(5, 9))), Effect.provide(logger.layer))
      assert.strictEqual(logger.entries.length, 1)
      assert.include(logger.entries[0], "No group has subscribed to topic \"topic\": it keeps the newest 3 messages")
      assert.deepStrictEqual(yield* stored(), [7, 8, 9])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 3, retention: 3 }))))
})
