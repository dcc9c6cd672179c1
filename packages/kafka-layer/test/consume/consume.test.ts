import { assert } from "@effect/vitest"
import { Broker, Message, Subscriber } from "@event-flow/core"
import { KafkaHealth } from "@event-flow/kafka-layer"
import { Producer } from "@platformatic/kafka"
import { Effect, Fiber, Result } from "effect"
import {
  broker,
  committed,
  consume,
  createTopic,
  eventually,
  live,
  numberOf,
  publishNumbered,
  servers,
  subscriber,
  Tally,
  unique,
  withAdmin,
  withServer
} from "../support/kafka.ts"

const total = (offsets: ReadonlyMap<number, number>): number => {
  let sum = 0
  for (const offset of offsets.values()) sum += Math.max(0, offset)
  return sum
}

withServer("KafkaSubscriber", () => {
  live("delivers all, in order per key, and commits", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("all")
      const group = unique("all")
      const tally = new Tally()
      yield* consume({ topics: [topic], group, maxInFlight: 50 }, (delivery) =>
        Effect.andThen(Effect.yieldNow, Effect.sync(() => tally.add(delivery))))
      yield* publishNumbered(topic, 5_000, { keys: 97 })
      yield* tally.reached(5_000)
      assert.strictEqual(tally.outOfOrder, 0)
      assert.strictEqual(tally.duplicated, 0)
      yield* eventually(
        "all is committed",
        Effect.map(committed(group, topic), (offsets) =>
          total(offsets) === 5_000)
      )
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("tells lanes by topic, partition and key; headers and attributes apart", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("lanes", 1)
      const { publish } = yield* Broker.Broker
      yield* publish([
        Message.make({
          topic,
          key: "a",
          attributes: { id: "1", type: "T.v1" },
          headers: { x: "y" },
          body: Buffer.from("1")
        }),
        Message.make({ topic, body: Buffer.from("2") }),
        Message.make({ topic, key: new Uint8Array([0xff]), body: Buffer.from("") })
      ])
      const service = yield* Subscriber.Subscriber
      const subscription = yield* service.subscribe({ topics: [topic], group: unique("lanes"), maxInFlight: 10 })
      const deliveries = yield* takeAtLeast(subscription, 3)
      assert.strictEqual(deliveries[0]!.lane, `${topic}/0/a`)
      assert.deepStrictEqual({ ...deliveries[0]!.message.attributes }, { id: "1", type: "T.v1" })
      assert.deepStrictEqual({ ...deliveries[0]!.message.headers }, { x: "y" })
      assert.deepStrictEqual(deliveries[0]!.origin, { topic, partition: "0", offset: "0" })
      assert.isUndefined(deliveries[1]!.message.key)
      assert.isUndefined(deliveries[1]!.lane)
      assert.deepStrictEqual([...deliveries[2]!.message.key as Uint8Array], [0xff])
      assert.strictEqual(deliveries[2]!.message.body!.length, 0)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("hands out no more than maxInFlight, and no more memory than its bounds", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("bounded", 2)
      yield* publishNumbered(topic, 20_000, { keys: 500, concurrency: 2_000 })
      const service = yield* Subscriber.Subscriber
      const subscription = yield* service.subscribe({ topics: [topic], group: unique("bounded"), maxInFlight: 20 })
      const first = yield* takeAtLeast(subscription, 20)
      assert.strictEqual(first.length, 20)
      const more = yield* Effect.forkChild(subscription.take)
      yield* Effect.sleep(300)
      assert.isUndefined(more.pollUnsafe())
      // A fetch brings at most 16 KiB of a partition, about 100 of these messages
      const health = yield* KafkaHealth.KafkaHealth.use((health) => health.subscriptions)
      assert.strictEqual(health[0]!.partitions.reduce((sum, { inFlight }) => sum + inFlight, 0), 20)
      yield* first[0]!.ack
      assert.strictEqual((yield* Fiber.join(more)).length, 1)
    }).pipe(
      Effect.scoped,
      Effect.provide([broker(), subscriber({ maxBytesPerPartition: 16 * 1024, maxBufferedPerPartition: 10 })])
    ))

  live(
    "redelivers what is given back, before the rest of its lane, without committing it",
    () =>
      Effect.gen(function*() {
        const topic = yield* createTopic("nack", 1)
        const group = unique("nack")
        yield* publishNumbered(topic, 100, { keys: 5, concurrency: 1 })
        const tally = new Tally()
        const attempts = new Map<number, number>()
        const service = yield* Subscriber.Subscriber
        const subscription = yield* service.subscribe({ topics: [topic], group, maxInFlight: 10 })
        let failed = 0
        while (tally.distinct < 100) {
          for (const delivery of yield* subscription.take) {
            if (delivery.isRevoked()) {
              yield* delivery.nack
              continue
            }
            const number = numberOf(delivery.message)
            attempts.set(number, delivery.attempt)
            // Every tenth fails twice
            if (number % 10 === 0 && delivery.attempt < 3) {
              failed++
              yield* delivery.nack
            } else {
              tally.add(delivery)
              yield* delivery.ack
            }
          }
        }
        assert.strictEqual(failed, 20)
        assert.strictEqual(tally.outOfOrder, 0)
        assert.strictEqual(tally.duplicated, 0)
        assert.strictEqual(attempts.get(50), 3)
        yield* eventually("all is committed", Effect.map(committed(group, topic), (offsets) => total(offsets) === 100))
      }).pipe(Effect.scoped, Effect.provide([broker(), subscriber({ redeliveryDelay: "10 millis" })]))
  )

  live("commits nothing beyond what is unacknowledged", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("prefix", 1)
      const group = unique("prefix")
      yield* publishNumbered(topic, 50, { keys: 50, concurrency: 1 })
      const layer = subscriber({ commitInterval: "20 millis", commitCount: 1 })
      yield* Effect.gen(function*() {
        const service = yield* Subscriber.Subscriber
        const subscription = yield* service.subscribe({ topics: [topic], group, maxInFlight: 50 })
        const deliveries = yield* takeAtLeast(subscription, 50)
        for (const delivery of deliveries) if (numberOf(delivery.message) !== 7) yield* delivery.ack
        yield* eventually("7 is committed", Effect.map(committed(group, topic), (offsets) => offsets.get(0) === 7))
      }).pipe(Effect.scoped, Effect.provide(layer))
      assert.strictEqual((yield* committed(group, topic)).get(0), 7)
      // What was done behind it comes again
      const tally = new Tally()
      yield* consume({ topics: [topic], group }, (delivery) => Effect.sync(() => tally.add(delivery))).pipe(
        Effect.provide(layer)
      )
      yield* tally.reached(43)
      assert.deepStrictEqual(Math.min(...tally.counts.keys()), 7)
    }).pipe(Effect.scoped, Effect.provide(broker())))

  live("goes on where it closed, with what was acknowledged kept", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("resume")
      const group = unique("resume")
      const tally = new Tally()
      yield* publishNumbered(topic, 2_000, { keys: 50 })
      const part = (until: number) =>
        Effect.scoped(Effect.andThen(
          consume({ topics: [topic], group, maxInFlight: 10 }, (delivery) => Effect.sync(() => tally.add(delivery))),
          tally.reached(until)
        ))
      for (const until of [300, 900, 1_500, 2_000]) yield* part(until)
      assert.strictEqual(tally.lost(2_000), 0)
      // Interrupted between being handled and being acknowledged
      assert.isAtMost(tally.duplicated, 40)
    }).pipe(Effect.provide([broker(), subscriber()])))

  live("gives each group everything, old messages too, or from now on", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("groups", 2)
      yield* publishNumbered(topic, 200, { keys: 20 })
      const [one, two, late] = [new Tally(), new Tally(), new Tally()]
      const into = (tally: Tally) => (delivery: Subscriber.Delivery) => Effect.sync(() => tally.add(delivery))
      yield* consume({ topics: [topic], group: unique("late") }, into(late)).pipe(
        Effect.provide(subscriber({ startFrom: "latest" }))
      )
      yield* consume({ topics: [topic], group: unique("one") }, into(one))
      yield* consume({ topics: [topic], group: unique("two") }, into(two))
      // The latest offset of a partition is looked up when the group is joined
      yield* one.reached(200)
      yield* publishNumbered(topic, 100, { keys: 20, from: 200 })
      yield* Effect.all([one.reached(300), two.reached(300), late.reached(100)])
      assert.strictEqual(Math.min(...late.counts.keys()), 200)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("shares a topic among the members of a group, and several topics", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* createTopic("shared-a"), yield* createTopic("shared-b", 3)]
      const group = unique("shared")
      const tally = new Tally()
      const seen = [0, 0, 0]
      for (const i of [0, 1, 2]) {
        yield* consume({ topics: [a, b], group, maxInFlight: 20 }, (delivery) =>
          Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => {
              seen[i]!++
              tally.add(delivery)
            })
          ))
      }
      yield* publishNumbered(a, 1_000, { keys: 100 })
      yield* publishNumbered(b, 1_000, { keys: 100, from: 1_000 })
      yield* tally.reached(2_000)
      assert.strictEqual(tally.lost(2_000), 0)
      assert.isTrue(seen.every((count) => count > 0), `${seen}`)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("fails to subscribe to a topic that does not exist, or without a broker", () =>
    Effect.gen(function*() {
      const subscribe = (topic: string) =>
        Effect.flip(Subscriber.Subscriber.use((service) =>
          service.subscribe({ topics: [topic], group: unique("none"), maxInFlight: 1 })
        ))
      const unknown = yield* subscribe(unique("unknown")).pipe(Effect.provide(subscriber()))
      assert.strictEqual(unknown.reason._tag, "UnknownTopic")
      const unreachable = yield* subscribe("t").pipe(Effect.provide(
        subscriber({ bootstrapServers: ["127.0.0.1:1"], subscribeTimeout: "1 second" })
      ))
      assert.strictEqual(unreachable.reason._tag, "Unreachable")
    }).pipe(Effect.scoped))

  live("tells its health: state, partitions, lag", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("health", 2)
      yield* publishNumbered(topic, 100, { keys: 10 })
      const service = yield* Subscriber.Subscriber
      const health = yield* KafkaHealth.KafkaHealth
      assert.deepStrictEqual(yield* health.subscriptions, [])
      yield* Effect.scoped(Effect.gen(function*() {
        const subscription = yield* service.subscribe({ topics: [topic], group: unique("health"), maxInFlight: 1_000 })
        const lag = Effect.map(health.subscriptions, ([it]) =>
          it!.partitions.reduce((sum, partition) => sum + (partition.lag ?? Number.NaN), 0))
        const deliveries = yield* takeAtLeast(subscription, 100)
        const [before] = yield* health.subscriptions
        assert.strictEqual(before!.state, "connected")
        assert.deepStrictEqual(
          before!.partitions.map(({ partition }) =>
            partition
          ),
          [0, 1]
        )
        assert.strictEqual(yield* lag, 100)
        for (const delivery of deliveries) yield* delivery.ack
        yield* eventually("nothing lags", Effect.map(lag, (lag) => lag === 0))
      }))
      assert.deepStrictEqual(yield* health.subscriptions, [])
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("notices new partitions", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("grown", 1)
      const tally = new Tally()
      yield* consume({ topics: [topic], group: unique("grown") }, (delivery) => Effect.sync(() => tally.add(delivery)))
      yield* withAdmin(servers, (admin) => admin.createPartitions({ topics: [{ name: topic, count: 4 }] }))
      const health = yield* KafkaHealth.KafkaHealth
      yield* eventually("it has four", Effect.map(health.subscriptions, ([it]) => it!.partitions.length === 4))
      yield* publishNumbered(topic, 400, { keys: 100 })
      yield* tally.reached(400)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber({ metadataMaxAge: "500 millis" })])))

  live("skips aborted transactions and their markers", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("transactions", 1)
      const group = unique("transactions")
      yield* Effect.promise(() => transactions(topic))
      yield* publishNumbered(topic, 1, { from: 2 })
      const tally = new Tally()
      yield* consume({ topics: [topic], group }, (delivery) => Effect.sync(() => tally.add(delivery)))
      yield* tally.reached(2)
      assert.deepStrictEqual([...tally.counts.keys()].sort(), [1, 2])
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("ends what waits when it is closed", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("closed", 1)
      const service = yield* Subscriber.Subscriber
      const scope = yield* Effect.scope
      const waiting = yield* Effect.scoped(Effect.gen(function*() {
        const subscription = yield* service.subscribe({ topics: [topic], group: unique("closed"), maxInFlight: 1 })
        return yield* Effect.forkIn(Effect.result(subscription.take), scope, { startImmediately: true })
      }))
      const result = yield* Fiber.join(waiting)
      assert.isTrue(Result.isFailure(result) && result.failure.reason._tag === "Closed")
    }).pipe(Effect.scoped, Effect.provide(subscriber())))
})

const takeAtLeast = (
  subscription: Subscriber.Subscription,
  count: number
): Effect.Effect<ReadonlyArray<Subscriber.Delivery>, Subscriber.SubscribeError> =>
  Effect.gen(function*() {
    const deliveries: Array<Subscriber.Delivery> = []
    while (deliveries.length < count) deliveries.push(...(yield* subscription.take))
    return deliveries
  })

/** 0 in an aborted transaction, 1 in a committed one. */
const transactions = async (topic: string): Promise<void> => {
  for (const number of [0, 1]) {
    const producer = new Producer({
      clientId: "test",
      bootstrapBrokers: [...servers],
      idempotent: true,
      retries: 20,
      transactionalId: unique("transaction")
    })
    const transaction = await producer.beginTransaction()
    await transaction.send({ messages: [{ topic, key: Buffer.from("k"), value: Buffer.from(String(number)) }] })
    if (number === 0) await transaction.abort()
    else await transaction.commit()
    await producer.close()
  }
}
