/** The memory broker: what every broker promises, then what this one adds. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  EventConsumer,
  EventFlow,
  EventHandler,
  MemoryBroker,
  Message,
  NotificationEvent,
  Subscriber
} from "@event-flow/core"
import { brokerSuite } from "@event-flow/core/testing"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Logger, References, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { bodyOf, open } from "./fixtures.ts"

const suite = brokerSuite("memory", MemoryBroker.layer(), {
  persistentTopics: true,
  oldMessagesForNewGroups: true,
  onePerKey: true,
  countsAttempts: true,
  binaryKeys: true
})

describe(suite.name, () => {
  for (const { name, run } of suite.cases) it.live(name, () => run)
  for (const { name, reason } of suite.skipped) it.skip(`${name} (${reason})`)
})

const message = (n: number, options: { readonly key?: string; readonly topic?: string } = {}): Message.Message =>
  Message.make({ topic: "topic", ...options, body: new TextEncoder().encode(String(n)) })

/** One publish of these numbers. */
const publish = (
  numbers: ReadonlyArray<number>,
  options?: { readonly key?: string; readonly topic?: string }
): Effect.Effect<void, Broker.BrokerNotFound | Broker.PublishError, Broker.Broker> =>
  Broker.Broker.use(({ publish }) => {
    const [first, ...rest] = numbers.map((n) => message(n, options))
    return publish([first!, ...rest])
  })

const subscribe = (options: Partial<Subscriber.SubscribeOptions> = {}) =>
  Effect.gen(function*() {
    const { subscribe } = yield* Subscriber.Subscriber
    const scope = yield* Scope.fork(yield* Effect.scope)
    const { take } = yield* Scope.provide(
      subscribe({ topics: ["topic"], group: "group", maxInFlight: 100, ...options }),
      scope
    )
    return { take, close: Scope.close(scope, Exit.void) }
  })

const numbers = (deliveries: ReadonlyArray<Subscriber.Delivery>): ReadonlyArray<unknown> =>
  deliveries.map(({ message }) => bodyOf(message))

const ackAll = (deliveries: ReadonlyArray<Subscriber.Delivery>): Effect.Effect<void> =>
  Effect.forEach(deliveries, ({ ack }) => ack, { discard: true })

/** Starts an effect and lets everything settle. */
const started = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.tap(Effect.forkChild(effect, { startImmediately: true }), () => TestClock.adjust(0))

const reasonOf = (exit: Exit.Exit<unknown, unknown>): string => {
  const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  if (error instanceof Broker.PublishError) return error.reason._tag
  return error instanceof Subscriber.SubscribeError ? error.reason._tag : String(exit)
}

const stored = (topic = "topic") =>
  Effect.map(MemoryBroker.MemoryBroker.use(({ messages }) => messages(topic)), (list) => list.map(bodyOf))

const pending = MemoryBroker.MemoryBroker.use(({ pending }) => pending)

describe("capacity", () => {
  it.effect(
    "a publish waits while a group is full, and goes on as messages are acknowledged",
    () =>
      Effect.gen(function*() {
        const { take } = yield* subscribe()
        yield* publish([1, 2])
        const waiting = yield* started(publish([3, 4, 5]))
        assert.isUndefined(waiting.pollUnsafe())
        const [one, two] = yield* take
        yield* one!.ack
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(numbers(yield* take), [3])
        yield* two!.nack
        yield* TestClock.adjust(0)
        assert.isUndefined(waiting.pollUnsafe())
        const handled: Array<unknown> = []
        while (handled.length < 3) {
          const deliveries = yield* take
          handled.push(...numbers(deliveries))
          yield* ackAll(deliveries)
        }
        assert.deepStrictEqual(handled, [2, 4, 5])
        yield* Fiber.join(waiting)
      }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))),
    5_000
  )

  it.effect("a batch larger than the capacity is consumed while it is published", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      const handled: Array<unknown> = []
      yield* started(Effect.forever(Effect.tap(take, (deliveries) => {
        handled.push(...numbers(deliveries))
        return ackAll(deliveries)
      })))
      yield* publish([1, 2, 3, 4, 5, 6, 7])
      yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
      assert.deepStrictEqual(handled, [1, 2, 3, 4, 5, 6, 7])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))))

  it.effect("a topic without a group rejects what it cannot keep", () =>
    Effect.gen(function*() {
      yield* publish([1, 2])
      assert.strictEqual(reasonOf(yield* Effect.exit(publish([3]))), "Rejected")
      const { take } = yield* subscribe()
      assert.deepStrictEqual(numbers(yield* take), [1, 2])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))))

  it.effect("a full group without a consumer rejects, for nobody would make room", () =>
    Effect.gen(function*() {
      const { close } = yield* subscribe()
      yield* close
      yield* publish([1, 2])
      assert.strictEqual(reasonOf(yield* Effect.exit(publish([3]))), "Rejected")
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))))

  it.effect("what precedes a rejected message in its batch is delivered", () =>
    Effect.gen(function*() {
      yield* publish([1, 2], { topic: "full" })
      const { take } = yield* subscribe()
      const taking = yield* started(take)
      const { publish: publishAll } = yield* Broker.Broker
      assert.strictEqual(
        reasonOf(yield* Effect.exit(publishAll([message(1), message(3, { topic: "full" })]))),
        "Rejected"
      )
      assert.deepStrictEqual(numbers(yield* Fiber.join(taking)), [1])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))), 5_000)

  it.effect("a publish that waits is rejected when the last consumer leaves", () =>
    Effect.gen(function*() {
      const { close } = yield* subscribe()
      const waiting = yield* started(publish([1, 2, 3]))
      yield* close
      assert.strictEqual(reasonOf(yield* Fiber.await(waiting)), "Rejected")
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))), 5_000)
})

