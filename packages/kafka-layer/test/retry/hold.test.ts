/** Without a broker: how retry topics are named and chosen, and how their messages are held back. */
import { assert, describe, it } from "@effect/vitest"
import type { Subscriber } from "@event-flow/core"
import {
  Broker,
  BrokerLayer,
  ConsumerPolicy,
  EventHandler,
  Message,
  NotificationEvent,
  Settings
} from "@event-flow/core"
import { KafkaRetry } from "@event-flow/kafka-layer"
import { Clock, Duration, Effect, type Fiber, FiberSet, Layer, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { AssignedPartition } from "../../src/internal/consume/assignedPartition.ts"
import { Alarm } from "../../src/internal/retry/alarm.ts"
import { Hold } from "../../src/internal/retry/hold.ts"
import { recordOf, startAt } from "../support/record.ts"

const postponed = (fields: Partial<BrokerLayer.RetryHeaders> = {}): BrokerLayer.RetryHeaders => ({
  group: "g",
  step: 1,
  due: 0,
  attempts: 1,
  topic: "t",
  reason: "HandlerFailed",
  error: "no",
  origin: { partition: "3", offset: "42" },
  ...fields
})

const message = (topic: string, headers: Message.Message["headers"] = {}): Message.Message =>
  Message.make({ topic, headers, body: new Uint8Array() })

const failed = (headers: Message.Message["headers"] = {}): ConsumerPolicy.Failure => ({
  _tag: "HandlerFailed",
  message: message("t", headers),
  event: {} as never,
  error: {} as never
})

describe("the policy", () => {
  const retry = KafkaRetry.make({ group: "g", delays: ["5 seconds", "1 minute"], otherwise: ConsumerPolicy.skip })
  const decide = retry["~policy"]

  it("postpones by one delay after the other, then does otherwise", () => {
    const first = { _tag: "Postpone", topic: "t.g.retry.1", step: 1, delay: Duration.seconds(5) } as const
    assert.deepStrictEqual(decide(failed()), first)
    assert.deepStrictEqual(decide(failed(BrokerLayer.encodeRetry(postponed({ step: 1 })))), {
      ...first,
      topic: "t.g.retry.2",
      step: 2,
      delay: Duration.minutes(1)
    })
    assert.deepStrictEqual(decide(failed(BrokerLayer.encodeRetry(postponed({ step: 2 })))), ConsumerPolicy.skip)
    // What another group did is none of its business
    assert.deepStrictEqual(decide(failed(BrokerLayer.encodeRetry(postponed({ group: "h", step: 2 })))), first)
  })

  it("leaves alone what cannot be decoded, and defects", () => {
    for (const _tag of ["Undecodable", "HandlerDied"] as const) {
      assert.deepStrictEqual(decide({ ...failed(), _tag } as ConsumerPolicy.Failure), ConsumerPolicy.skip)
    }
    const byDefault = KafkaRetry.make({ group: "g", delays: ["1 second"] })["~policy"]
    assert.deepStrictEqual(
      byDefault({ ...failed(), _tag: "HandlerDied" } as ConsumerPolicy.Failure),
      ConsumerPolicy.deadLetter()
    )
  })

  it("retries in place first, if told to", () => {
    const inPlace = Schedule.recurs(2)
    const decision = KafkaRetry.make({ group: "g", delays: ["1 second"], inPlace })["~policy"](failed())
    assert.deepStrictEqual(
      decision,
      ConsumerPolicy.retry(inPlace, ConsumerPolicy.postpone({ topic: "t.g.retry.1", step: 1, delay: "1 second" }))
    )
  })

  it("refuses delays that are none", () => {
    for (const delay of ["Infinity", -1, 0, Number.NaN, "soon" as never] as const) {
      try {
        KafkaRetry.make({ group: "g", delays: ["1 second", delay] })
        assert.fail(`took ${delay}`)
      } catch (error) {
        assert.instanceOf(error, Settings.InvalidSetting)
        assert.strictEqual(error.settings, "KafkaRetry")
        assert.strictEqual(error.field, "delays[1]")
        assert.match(error.detail, /a duration of at least 1ms/)
      }
    }
  })
})

describe("retry topics", () => {
  const specs = (retry: KafkaRetry.KafkaRetry, options?: Parameters<typeof KafkaRetry.specs>[2]) =>
    KafkaRetry.specs(retry, ["a", "b"], options)

  it("are named for topic, group and step, in characters that Kafka takes", () => {
    const retry = KafkaRetry.make({ group: "my group/1", delays: ["1 second", "2 seconds"] })
    assert.deepStrictEqual(retry.topicsOf("t"), [
      { topic: "t.my_group_1.retry.1", source: "t", delay: 1_000 },
      { topic: "t.my_group_1.retry.2", source: "t", delay: 2_000 }
    ])
  })

  it("keep messages for longer than they wait, whatever their keys", () => {
    const retry = KafkaRetry.make({ group: "g", delays: ["1 second", "3 days"] })
    const created = specs(retry, { partitions: 3, retention: "1 day", settings: { "cleanup.policy": "compact" } })
    assert.deepStrictEqual(
      created.map(({ topic }) => topic),
      ["a", "b"].flatMap((t) => [1, 2].map((n) => `${t}.g.retry.${n}`))
    )
    assert.deepStrictEqual(
      created.map(({ retention }) => Duration.toHours(retention as Duration.Duration)),
      [24, 144, 24, 144]
    )
    for (const { partitions, settings } of created) {
      assert.strictEqual(partitions, 3)
      assert.deepStrictEqual(settings, { "cleanup.policy": "delete" })
    }
    assert.isUndefined(specs(retry)[0]!.retention)
    const shared = KafkaRetry.make({ group: "g", delays: ["1 second"], topicName: ({ step }) => `retry.${step}` })
    assert.strictEqual(specs(shared).length, 1)
  })

  const subscribed: Array<KafkaRetry.SubscribeOptions> = []
  const subscribe = (
    options: Partial<KafkaRetry.Options>,
    topics: readonly [string, ...Array<string>] = ["a", "b"]
  ) => {
    class Note extends NotificationEvent.Class<Note>()("Note", {}, { topic: "a" }) {}
    const Handle = EventHandler.make("Handle", { on: Note })
    return KafkaRetry.layer(KafkaRetry.make({ group: "g", delays: ["1 second", "2 seconds"], ...options }), [Handle], {
      topics
    })
      .pipe(
        Layer.provide([
          Handle.toLayer(() => Effect.void),
          Broker.layerNone,
          Layer.succeed(KafkaRetry.RetrySubscriber)({
            subscribe: (options) =>
              Effect.sync((): Subscriber.Subscription => {
                subscribed.push(options)
                return { take: Effect.never, onRevoked: () => Effect.void }
              })
          })
        ]),
        Layer.build,
        Effect.scoped
      )
  }

  it.effect("are subscribed to, each once", () =>
    Effect.gen(function*() {
      yield* subscribe({ topicName: ({ step }) => `retry.${step}` })
      assert.deepStrictEqual(subscribed, [{
        topics: ["a", "b"],
        group: "g",
        ephemeral: false,
        maxInFlight: 16,
        concurrency: 1,
        retryTopics: [{ topic: "retry.1", source: "a", delay: 1_000 }, { topic: "retry.2", source: "a", delay: 2_000 }]
      }])
    }))

  it.effect("must have names, of their own, that Kafka takes", () =>
    Effect.gen(function*() {
      for (
        const [topicName, detail] of [
          [({ step }: KafkaRetry.Step) => `no good ${step}`, /"no good 1" cannot be the name/],
          [({ step }: KafkaRetry.Step) => `${step}${"x".repeat(249)}`, /cannot be the name/],
          [() => "retry", /"retry" is the retry topic of two delays/],
          [({ topic }: KafkaRetry.Step) => topic, /"a" is a retry topic and a topic of the consumer/]
        ] as const
      ) {
        const error = yield* Effect.flip(subscribe({ topicName }))
        assert.strictEqual(error._tag, "SubscribeError")
        assert.match(error.message, detail)
      }
    }))
})

describe("a partition of a retry topic", () => {
  const setup = () => {
    const clock = { now: 1_000 }
    const held: Array<number> = []
    const hold = new Hold({
      group: "g",
      source: "t",
      delay: 500,
      now: () => clock.now,
      onHeld: (until) => held.push(until)
    })
    const partition = new AssignedPartition("t.g.retry.1", 0, startAt(0), {
      maxBuffered: 3,
      maxUncommitted: 100,
      patience: 10_000
    }, {
      onReturned: () => undefined,
      onBlocked: () => undefined
    }, hold)
    const append = (offset: number, headers: Readonly<Record<string, string>>) => {
      partition.append(offset, recordOf({ headers }))
      partition.position = offset + 1
    }
    const wait = (offset: number, fields: Partial<BrokerLayer.RetryHeaders>) =>
      append(offset, BrokerLayer.encodeRetry(postponed(fields)))
    const take = (): Array<Subscriber.Delivery> => {
      const deliveries: Array<Subscriber.Delivery> = []
      partition.take(100, deliveries)
      return deliveries
    }
    return { append, clock, held, hold, partition, take, wait }
  }

  it("delivers nothing before it is due, and commits nothing beyond it", () => {
    const { clock, held, hold, partition, take, wait } = setup()
    wait(0, { due: 1_100 })
    wait(1, { due: 1_100 })
    wait(2, { due: 1_300 })
    assert.deepStrictEqual(take(), [])
    assert.deepStrictEqual(held, [1_100])
    assert.strictEqual(hold.until, 1_100)
    assert.strictEqual(partition.donePosition, 0)
    assert.strictEqual(partition.outstanding, 0)
    assert.isFalse(partition.hasRoom, "no more than that is fetched")
    clock.now = 1_099
    assert.deepStrictEqual(take(), [])
    clock.now = 1_100
    const due = take()
    assert.strictEqual(due.length, 2)
    assert.deepStrictEqual(held.at(-1), 1_300)
    for (const delivery of due) Effect.runSync(delivery.ack)
    assert.strictEqual(partition.donePosition, 2)
    clock.now = 1_300
    assert.strictEqual(take().length, 1)
    assert.isUndefined(hold.until)
  })

  it("gives messages the look of their first topic", () => {
    const { append, take, wait } = setup()
    wait(7, { due: 0 })
    append(8, { by: "hand" })
    const [first, second] = take()
    assert.strictEqual(first!.message.topic, "t")
    assert.deepStrictEqual(first!.origin, { topic: "t", partition: "3", offset: "42" })
    assert.strictEqual(second!.message.topic, "t")
    assert.deepStrictEqual(second!.origin, { topic: "t.g.retry.1", partition: "0", offset: "8" })
  })

  it("passes over what waits for another group", () => {
    const { partition, take, wait } = setup()
    wait(0, { group: "h" })
    assert.deepStrictEqual(take(), [])
    assert.strictEqual(partition.donePosition, 1)
  })

  it("waits no longer than the delay, whatever a clock said", () => {
    const { clock, held, take, wait } = setup()
    wait(0, { due: 99_999 })
    assert.deepStrictEqual(take(), [])
    assert.deepStrictEqual(held, [1_500])
    // This machine's clock is set back
    clock.now = 100
    assert.deepStrictEqual(take(), [])
    assert.deepStrictEqual(held, [1_500, 600])
    clock.now = 600
    assert.strictEqual(take().length, 1)
  })

  it("lets go of what it holds when it is revoked", () => {
    const { clock, hold, partition, take, wait } = setup()
    wait(0, { due: 1_100 })
    take()
    partition.revoke()
    assert.isUndefined(hold.until)
    clock.now = 2_000
    assert.deepStrictEqual(take(), [])
    assert.strictEqual(partition.donePosition, 0)
  })
})

describe("the alarm", () => {
  it.effect("rings at the earliest time that it was set to", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const rung: Array<number> = []
      const fork = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
      const fibers: Array<Fiber.Fiber<void>> = []
      const alarm = new Alarm(clock, (effect) => {
        const fiber = fork(effect)
        fibers.push(fiber)
        return fiber
      }, () => rung.push(clock.currentTimeMillisUnsafe()))
      alarm.set(500)
      alarm.set(300)
      alarm.set(400)
      assert.strictEqual(fibers.length, 2)
      yield* TestClock.adjust(299)
      assert.deepStrictEqual(rung, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(rung, [300])
      // The later ones are set again by whoever still waits for them
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual(rung, [300])
      alarm.set(1_200)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(rung, [300, 1_301])
      assert.isDefined(fibers[0]!.pollUnsafe())
    }))

  it.effect("looks at the clock again now and then", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let rung = 0
      const fork = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
      new Alarm(clock, fork, () => rung++).set(Duration.toMillis("30 days"))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(rung, 1)
    }))
})
