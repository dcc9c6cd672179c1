import { assert } from "@effect/vitest"
import { Broker, Message } from "@event-flow/core"
import { Deferred, Effect, Fiber } from "effect"
import { createServer } from "node:net"
import { describe } from "vitest"
import { partitionOf } from "../../src/internal/publish/murmur2.ts"
import {
  broker,
  consume,
  createTopic,
  live,
  numbered,
  numberOf,
  publishNumbered,
  servers,
  subscriber,
  Tally,
  unique,
  withAdmin,
  withServer
} from "../support/kafka.ts"

/** The reason of a failed publish. */
const reasonOf = (publish: Effect.Effect<void, Broker.BrokerNotFound | Broker.PublishError>) =>
  Effect.map(Effect.flip(publish), (error) => error._tag === "PublishError" ? error.reason._tag : error._tag)

withServer("KafkaBroker", () => {
  live("publishes, and resolves when it is there", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("published")
      yield* publishNumbered(topic, 1_000, { keys: 37 })
      const offsets = yield* withAdmin(servers, (admin) =>
        admin.listOffsets({
          topics: [{
            name: topic,
            partitions: [0, 1, 2, 3].map((partitionIndex) => ({ partitionIndex, timestamp: -1n }))
          }]
        }))
      const end = offsets[0]!.partitions.reduce((sum, { offset }) => sum + Number(offset), 0)
      assert.strictEqual(end, 1_000)
    }).pipe(Effect.provide(broker())))

  live("keeps the order of each key while many publish, through small batches", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("ordered", 3)
      const service = yield* Broker.Broker
      const keys = 20
      // One publisher a key, each in order; and all of them at once
      yield* Effect.forEach(
        Array.from({ length: keys }, (_, key) => key),
        (key) =>
          Effect.forEach(
            Array.from({ length: 50 }, (_, i) => i),
            (i) =>
              Effect.forkChild(service.publish([numbered(topic, i * keys + key, `k${key}`)]), {
                startImmediately: true
              }),
            { concurrency: 1 }
          ).pipe(Effect.flatMap((fibers) => Effect.forEach(fibers, (fiber) => Fiber.join(fiber)))),
        { concurrency: "unbounded", discard: true }
      )
      const tally = new Tally()
      yield* consume({ topics: [topic], group: unique("order") }, (delivery) => Effect.sync(() => tally.add(delivery)))
      yield* tally.reached(keys * 50)
      assert.strictEqual(tally.outOfOrder, 0)
      assert.strictEqual(tally.duplicated, 0)
    }).pipe(Effect.scoped, Effect.provide([broker({ maxBatchMessages: 7, linger: 2 }), subscriber()])))

  live("gives each of those who share a batch its own result", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("results", 1, servers, { "max.message.bytes": "20000" })
      const service = yield* Broker.Broker
      const results = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, i) => i),
        (i) =>
          Effect.result(service.publish([
            i % 10 === 3
              ? Message.make({ topic, key: "k", body: Buffer.alloc(30_000) })
              : numbered(topic, i, "k")
          ])),
        { concurrency: "unbounded" }
      )
      for (const [i, result] of results.entries()) {
        if (i % 10 !== 3) assert.strictEqual(result._tag, "Success", `message ${i}`)
        else {
          assert.isTrue(
            result._tag === "Failure" && result.failure._tag === "PublishError" &&
              result.failure.reason._tag === "MessageTooLarge" && !result.failure.isRetryable
          )
        }
      }
      const tally = new Tally()
      const order: Array<number> = []
      yield* consume({ topics: [topic], group: unique("results") }, (delivery) =>
        Effect.sync(() => {
          tally.add(delivery)
          order.push(numberOf(delivery.message))
        }))
      yield* tally.reached(36)
      assert.deepStrictEqual(order, order.toSorted((a, b) => a - b))
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("says UnknownTopic, and does not hold others up", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("known")
      const service = yield* Broker.Broker
      const [unknown, known] = yield* Effect.all([
        reasonOf(service.publish([numbered(unique("unknown"), 1)])),
        Effect.timed(service.publish([numbered(topic, 1)]))
      ], { concurrency: "unbounded" })
      assert.strictEqual(unknown, "UnknownTopic")
      assert.isDefined(known)
    }).pipe(Effect.provide(broker())))

  live("compresses in a way that others read", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("compressed", 1)
      let sent = 0
      for (const compression of ["none", "gzip", "snappy", "lz4", "zstd"] as const) {
        yield* publishNumbered(topic, 20, { from: sent, keys: 3 }).pipe(Effect.provide(broker({ compression })))
        sent += 20
      }
      const tally = new Tally()
      yield* consume({ topics: [topic], group: unique("compressed") }, (delivery) =>
        Effect.sync(() => tally.add(delivery)))
      yield* tally.reached(sent)
    }).pipe(Effect.scoped, Effect.provide(subscriber())))

  live("does not send what was interrupted before it left", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("interrupted", 1)
      const service = yield* Broker.Broker
      const fiber = yield* Effect.forkChild(service.publish([numbered(topic, 1)]), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      yield* service.publish([numbered(topic, 2)])
      const tally = new Tally()
      yield* consume({ topics: [topic], group: unique("interrupted") }, (delivery) =>
        Effect.sync(() => tally.add(delivery)))
      yield* tally.reached(1)
      assert.deepStrictEqual([...tally.counts.keys()], [2])
    }).pipe(Effect.scoped, Effect.provide([broker({ linger: 300 }), subscriber()])))

  live("sends what waits before it closes, and refuses after", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("closing", 1)
      const scope = yield* Effect.scope
      const inner = yield* Deferred.make<Broker.Broker["Service"]>()
      const fibers = yield* Effect.scoped(
        Effect.gen(function*() {
          const service = yield* Broker.Broker
          yield* Deferred.succeed(inner, service)
          return yield* Effect.forEach(
            [1, 2, 3],
            (i) => Effect.forkIn(service.publish([numbered(topic, i, "k")]), scope, { startImmediately: true })
          )
        }).pipe(Effect.provide(broker({ linger: "5 seconds" })))
      )
      yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
      const closed = yield* Deferred.await(inner)
      assert.strictEqual(yield* reasonOf(closed.publish([numbered(topic, 4)])), "Closed")
    }).pipe(Effect.scoped))

  live("names messages without a key to all partitions", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("keyless", 4)
      const service = yield* Broker.Broker
      for (let i = 0; i < 8; i++) yield* service.publish([numbered(topic, i)])
      const partitions = new Set<string>()
      const tally = new Tally()
      yield* consume({ topics: [topic], group: unique("keyless") }, (delivery) =>
        Effect.sync(() => {
          assert.isUndefined(delivery.lane)
          partitions.add(delivery.origin["partition"]!)
          tally.add(delivery)
        }))
      yield* tally.reached(8)
      assert.strictEqual(partitions.size, 4)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("sends a key where Java's partitioner sends it", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("partitioned", 7)
      yield* publishNumbered(topic, 200, { keys: 200 })
      const tally = new Tally()
      yield* consume({ topics: [topic], group: unique("partitioned") }, (delivery) =>
        Effect.sync(() => {
          tally.add(delivery)
          const key = delivery.message.key as string
          assert.strictEqual(Number(delivery.origin["partition"]), partitionOf(Buffer.from(key), 7))
        }))
      yield* tally.reached(200)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))
})

