import { assert, it } from "@effect/vitest"
import * as Broker from "@event-flow/core/Broker"
import * as Subscriber from "@event-flow/core/Subscriber"
import { RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Effect, Exit, Scope } from "effect"
import {
  ensureQueue,
  eventually,
  getRaw,
  layers,
  message,
  numbers,
  publish,
  rawChannel,
  textOf,
  unique,
  url,
  withServer
} from "./support/rabbit.ts"

const subscribe = (topic: string, options: Partial<Subscriber.SubscribeOptions> = {}) =>
  Effect.flatMap(
    Subscriber.Subscriber,
    (subscriber) => subscriber.subscribe({ topics: [topic], group: "group", maxInFlight: 100, ...options })
  )

/** Takes until so many have come. */
const takeCount = Effect.fnUntraced(function*(subscription: Subscriber.Subscription, count: number) {
  const deliveries: Array<Subscriber.Delivery> = []
  while (deliveries.length < count) deliveries.push(...yield* subscription.take)
  return deliveries
})

const texts = (deliveries: ReadonlyArray<Subscriber.Delivery>) => deliveries.map(({ message }) => textOf(message))

/** A user of the bare client. */
const ready = Effect.fnUntraced(function*(queue: string) {
  const channel = yield* rawChannel()
  return (yield* Effect.promise(() => channel.checkQueue(queue))).messageCount
}, Effect.scoped)

withServer("consume", () => {
  it.live("the server sends no more ahead than maxInFlight", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const subscription = yield* subscribe(topic, { maxInFlight: 5 })
      yield* publish(topic, numbers(20))
      const first = yield* takeCount(subscription, 5)
      assert.strictEqual(yield* ready(RabbitTopology.queueName("group", topic)), 15)
      yield* first[0]!.ack
      yield* first[3]!.ack
      assert.lengthOf(yield* takeCount(subscription, 2), 2)
      assert.strictEqual(yield* ready(RabbitTopology.queueName("group", topic)), 13)
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("one consumer gets a key in order; what is given back comes again before what is behind it", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const subscription = yield* subscribe(topic)
      yield* publish(topic, numbers(5), "key")
      yield* publish(topic, ["other"], "other")
      const first = yield* takeCount(subscription, 6)
      assert.deepStrictEqual(texts(first), [...numbers(5), "other"])
      yield* first[0]!.ack
      yield* first[1]!.nack
      assert.deepStrictEqual(first.map((delivery) => delivery.isRevoked()), [false, true, true, true, true, false])
      yield* first[2]!.ack
      const again = yield* takeCount(subscription, 4)
      assert.deepStrictEqual(texts(again), ["1", "2", "3", "4"])
      assert.deepStrictEqual(again.map(({ attempt }) => attempt), [2, 2, 2, 2])
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("with a single active consumer one reads, and another takes over when it leaves", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(subscribe(topic, { maxInFlight: 10 }), scope)
      const second = yield* subscribe(topic, { maxInFlight: 10 })
      yield* publish(topic, numbers(20), "key")
      const taken = yield* takeCount(first, 10)
      assert.deepStrictEqual(texts(taken), [...numbers(10)])
      yield* Effect.forEach(taken.slice(0, 5), (delivery) => delivery.ack)
      const waiting = yield* Effect.forkChild(second.take, { startImmediately: true })
      assert.isUndefined(waiting.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      yield* eventually("the second to take over", () => waiting.pollUnsafe() !== undefined)
      const rest = yield* (waiting.pollUnsafe()!)
      assert.strictEqual(texts(rest)[0], "5")
    }).pipe(Effect.scoped, Effect.provide(layers({ singleActiveConsumer: true }))))

  it.live("the server dead-letters after the delivery limit, and says why", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const subscription = yield* subscribe(topic)
      yield* publish(topic, ["poison"], "key")
      for (const attempt of [1, 2, 3]) {
        const [delivery] = yield* takeCount(subscription, 1)
        assert.strictEqual(delivery!.attempt, attempt)
        yield* delivery!.nack
      }
      // The server is told of the last one when its consumer takes again
      yield* Effect.forkScoped(subscription.take)
      const dead = yield* getRaw(RabbitTopology.deadLetterTopic(topic))
      assert.strictEqual(dead.content.toString(), "poison")
      assert.strictEqual(dead.properties.headers?.["x-first-death-reason"], "delivery_limit")
      assert.strictEqual(dead.properties.headers?.["x-first-death-queue"], RabbitTopology.queueName("group", topic))
    }).pipe(Effect.scoped, Effect.provide(layers({ deliveryLimit: 2 }))))

  it.live("a queue that is deleted is declared again", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const subscription = yield* subscribe(topic)
      const queue = RabbitTopology.queueName("group", topic)
      const channel = yield* rawChannel()
      yield* Effect.promise(() => channel.deleteQueue(queue))
      yield* publish(topic, ["1"]).pipe(Effect.retry({ while: (error) => error._tag === "PublishError", times: 1_000 }))
      assert.deepStrictEqual(texts(yield* takeCount(subscription, 1)), ["1"])
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("a queue declared beforehand keeps what is published before the first consumer", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      yield* ensureQueue(topic)
      yield* publish(topic, numbers(3))
      assert.deepStrictEqual(texts(yield* takeCount(yield* subscribe(topic), 3)), [...numbers(3)])
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("what a subscription fails for", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const address = new URL(url)
      address.password = "wrong"
      yield* Effect.scoped(subscribe(topic)).pipe(Effect.provide(layers()))
      const reason = (options: Parameters<typeof layers>[0]) =>
        Effect.scoped(subscribe(topic)).pipe(
          Effect.provide(layers(options)),
          Effect.flip,
          Effect.map((error) => error instanceof Subscriber.SubscribeError ? error.reason._tag : String(error))
        )
      assert.strictEqual(yield* reason({ url: address.href }), "NotAuthorised")
      assert.strictEqual(yield* reason({ url: "amqp://127.0.0.1:1", subscribeTimeout: "300 millis" }), "Unreachable")
      assert.strictEqual(yield* reason({ queueType: "classic" }), "Rejected")
      assert.strictEqual(yield* reason({ declare: false, queueName: () => "missing" }), "UnknownTopic")
    }))
})