describe("a handler that publishes to its own consumer", () => {
  class Step extends NotificationEvent.Class<Step>()("Step", { n: Schema.Int }, { topic: "steps" }) {}
  class Other extends NotificationEvent.Class<Other>()("Other", { n: Schema.Int }, { topic: "others" }) {}
  const OnStep = EventHandler.make("OnStep", { on: Step, emits: [Step, Other] })
  const OnOther = EventHandler.make("OnOther", { on: Other })

  const encoded = (type: string, n: number) =>
    Message.make({
      topic: type === "Step" ? "steps" : "others",
      attributes: { id: `${type} ${n}`, type: `${type}.v1` },
      body: new TextEncoder().encode(JSON.stringify({ n }))
    })

  const setup = (
    handle: (event: Step) => ReadonlyArray<Step | Other>,
    onOther: (event: Other) => Effect.Effect<void> = () => Effect.void
  ) =>
    Effect.gen(function*() {
      const handled: Array<number> = []
      const failures: Array<string> = []
      const group = EventConsumer.layer({
        group: "group",
        policy: (failure) => {
          failures.push(failure._tag === "HandlerFailed" ? failure.error.message : failure._tag)
          return ConsumerPolicy.skip
        }
      })
      yield* open(
        group.pipe(
          Layer.provide(EventFlow.layer({ handlers: [OnStep, OnOther] })),
          Layer.provide([
            OnStep.toLayer((event, { collectAll }) =>
              Effect.andThen(Effect.sync(() => handled.push(event.n)), collectAll(handle(event)))
            ),
            OnOther.toLayer(onOther),
            Logger.layer([])
          ])
        )
      )
      const { publish } = yield* Broker.Broker
      return { failures, handled, publish }
    })

  it.effect("does not wait for the room that only its own end can make", () =>
    Effect.gen(function*() {
      const { failures, handled, publish } = yield* setup(({ n }) => n < 10 ? [new Step({ n: n + 1 })] : [])
      // Publishers that fill whatever room there is
      const publishers = yield* started(
        Effect.forEach([9, 9, 9, 9], (n) => publish([encoded("Step", n)]), { discard: true })
      )
      yield* publish([encoded("Step", 1)])
      yield* TestClock.adjust(0)
      yield* Fiber.join(publishers)
      assert.deepStrictEqual(failures, [])
      assert.strictEqual(handled.length, 10 + 4 * 2)
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 2 }))), 5_000)

  it.effect("so it is to another topic of the same consumer", () =>
    Effect.gen(function*() {
      const { failures, publish } = yield* setup(({ n }) => [new Other({ n }), new Other({ n })])
      yield* publish([encoded("Step", 1)])
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(failures, [])
      assert.deepStrictEqual(yield* stored("others"), [{ n: 1 }, { n: 1 }])
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 1 }))), 5_000)

  it.effect("one that makes more and more of them fails: memory is bounded", () =>
    Effect.gen(function*() {
      const { failures, publish } = yield* setup(({ n }) =>
        n > 8 ? [] : [new Step({ n: n + 1 }), new Step({ n: n + 1 })]
      )
      yield* publish([encoded("Step", 1)])
      yield* TestClock.adjust(0)
      assert.include(
        failures[0],
        `group "group" has 8 messages outstanding, and its own consumer publishes more: raise capacity`
      )
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 4 }))), 5_000)

  it.effect("waits for another consumer as everybody does", () =>
    Effect.gen(function*() {
      const { failures, handled, publish } = yield* setup(({ n }) => [new Other({ n })])
      const slow = yield* subscribe({ topics: ["others"], group: "slow" })
      const publishing = yield* started(publish([encoded("Step", 1), encoded("Step", 2), encoded("Step", 3)]))
      assert.deepStrictEqual([handled, yield* stored("others")], [[1, 2], [{ n: 1 }]])
      yield* ackAll(yield* slow.take)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([handled, yield* stored("others")], [[1, 2, 3], [{ n: 1 }, { n: 2 }]])
      yield* ackAll(yield* slow.take)
      yield* ackAll(yield* slow.take)
      yield* Fiber.join(publishing)
      assert.deepStrictEqual(failures, [])
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 1 }))), 5_000)
})

