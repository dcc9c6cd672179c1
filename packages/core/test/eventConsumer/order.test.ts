import { assert, describe, it } from "@effect/vitest"
import type { Message } from "@event-flow/core"
import { Broker, ConsumerPolicy, MemoryBroker, Settings, Subscriber } from "@event-flow/core"
import { Clock, Context, Effect, Layer, Schedule, Schema } from "effect"
import { adjust, bodyOf, Boom, open, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { consumer, type Handle, order, settled, setup, type SetupOptions } from "./support.ts"

describe("order and concurrency", () => {
  const Work = Schema.Struct({
    key: Schema.Literals(["a", "b", "c", "d"]),
    keyless: Schema.Literals([false, false, false, true]),
    millis: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 })),
    failures: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 }))
  })
  const pause = 5
  const retries = 2

  const memory = Effect.gen(function*() {
    const { context } = yield* open(MemoryBroker.layer())
    const { messages, pending } = Context.get(context, MemoryBroker.MemoryBroker)
    return {
      layer: Layer.succeedContext(context),
      send: (message: Message.Message) => Context.get(context, Broker.Broker).publish([message]),
      dead: messages("orders.dead-letter"),
      unsettled: pending
    }
  })

  const fake = Effect.sync(() => {
    const { deliver, layer, log } = new FakeSubscriber()
    const broker = new RecordingBroker()
    let sent = 0
    return {
      layer: Layer.merge(layer, broker.layer),
      send: (message: Message.Message) => Effect.andThen(Effect.sync(() => sent++), deliver(message)),
      dead: Effect.sync(() => broker.batches.flat()),
      unsettled: Effect.sync(() => sent - log.filter((entry) => entry.startsWith("ack")).length)
    }
  })

  const ports = [["delivers a key one at a time", memory], ["delivers ahead", fake]] as const
  for (const [what, makePorts] of ports) {
    it.effect.prop(
      `each message once, those of a key in order, no more at once than allowed, no worker idle: a broker that ${what}`,
      {
        work: Schema.Array(Work).check(Schema.isMaxLength(25)),
        concurrency: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
        maxInFlight: Schema.Int.check(Schema.isBetween({ minimum: 5, maximum: 30 }))
      },
      ({ concurrency, maxInFlight, work }) =>
        Effect.gen(function*() {
          const attempts = work.map(() => 0)
          const finished: Array<number> = []
          const running = new Set<number>()
          let most = 0
          let end = 0
          const laneOf = (n: number) => work[n]!.keyless ? `message ${n}` : work[n]!.key
          const handle: Handle = ({ n }) =>
            Effect.gen(function*() {
              const { failures, millis } = work[n]!
              assert.isFalse([...running].some((other) => laneOf(other) === laneOf(n)), "two of a key at once")
              running.add(n)
              most = Math.max(most, running.size)
              yield* Effect.sleep(millis)
              running.delete(n)
              end = yield* Clock.currentTimeMillis
              if (attempts[n]!++ < failures) return yield* new Boom({ id: String(n) })
              finished.push(n)
            })
          const { dead, layer, send, unsettled } = yield* makePorts
          const { close } = yield* open(
            consumer(handle, {
              concurrency,
              maxInFlight,
              policy: (failure) =>
                failure._tag === "HandlerFailed"
                  ? ConsumerPolicy.retry(Schedule.upTo(Schedule.spaced(pause), { times: retries }))
                  : ConsumerPolicy.stop
            }).pipe(Layer.provide([layer, new RecordingLogger().layer]))
          )
          const start = yield* Clock.currentTimeMillis
          for (const n of work.keys()) yield* send(order(n, { key: work[n]!.keyless ? undefined : work[n]!.key }))
          yield* adjust("1 hour")
          assert.strictEqual(yield* unsettled, 0)
          yield* close

          // The model: what each message takes, and what becomes of it
          const poison = (n: number) => work[n]!.failures > retries
          const cost = (n: number) => {
            const runs = Math.min(work[n]!.failures, retries) + 1
            return runs * work[n]!.millis + (runs - 1) * pause
          }
          const all = [...work.keys()]
          const lanes = new Map<string, Array<number>>()
          for (const n of all) lanes.set(laneOf(n), [...lanes.get(laneOf(n)) ?? [], n])
          const sum = (list: ReadonlyArray<number>) => list.reduce((total, n) => total + cost(n), 0)

          assert.deepStrictEqual(attempts, all.map((n) => Math.min(work[n]!.failures, retries) + 1))
          assert.sameMembers(finished, all.filter((n) => !poison(n)))
          const letters = (yield* dead).map(({ attributes }) => Number(attributes["id"]))
          assert.sameMembers(letters, all.filter(poison))
          for (const lane of lanes.values()) {
            assert.deepStrictEqual(finished.filter((n) => lane.includes(n)), lane.filter((n) => !poison(n)))
            assert.deepStrictEqual(letters.filter((n) => lane.includes(n)), lane.filter(poison))
          }
          assert.isAtMost(most, concurrency)
          // Graham's bound of a schedule in which no worker is idle while a key is ready
          const longest = Math.max(0, ...Array.from(lanes.values(), sum))
          assert.isAtMost(end - start, sum(all) / concurrency + longest * (1 - 1 / concurrency) + 0.001)
        }),
      { arbitrary: { runs: 150, seed: 1 } }
    )
  }

  it.effect("a message that is stuck, or waits for its retry, holds up its own key only", () =>
    Effect.gen(function*() {
      const { deliver, log } = yield* setup(
        { concurrency: 3, policy: () => ConsumerPolicy.retry(Schedule.spaced("1 hour")) },
        ({ n }) => n === 1 ? Effect.never : n === 2 ? Effect.fail(new Boom({ id: "2" })) : Effect.void
      )
      yield* deliver(order(1), order(2), order(3, { key: "key 1" }), order(4, { key: "key 2" }))
      yield* deliver(...Array.from({ length: 50 }, (_, i) => order(i + 5, { key: `key ${i % 5 + 3}` })))
      yield* settled
      assert.deepStrictEqual(log, Array.from({ length: 50 }, (_, i) => `ack ${i + 5}`))
    }))

  it.effect("a key with many messages takes turns with the others", () =>
    Effect.gen(function*() {
      const { deliver, log } = yield* setup({}, () => Effect.void)
      yield* deliver(...[1, 2, 3].map((n) => order(n, { key: "busy" })), order(4), order(5))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1", "ack 4", "ack 5", "ack 2", "ack 3"])
    }))

  for (const concurrency of [1, 3]) {
    it.effect(`no more than ${concurrency} at once, of messages without a key too`, () =>
      Effect.gen(function*() {
        let running = 0
        const { deliver, log } = yield* setup(
          { concurrency },
          () =>
            Effect.andThen(Effect.sync(() => running++), Effect.sleep(10)).pipe(
              Effect.ensuring(Effect.sync(() => running--))
            )
        )
        yield* deliver(...Array.from({ length: 7 }, (_, n) => order(n, { key: undefined })))
        for (const done of [0, concurrency]) {
          yield* settled
          assert.deepStrictEqual([running, log.length], [concurrency, done])
          yield* adjust(10)
        }
        yield* adjust(100)
        assert.strictEqual(log.length, 7)
      }))
  }

  it.effect("takes 16 messages for each of concurrency, or as many as maxInFlight says", () =>
    Effect.gen(function*() {
      const of = (options: SetupOptions) =>
        Effect.map(setup(options, () => Effect.void), ({ subscriber }) => subscriber.subscriptions[0]?.maxInFlight)
      assert.deepStrictEqual(
        [yield* of({}), yield* of({ concurrency: 4 }), yield* of({ concurrency: 4, maxInFlight: 5 })],
        [16, 64, 5]
      )
    }))

  for (const option of ["concurrency", "maxInFlight"]) {
    for (const value of [0, -1, 1.5, NaN, Infinity]) {
      it.effect(`${option} of ${value} is an error at once: nothing would be consumed`, () =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(setup({ [option]: value }, () => Effect.void))
          assert(error instanceof Settings.InvalidSetting)
          assert.deepStrictEqual([error.settings, error.field], ["EventConsumer", option])
          assert.include(error.detail, "a whole number from 1")
        }))
    }
  }

  it.effect("a drainTimeout that is no duration is an error at once", () =>
    Effect.gen(function*() {
      for (const drainTimeout of [-1, NaN]) {
        const error = yield* Effect.flip(setup({ drainTimeout }, () => Effect.void))
        assert(error instanceof Settings.InvalidSetting && error.field === "drainTimeout")
      }
    }))

  it.effect("with the memory broker, no more than maxInFlight are taken from the group", () =>
    Effect.gen(function*() {
      yield* open(consumer(() => Effect.never, { concurrency: 10, maxInFlight: 3 }))
      const { publish } = yield* Broker.Broker
      yield* publish([order(1), order(2), order(3), order(4), order(5)])
      yield* settled
      const subscriber = yield* Subscriber.Subscriber
      const other = yield* subscriber.subscribe({ topics: ["orders"], group: "group", maxInFlight: 10 })
      assert.deepStrictEqual((yield* other.take).map(({ message }) => bodyOf(message)), [{ n: 4 }, { n: 5 }])
    }).pipe(Effect.provide(MemoryBroker.layer())))
})