withServer("the CloudEvents AMQP binding", () => {
  it.live("writes headers, content-type and message-id", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      yield* ensureQueue(topic)
      const sent = message(topic, "{}", "key")
      const broker = yield* Broker.Broker
      yield* broker.publish([{ ...sent, attributes: { ...sent.attributes, datacontenttype: "application/json" } }])
      const raw = yield* getRaw(RabbitTopology.queueName("group", topic))
      assert.strictEqual(raw.properties.contentType, "application/json")
      assert.strictEqual(raw.properties.messageId, sent.attributes["id"])
      assert.strictEqual(raw.properties.deliveryMode, 2)
      // RabbitMQ 3 says it of the first delivery, too
      const { "x-delivery-count": count = 0, ...headers } = raw.properties.headers ?? {}
      assert.strictEqual(count, 0)
      assert.deepStrictEqual(headers, {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": sent.attributes["id"],
        "cloudEvents:type": "Test.v1",
        "cloudEvents:source": "/test",
        "event-flow-key": "key"
      })
    }).pipe(Effect.provide(layers())))

  it.live("reads what others write", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const subscription = yield* subscribe(topic)
      const channel = yield* rawChannel()
      channel.publish("event-flow", topic, Buffer.from("1"), {
        contentType: "text/plain",
        messageId: "m-1",
        headers: { "cloudEvents_type": "Other.v1", "CLOUDEVENTS:Subject": "k", count: 3, list: [1, "a"], yes: true }
      })
      channel.publish("event-flow", topic, Buffer.from("2"), { headers: { "cloudEvents:id": "e-2" }, messageId: "m-2" })
      const [first, second] = yield* takeCount(subscription, 2)
      assert.deepStrictEqual(first!.message.attributes, {
        id: "m-1",
        type: "Other.v1",
        subject: "k",
        datacontenttype: "text/plain"
      })
      assert.strictEqual(first!.message.key, "k")
      assert.deepStrictEqual(first!.message.headers, { count: "3", list: ["1", "a"], yes: "true" })
      assert.strictEqual(second!.message.attributes["id"], "e-2")
    }).pipe(Effect.scoped, Effect.provide(layers())))
})