describe("retention", () => {
  it.effect("keeps the newest of what every group has acknowledged, for groups to come", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1, 2, 3, 4, 5])
      assert.deepStrictEqual(yield* stored(), [1, 2, 3, 4, 5])
      yield* ackAll(yield* take)
      assert.deepStrictEqual(yield* stored(), [3, 4, 5])
      yield* publish([6])
      const late = yield* subscribe({ group: "late" })
      yield* ackAll(yield* take)
      yield* publish([7])
      assert.deepStrictEqual(numbers(yield* late.take), [4, 5, 6, 7], "what a group has before it is kept for it")
      assert.deepStrictEqual(yield* stored(), [4, 5, 6, 7])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 3 }))))

  it.effect("keeps whatever a group has not acknowledged", () =>
    Effect.gen(function*() {
      const slow = yield* subscribe({ group: "slow" })
      const { take } = yield* subscribe()
      yield* publish([1, 2, 3])
      yield* ackAll(yield* take)
      assert.deepStrictEqual(yield* stored(), [1, 2, 3])
      yield* ackAll(yield* slow.take)
      assert.deepStrictEqual(yield* stored(), [])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 0 }))))
})

describe("one message that stays unsettled", () => {
  it.effect("keeps nothing but itself: what is settled behind it goes by its own age", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1])
      const [stuck] = yield* take
      for (let n = 2; n <= 50; n++) {
        yield* publish([n])
        yield* ackAll(yield* take)
      }
      assert.deepStrictEqual(yield* stored(), [1, 49, 50])
      const late = yield* subscribe({ group: "late" })
      assert.deepStrictEqual(numbers(yield* late.take), [1, 49, 50])
      yield* stuck!.nack
      assert.deepStrictEqual(numbers(yield* take), [1])
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 3 }))))

  it.effect("whatever the order of acknowledgements, the oldest settled ones go first", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1, 2, 3, 4, 5, 6])
      const deliveries = yield* take
      const ackOf = (...list: ReadonlyArray<number>) => ackAll(list.map((n) => deliveries[n - 1]!))
      yield* ackOf(5, 3, 6, 2)
      assert.deepStrictEqual(yield* stored(), [1, 2, 3, 4, 6])
      yield* publish([7, 8])
      assert.deepStrictEqual(yield* stored(), [1, 4, 6, 7, 8])
      yield* ackOf(1)
      yield* publish([9])
      assert.deepStrictEqual(yield* stored(), [4, 6, 7, 8, 9])
      yield* publish([10, 11])
      assert.deepStrictEqual(yield* stored(), [4, 7, 8, 9, 10, 11], "what is not settled is kept")
    }).pipe(Effect.provide(MemoryBroker.layer({ retention: 5 }))))
})

