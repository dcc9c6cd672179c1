/**
 * What happens to messages when something breaks, each with a count of what was
 * sent, handled, duplicated and lost. Sent are those whose publish succeeded.
 */
import { assert } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  EventConsumer,
  EventHandler,
  Message,
  NotificationEvent,
  Subscriber
} from "@event-flow/core"
import { KafkaBroker, KafkaHealth, KafkaSubscriber } from "@event-flow/kafka-layer"
import type { KafkaConfig } from "@event-flow/kafka-layer"
import { inBackground } from "@event-flow/test-support/background"
import { findOwnSource, startKafka } from "@event-flow/test-support/kafkaServer"
import type { KafkaServer } from "@event-flow/test-support/kafkaServer"
import { startProgram } from "@event-flow/test-support/program"
import { startProxy } from "@event-flow/test-support/proxy"
import type { Proxy } from "@event-flow/test-support/proxy"
import { Effect, Fiber, Layer, Schedule, Schema } from "effect"
import { appendFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll } from "vitest"
import {
  consume,
  consumeUntilFailure,
  consuming,
  createTopic,
  eventually,
  live,
  numbered,
  publishNumbered,
  Tally,
  unique,
  withAdmin,
  withOwnServer
} from "./support/kafka.ts"

let server: KafkaServer
let proxy: Proxy

const broker = (options: Partial<KafkaConfig.Publisher> = {}) =>
  Layer.unwrap(
    Effect.sync(() =>
      KafkaBroker.layer({ bootstrapServers: server.bootstrapServers, publishTimeout: "90 seconds", ...options })
    )
  )

const subscriber = (options: Partial<KafkaConfig.Consumer> = {}) =>
  Layer.unwrap(
    Effect.sync(() => KafkaSubscriber.layer({ bootstrapServers: server.bootstrapServers, ...consuming, ...options }))
  )

const newTopic = (name: string, partitions = 4) =>
  Effect.suspend(() => createTopic(name, partitions, server.bootstrapServers))