describe("KafkaBroker without a broker", () => {
  live("says Unreachable within publishTimeout", () =>
    Effect.gen(function*() {
      const service = yield* Broker.Broker
      const [duration, reason] = yield* Effect.timed(reasonOf(service.publish([numbered("t", 1)])))
      assert.strictEqual(reason, "Unreachable")
      assert.isBelow(Number(duration) || 0, 10_000)
    }).pipe(Effect.provide(broker({ bootstrapServers: ["127.0.0.1:1"], publishTimeout: "1 second" }))))

  live("says Unreachable where something listens and does not answer: nothing has left", () =>
    Effect.gen(function*() {
      const port = yield* silentServer
      const layer = broker({
        bootstrapServers: [`127.0.0.1:${port}`],
        publishTimeout: "1 second",
        requestTimeout: "300 millis"
      })
      const reason = yield* Broker.Broker.use((service) => reasonOf(service.publish([numbered("t", 1)]))).pipe(
        Effect.provide(layer)
      )
      assert.strictEqual(reason, "Unreachable")
    }).pipe(Effect.scoped))

  live("waits while the buffer is full, and fails by the same bound", () =>
    Effect.gen(function*() {
      const service = yield* Broker.Broker
      const results = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, i) => i),
        (i) => reasonOf(service.publish([numbered("t", i)])),
        { concurrency: "unbounded" }
      )
      // The five in the buffer, and of those that wait for room each one that gets it as the five give up
      const unreachable = results.filter((reason) => reason === "Unreachable").length
      assert.isAtLeast(unreachable, 5)
      assert.strictEqual(results.filter((reason) => reason === "Timeout").length, 20 - unreachable)
    }).pipe(Effect.provide(broker({
      bootstrapServers: ["127.0.0.1:1"],
      publishTimeout: "1 second",
      maxBufferedMessages: 5
    }))))
})

const silentServer = Effect.map(
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<ReturnType<typeof createServer>>((resolve) => {
        const server = createServer((socket) => socket.on("error", () => undefined))
        server.listen(0, "127.0.0.1", () => resolve(server))
      })
    ),
    (server) => Effect.sync(() => server.close())
  ),
  (server) => (server.address() as { port: number }).port
)