describe("awaitIdle", () => {
  it.effect("waits until no group has a message outstanding", () =>
    Effect.gen(function*() {
      const first = yield* subscribe({ group: "first" })
      const second = yield* subscribe({ group: "second" })
      yield* publish([1, 2])
      assert.strictEqual(yield* pending, 4)
      const idle = yield* started(MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle))
      yield* ackAll(yield* first.take)
      const [one, two] = yield* second.take
      yield* one!.nack
      yield* two!.ack
      yield* TestClock.adjust(0)
      assert.isUndefined(idle.pollUnsafe())
      assert.strictEqual(yield* pending, 1)
      yield* ackAll(yield* second.take)
      yield* Fiber.join(idle)
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("counts what a new group has before it", () =>
    Effect.gen(function*() {
      yield* publish([1, 2])
      assert.strictEqual(yield* pending, 0)
      yield* subscribe()
      yield* subscribe()
      assert.strictEqual(yield* pending, 2)
    }).pipe(Effect.provide(MemoryBroker.layer())))
})

describe("deliveries", () => {
  it.effect("messages of a key one at a time, others at once", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1, 2, 3], { key: "a" })
      yield* publish([4, 5], { key: "b" })
      yield* publish([6, 7])
      const [one, ...others] = yield* take
      assert.deepStrictEqual(numbers([one!, ...others]), [1, 4, 6, 7])
      yield* ackAll(others)
      assert.deepStrictEqual(numbers(yield* take), [5])
      yield* one!.ack
      assert.deepStrictEqual(numbers(yield* take), [2])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("what is not acknowledged comes before what is behind it, and says how often it came", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe({ maxInFlight: 2 })
      yield* publish([1, 2, 3])
      const [one, two] = yield* take
      yield* two!.nack
      yield* one!.nack
      const again = yield* take
      assert.deepStrictEqual(numbers(again), [1, 2])
      assert.deepStrictEqual(again.map(({ attempt }) => attempt), [2, 2])
      yield* again[0]!.nack
      const [third] = yield* take
      assert.deepStrictEqual([bodyOf(third!.message), third!.attempt], [1, 3])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("a subscription that closes gives back in order what it has, to whoever waits", () =>
    Effect.gen(function*() {
      const { close, take } = yield* subscribe()
      yield* publish([1, 2, 3, 4])
      const [, two] = yield* take
      yield* two!.ack
      const other = yield* subscribe()
      const waiting = yield* started(other.take)
      assert.isUndefined(waiting.pollUnsafe())
      yield* close
      const back = yield* Fiber.join(waiting)
      assert.deepStrictEqual(numbers(back), [1, 3, 4])
      assert.deepStrictEqual(back.map(({ attempt }) => attempt), [2, 2, 2])
      assert.isTrue(two!.isRevoked())
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("a closed subscription takes nothing more, one that waits included", () =>
    Effect.gen(function*() {
      const { close, take } = yield* subscribe({ maxInFlight: 1 })
      yield* publish([1, 2])
      yield* take
      const waiting = yield* started(Effect.exit(take))
      yield* close
      assert.strictEqual(reasonOf(yield* Fiber.join(waiting)), "Closed")
      assert.strictEqual(reasonOf(yield* Effect.exit(take)), "Closed")
      const other = yield* subscribe()
      assert.deepStrictEqual(numbers(yield* other.take), [1, 2])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("topics take turns", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe({ topics: ["a", "b"], maxInFlight: 1 })
      yield* publish([1, 2, 3], { topic: "a" })
      yield* publish([4, 5, 6], { topic: "b" })
      const order: Array<unknown> = []
      while (order.length < 6) {
        const deliveries = yield* take
        order.push(...numbers(deliveries))
        yield* ackAll(deliveries)
      }
      assert.deepStrictEqual(order, [1, 4, 2, 5, 3, 6])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("say where they come from", () =>
    Effect.gen(function*() {
      const { take } = yield* subscribe()
      yield* publish([1])
      yield* publish([2], { key: "key" })
      const deliveries = yield* take
      assert.deepStrictEqual(deliveries.map(({ lane, origin }) => ({ lane, origin })), [
        { lane: undefined, origin: { topic: "topic", offset: "0" } },
        { lane: "topic/key", origin: { topic: "topic", offset: "1" } }
      ])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  // A fiber may yield between any two steps; what happens then must not go unnoticed
  it.effect("no wake-up is missed, wherever a fiber yields", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops <= 30; ops++) {
        const done = yield* Deferred.make<void>()
        const topic = `topic-${ops}`
        const { take } = yield* subscribe({ topics: [topic] })
        let handled = 0
        const consumer = yield* take.pipe(
          Effect.tap((deliveries) => {
            handled += deliveries.length
            return handled === 10
              ? Effect.andThen(ackAll(deliveries), Deferred.succeed(done, undefined))
              : ackAll(deliveries)
          }),
          Effect.forever,
          Effect.provideService(References.MaxOpsBeforeYield, ops),
          Effect.forkChild
        )
        for (let n = 1; n <= 10; n++) {
          yield* Effect.provideService(publish([n], { topic }), References.MaxOpsBeforeYield, 33 - ops)
        }
        yield* Deferred.await(done)
        yield* Fiber.interrupt(consumer)
      }
    }).pipe(Effect.provide(MemoryBroker.layer({ capacity: 1 }))), 5_000)
})

describe("the end of the layer", () => {
  it.effect("publishing, subscribing and taking fail, those that wait included", () =>
    Effect.gen(function*() {
      const { close, context } = yield* open(MemoryBroker.layer({ capacity: 1 }))
      yield* Effect.gen(function*() {
        const { take } = yield* subscribe()
        const idle = yield* subscribe({ topics: ["idle"] })
        yield* publish([1])
        const publishing = yield* started(publish([2]))
        const taking = yield* started(idle.take)
        yield* close
        const exits = [
          yield* Fiber.await(publishing),
          yield* Fiber.await(taking),
          yield* Effect.exit(publish([3])),
          yield* Effect.exit(take),
          yield* Effect.exit(subscribe())
        ]
        assert.deepStrictEqual(exits.map(reasonOf), ["Closed", "Closed", "Closed", "Closed", "Closed"])
      }).pipe(Effect.provide(context))
    }), 5_000)
})