/** Notes a row of the table and checks that nothing was lost. */
const report = (fault: string, sent: number, tally: Tally): void => {
  const row = { fault, sent, handled: tally.handled, duplicated: tally.duplicated, lost: tally.lost(sent) }
  process.stdout.write(`fault: ${JSON.stringify(row)}\n`)
  const file = process.env["KAFKA_FAULTS_FILE"]
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(row)}\n`)
  assert.strictEqual(row.lost, 0, "lost")
  assert.strictEqual(tally.outOfOrder, 0, "first deliveries out of order")
}

/** How many messages a topic of four partitions has. */
const logged = (topic: string) =>
  Effect.map(
    withAdmin(server.bootstrapServers, (admin) =>
      admin.listOffsets({
        topics: [{
          name: topic,
          partitions: [0, 1, 2, 3].map((partitionIndex) => ({ partitionIndex, timestamp: -1n }))
        }]
      })),
    (topics) => topics[0]!.partitions.reduce((sum, { offset }) => sum + Number(offset), 0)
  )

/** Publishes at a pace, so that a fault falls into it. */
const publishSlowly = (topic: string, count: number) =>
  Effect.forEach(
    Array.from({ length: count / 50 }, (_, i) => i),
    (i) => Effect.andThen(publishNumbered(topic, 50, { from: i * 50, keys: 20 }), Effect.sleep(10)),
    { discard: true }
  )

withOwnServer("faults", () => {
  beforeAll(async () => {
    proxy = await startProxy()
    server = await startKafka(findOwnSource(), {
      listeners: [{ name: "PROXIED", protocol: "PLAINTEXT", advertisedPort: proxy.port }]
    })
    proxy.target = server.ports["PROXIED"] ?? 0
  })
  afterAll(async () => {
    await proxy.close()
    await server.dispose()
  })

  const breaking = (name: string, breakAndMend: () => Promise<void>) => {
    live(`${name} while publishing and consuming`, () =>
      Effect.gen(function*() {
        const topic = yield* newTopic("broken")
        const tally = new Tally()
        yield* consume({ topics: [topic], group: unique("broken"), maxInFlight: 50 }, (delivery) =>
          Effect.andThen(Effect.sleep(1), Effect.sync(() => tally.add(delivery))))
        const sent = 5_000
        const publishing = yield* inBackground(publishSlowly(topic, sent))
        yield* tally.reached(500)
        yield* Effect.promise(breakAndMend)
        yield* Fiber.join(publishing)
        yield* tally.reached(sent)
        report(name, sent, tally)
        // What was handled twice was not published twice: the idempotent producer's retries leave no trace
        assert.strictEqual(yield* logged(topic), sent)
      }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])), 180_000)
  }
  breaking("broker restarted", () => server.stop().then(() => server.start()))
  breaking("broker killed (SIGKILL) and restarted", () => server.kill().then(() => server.start()))

  live("consumer process killed (SIGKILL), another takes over", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("killed")
      const group = unique("killed")
      const sent = 3_000
      const tally = new Tally()
      yield* publishNumbered(topic, sent, { keys: 40 })
      const start = startProgram(consumerProcess, [server.bootstrapServers.join(), topic, group], (line) => {
        const [number, key] = line.split(" ")
        // The rest is what the layer logs
        if (/^\d+$/.test(number!)) tally.addNumber(Number(number), key)
      })
      const first = yield* start
      yield* tally.reached(700)
      yield* first.kill
      yield* start
      yield* tally.reached(sent)
      report("consumer process killed (SIGKILL), another takes over", sent, tally)
    }).pipe(Effect.scoped, Effect.provide(broker())), 180_000)

  live("consumers joining and leaving under load", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("churn", 6)
      const group = unique("churn")
      const tally = new Tally()
      const sent = 6_000
      const member = consume({ topics: [topic], group, maxInFlight: 40 }, (delivery) =>
        Effect.andThen(Effect.sleep(1), Effect.sync(() => tally.add(delivery))))
      yield* member
      const publishing = yield* inBackground(publishSlowly(topic, sent))
      for (let i = 0; i < 4; i++) {
        yield* Effect.scoped(Effect.andThen(
          member,
          Effect.suspend(() =>
            tally.reached(Math.min(sent, tally.distinct + 500))
          )
        ))
      }
      yield* Fiber.join(publishing)
      yield* tally.reached(sent)
      report("two consumers, one joining and leaving under load", sent, tally)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])), 180_000)

  live("handlers slower than the session timeout", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("slow", 2)
      const tally = new Tally()
      yield* publishNumbered(topic, 20, { keys: 20 })
      yield* consume({ topics: [topic], group: unique("slow") }, (delivery) =>
        Effect.andThen(Effect.sleep("4 seconds"), Effect.sync(() => tally.add(delivery))))
      yield* tally.reached(20)
      report("handlers slower than the session timeout", 20, tally)
      assert.strictEqual(tally.duplicated, 0)
    }).pipe(
      Effect.scoped,
      Effect.provide([broker(), subscriber({ sessionTimeout: "2 seconds", revokeTimeout: "1 second" })])
    ))

  live("poison among good messages, through the event consumer", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("poison")
      const deadLetters = `${topic}.dead-letter`
      yield* withAdmin(server.bootstrapServers, (admin) =>
        admin.createTopics({ topics: [{ topic: deadLetters, partitions: 1, replicas: 1 }] }))
      class Counted extends NotificationEvent.Class<Counted>()("Counted", { i: Schema.Int }, {
        topic,
        key: ({ i }) =>
          `key-${i % 20}`
      }) {}
      const tally = new Tally()
      const Count = EventHandler.make("Count", { on: Counted, error: Schema.String })
      const CountLive = Count.toLayer(({ i }) =>
        i % 100 === 7
          ? Effect.fail("poison")
          : Effect.sync(() => tally.addNumber(i, `key-${i % 20}`))
      )
      const consumer = EventConsumer.layer([Count], {
        group: unique("poison"),
        concurrency: 8,
        policy: (failure) =>
          failure._tag === "HandlerFailed"
            ? ConsumerPolicy.retry(Schedule.spaced("10 millis").pipe(Schedule.upTo({ times: 2 })))
            : ConsumerPolicy.deadLetter()
      }).pipe(
        Layer.provide(CountLive)
      )
      const sent = 1_000
      const service = yield* Broker.Broker
      const poisoned = new Map<number, Message.Message>()
      const subscription = yield* Subscriber.Subscriber.use((subscriber) =>
        subscriber.subscribe({ topics: [deadLetters], group: unique("dead"), maxInFlight: 100 })
      )
      yield* Effect.forEach(Array.from({ length: sent }, (_, i) => i), (i) =>
        service.publish([Message.make({
          topic,
          key: `key-${i % 20}`,
          // Every hundredth cannot be decoded
          attributes: { id: `id-${i}`, type: "Counted.v1" },
          body: Buffer.from(i % 100 === 13 ? "{" : JSON.stringify({ i }))
        })]), { concurrency: 100, discard: true })
      yield* Effect.gen(function*() {
        while (poisoned.size < 20) {
          for (const delivery of yield* subscription.take) {
            const { message } = delivery
            poisoned.set(Number(message.attributes["id"]!.slice(3)), message)
            yield* delivery.ack
          }
        }
        yield* tally.reached(sent - 20)
      }).pipe(Effect.provide(consumer))
      for (const [i, message] of poisoned) {
        assert.strictEqual(message.key, `key-${i % 20}`)
        assert.strictEqual(message.headers["dead-letter-topic"], topic)
        assert.match(String(message.headers["dead-letter-partition"]), /^[0-3]$/)
        assert.match(String(message.headers["dead-letter-offset"]), /^\d+$/)
        // Once more after the retries, unless others were handled often enough meanwhile
        assert.include(i % 100 === 7 ? ["3", "4"] : ["1"], message.headers["dead-letter-attempts"])
        assert.strictEqual(message.headers["dead-letter-reason"], i % 100 === 7 ? "HandlerFailed" : "Undecodable")
        tally.addNumber(i, undefined)
      }
      report("poison among good messages (20 of 1,000 dead-lettered)", sent, tally)
      assert.strictEqual(tally.duplicated, 0)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("topic deleted: publisher and consumer say so", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("deleted")
      const tally = new Tally()
      const consuming = yield* inBackground(Effect.flip(
        consumeUntilFailure({ topics: [topic], group: unique("deleted") }, (delivery) =>
          Effect.sync(() => tally.add(delivery)))
      ))
      const sent = 200
      yield* publishNumbered(topic, sent, { keys: 10 })
      yield* tally.reached(sent)
      yield* withAdmin(server.bootstrapServers, (admin) =>
        admin.deleteTopics({ topics: [topic] }))
      const error = yield* Fiber.join(consuming)
      assert.strictEqual(error.reason._tag, "UnknownTopic")
      const service = yield* Broker.Broker
      const failure = yield* Effect.flip(service.publish([numbered(topic, 1)]))
      assert.isTrue(failure._tag === "PublishError" && failure.reason._tag === "UnknownTopic")
      report("topic deleted", sent, tally)
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))

  live("network stalled under a publish: Timeout, since nobody knows", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("timeout", 1)
      const service = yield* Broker.Broker
      yield* service.publish([numbered(topic, 0, "k")])
      proxy.stall()
      const failure = yield* Effect.flip(service.publish([numbered(topic, 1, "k")]))
      assert.isTrue(failure._tag === "PublishError" && failure.reason._tag === "Timeout" && failure.isRetryable)
      proxy.resume()
      // The publisher mends itself, and order holds: 1 may have arrived, but not after 2
      yield* Effect.retry(service.publish([numbered(topic, 2, "k")]), { schedule: Schedule.recurs(20) })
      const tally = new Tally()
      yield* consume(
        { topics: [topic], group: unique("timeout") },
        (delivery) => Effect.sync(() => tally.add(delivery))
      )
      yield* eventually("2 is there", Effect.sync(() => tally.counts.has(2)))
      assert.strictEqual(tally.outOfOrder, 0)
    }).pipe(
      Effect.scoped,
      Effect.ensuring(Effect.sync(() => proxy.resume())),
      Effect.provide([
        Layer.unwrap(Effect.sync(() =>
          KafkaBroker.layer({
            bootstrapServers: [`127.0.0.1:${proxy.port}`],
            publishTimeout: "2 seconds",
            requestTimeout: "5 seconds"
          })
        )),
        subscriber()
      ])
    ))

  live("network stalled beyond the session timeout, while another member goes on", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("stalled")
      const group = unique("stalled")
      const tally = new Tally()
      const sent = 4_000
      const member = consume({ topics: [topic], group, maxInFlight: 20 }, (delivery) =>
        Effect.andThen(Effect.sleep(1), Effect.sync(() => tally.add(delivery))))
      const proxied = { bootstrapServers: [`127.0.0.1:${proxy.port}`], requestTimeout: "2 seconds" } as const
      const healthOfMember = Effect.andThen(member, KafkaHealth.KafkaHealth)
      const health = yield* Effect.provide(healthOfMember, subscriber(proxied))
      const healthOfOther = yield* Effect.provide(healthOfMember, subscriber())
      const publishing = yield* inBackground(
        publishSlowly(topic, sent).pipe(Effect.provide(broker(proxied)))
      )
      yield* tally.reached(400)
      proxy.stall()
      yield* eventually(
        "it is disconnected",
        Effect.map(health.subscriptions, ([it]) =>
          it!.state === "disconnected")
      )
      yield* eventually(
        "the broker has given up on it",
        Effect.map(healthOfOther.subscriptions, ([it]) => it!.partitions.length === 4)
      )
      proxy.resume()
      yield* Fiber.join(publishing)
      yield* tally.reached(sent)
      yield* eventually("it is back", Effect.map(health.subscriptions, ([it]) => it!.state === "connected"))
      report("network stalled for longer than the session timeout", sent, tally)
    }).pipe(Effect.scoped), 180_000)
})

const consumerProcess = fileURLToPath(new URL("support/consumerProcess.ts", import.meta.url))
