import { assert, it } from "@effect/vitest"
import * as Broker from "@event-flow/core/Broker"
import * as Subscriber from "@event-flow/core/Subscriber"
import { RabbitBroker, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { startProxy } from "@event-flow/test-support/proxy"
import { maxMessageSize } from "@event-flow/test-support/rabbitServer"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import {
  ensureQueue,
  eventually,
  layers,
  message,
  numbers,
  type OwnServer,
  publish,
  rawChannel,
  silently,
  startOwn,
  textOf,
  unique,
  url,
  withOwnServer,
  withServer
} from "./support/rabbit.ts"

const reasonOf = <A, R>(effect: Effect.Effect<A, Broker.BrokerNotFound | Broker.PublishError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error._tag === "PublishError" ? error.reason : error)

/** A topic with a queue, so that it is routable. */
const topicWithQueue = Effect.gen(function*() {
  const topic = unique("topic")
  yield* ensureQueue(topic)
  return topic
})

withServer("publish", () => {
  it.live("what no queue is bound for is an UnknownTopic, also among others", () =>
    Effect.gen(function*() {
      const topic = yield* topicWithQueue
      const { publish } = yield* Broker.Broker
      const nowhere = unique("nowhere")
      const results = yield* Effect.forEach(
        [topic, nowhere, topic, nowhere, topic],
        (topic) => Effect.exit(publish([message(topic, "x")])),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(results.map(Exit.isSuccess), [true, false, true, false, true])
      const error = yield* Effect.flip(publish([message(topic, "1"), message(nowhere, "2")]))
      assert.strictEqual(error._tag === "PublishError" && error.topic, nowhere)
      assert.strictEqual((yield* reasonOf(publish([message(nowhere, "x")])))._tag, "UnknownTopic")
    }).pipe(Effect.provide(layers())))

  it.live("or is dropped, where that is chosen", () =>
    publish(unique("nowhere"), ["x"]).pipe(Effect.provide(layers({ unroutable: "drop" }))))

  it.live("an exchange that does not exist is an UnknownTopic, and others are not harmed", () =>
    Effect.gen(function*() {
      const topic = yield* topicWithQueue
      const { publish } = yield* Broker.Broker
      const results = yield* Effect.forEach(
        [topic, "missing", topic, "missing", topic],
        (topic) => Effect.exit(publish([message(topic, "x")])),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(results.map(Exit.isSuccess), [true, false, true, false, true])
      assert.strictEqual((yield* reasonOf(publish([message("missing", "x")])))._tag, "UnknownTopic")
    }).pipe(Effect.provide(layers({
      route: (topic) => ({ exchange: topic === "missing" ? "missing" : "event-flow", routingKey: topic })
    }))))

  it.live("a topic can go straight to a queue by the default exchange", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const subscriber = yield* Subscriber.Subscriber
      const subscription = yield* subscriber.subscribe({ topics: [topic], group: "g", maxInFlight: 1 })
      yield* publish(topic, ["1"])
      assert.strictEqual(textOf((yield* subscription.take)[0].message), "1")
    }).pipe(
      Effect.scoped,
      Effect.provide(layers({
        route: (topic) => ({ exchange: "", routingKey: topic }),
        queueName: (_group, topic) => topic,
        deadLetter: false
      }))
    ))

  it.live("wrong credentials are NotAuthorised, at once", () =>
    Effect.gen(function*() {
      const address = new URL(url)
      address.password = "wrong"
      const reason = yield* reasonOf(publish("topic", ["x"])).pipe(
        Effect.provide(layers({ url: address.href, publishTimeout: "1 minute" })),
        Effect.timeout("30 seconds")
      )
      assert.strictEqual(reason._tag, "NotAuthorised")
    }))

  it.live("a virtual host that does not exist is Unreachable, and named", () =>
    Effect.flip(publish("topic", ["x"])).pipe(
      Effect.provide(layers({ url: `${url}/nowhere`, publishTimeout: "1 second" })),
      Effect.map((error) => assert.match(error.message, /Unreachable: .*"nowhere"/))
    ))

  it.live("what AMQP cannot carry is Rejected", () =>
    reasonOf(publish("x".repeat(256), ["x"])).pipe(
      Effect.provide(layers()),
      Effect.map((reason) => assert.strictEqual(reason._tag, "Rejected"))
    ))

  it.live("a topic with a wildcard as a word is refused, and says why: by publish, subscribe and topology", () =>
    Effect.gen(function*() {
      const { publish } = yield* Broker.Broker
      const { subscribe } = yield* Subscriber.Subscriber
      const prefix = unique("orders")
      for (const topic of [`${prefix}.#`, `*.${prefix}`, `${prefix}.*.late`, "#"]) {
        const errors = [
          yield* Effect.flip(publish([message(`${prefix}.new`, "1"), message(topic, "2")])),
          yield* Effect.flip(Effect.scoped(subscribe({ topics: [topic], group: "group", maxInFlight: 1 }))),
          yield* Effect.flip(ensureQueue(topic))
        ]
        for (const error of errors) {
          assert.isTrue("reason" in error && error.reason._tag === "Rejected" && !error.isRetryable)
          assert.include(error.message, `topic "${topic}" has the word`)
        }
      }
      // Within a word they are letters
      const plain = `${prefix}.c#.a*`
      const subscription = yield* subscribe({ topics: [plain], group: "group", maxInFlight: 1 })
      yield* publish([message(plain, "1")])
      assert.strictEqual(textOf((yield* subscription.take)[0].message), "1")
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("a route of one's own may have wildcards, and binds a queue to many topics", () =>
    Effect.gen(function*() {
      const prefix = unique("orders")
      const route = (topic: string) => ({
        exchange: "event-flow",
        routingKey: topic === "all" ? `${prefix}.#` : topic
      })
      const subscription = yield* Effect.provide(
        Effect.flatMap(Subscriber.Subscriber, ({ subscribe }) =>
          subscribe({ topics: ["all"], group: prefix, maxInFlight: 2 })),
        yield* Layer.build(layers({ route }))
      )
      const { publish } = yield* Broker.Broker
      yield* publish([message(`${prefix}.new`, "1"), message(`${prefix}.old.late`, "2")])
      const texts: Array<string> = []
      while (texts.length < 2) {
        texts.push(...(yield* subscription.take).map(({ message }) =>
          textOf(message)
        ))
      }
      assert.deepStrictEqual(texts, ["1", "2"])
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("after the layer's end it is Closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { publish } = yield* Effect.provide(Broker.Broker, yield* Layer.buildWithScope(layers(), scope))
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* reasonOf(publish([message("topic", "x")])))._tag, "Closed")
    }))

  it.live("no more than maxInFlight are on their way, and closing waits for them", () =>
    Effect.gen(function*() {
      const topic = yield* topicWithQueue
      const scope = yield* Scope.make()
      const layer = layers({ maxInFlight: 3, channels: 2 })
      const { publish } = yield* Effect.provide(Broker.Broker, yield* Layer.buildWithScope(layer, scope))
      const all = yield* Effect.forkChild(
        Effect.forEach(numbers(200), (n) => publish([message(topic, n)]), { concurrency: "unbounded", discard: true }),
        { startImmediately: true }
      )
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(all)
    }))

  it.live("a server that does not answer: sent is Timeout, and what was interrupted does not go out later", () =>
    Effect.gen(function*() {
      const topic = yield* topicWithQueue
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => startProxy(url)),
        (proxy) => Effect.promise(proxy.close)
      )
      const layer = layers({ url: proxy.url, publishTimeout: "1 second", heartbeat: "1 minute", drainTimeout: 0 })
      const { publish } = yield* Effect.provide(Broker.Broker, yield* Layer.build(layer))
      yield* publish([message(topic, "before")])
      proxy.stall()
      assert.strictEqual((yield* reasonOf(publish([message(topic, "lost")])))._tag, "Timeout")
    }).pipe(Effect.scoped))
})

it.live("without a server a publish is Unreachable after its time, and the layer is built all the same", () =>
  Effect.flip(publish("topic", ["x"])).pipe(
    Effect.provide(
      RabbitBroker.layer({ url: "amqp://127.0.0.1:1", publishTimeout: "500 millis" }).pipe(Layer.provide(silently))
    ),
    Effect.map((error) => assert.match(error.message, /Unreachable: .*ECONNREFUSED/))
  ))

withOwnServer("publish, with a server of its own", () => {
  let server: OwnServer
  beforeAll(async () => {
    server = await startOwn()
  })
  afterAll(() => server?.dispose())

  // The limit of a server that is not ours is unknown
  it.live("a message that is too large is a MessageTooLarge, and others are not harmed", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      yield* ensureQueue(topic, server.url)
      const { publish } = yield* Broker.Broker
      const tooLarge = { ...message(topic, ""), body: new Uint8Array(maxMessageSize + 1) }
      const others = yield* Effect.forkChild(
        Effect.forEach(numbers(50), (n) => publish([message(topic, n)]), { concurrency: "unbounded", discard: true }),
        { startImmediately: true }
      )
      const error = yield* Effect.flip(publish([tooLarge]))
      assert.match(error.message, /MessageTooLarge: .*message size 1048577 is larger than .* max size 1048576/)
      assert.isTrue(error._tag === "PublishError" && !error.isRetryable)
      yield* Fiber.join(others)
      const channel = yield* rawChannel(server.url)
      const { messageCount } = yield* Effect.promise(() => channel.checkQueue(RabbitTopology.queueName("group", topic)))
      assert.isAtLeast(messageCount, 50)
    }).pipe(Effect.scoped, Effect.provide(Layer.suspend(() => layers({ url: server.url })))))

  it.live("a user who may not write to the exchange is NotAuthorised", () =>
    Effect.gen(function*() {
      const { ctl } = server.control
      yield* Effect.promise(async () => {
        await ctl("add_user", "reader", "word")
        await ctl("set_permissions", "reader", ".*", "^nothing$", ".*")
      })
      const address = new URL(server.url)
      address.username = "reader"
      address.password = "word"
      const reason = yield* reasonOf(publish("topic", ["x"])).pipe(Effect.provide(layers({ url: address.href })))
      assert.strictEqual(reason._tag, "NotAuthorised")
    }))

  it.live("while the server is short of memory publishes wait, consumers go on, and nothing is lost", () =>
    Effect.gen(function*() {
      const { ctl } = server.control
      const topic = unique("topic")
      const { publish } = yield* Broker.Broker
      const subscriber = yield* Subscriber.Subscriber
      const subscription = yield* subscriber.subscribe({ topics: [topic], group: "group", maxInFlight: 10 })
      yield* publish(numbers(20).map((n) => message(topic, n)) as never)
      yield* Effect.promise(() => ctl("set_vm_memory_high_watermark", "0.00001"))
      const fiber = yield* Effect.forkChild(
        Effect.forEach(numbers(100, 20), (n) => publish([message(topic, n)]), { concurrency: 50, discard: true }),
        { startImmediately: true }
      )
      yield* eventually(
        "a blocked connection",
        async () => (await ctl("list_connections", "state")).includes("blocked")
      )
      const seen: Array<string> = []
      const consume = (count: number) =>
        subscription.take.pipe(
          Effect.flatMap((deliveries) =>
            Effect.forEach(deliveries, (delivery) => {
              seen.push(textOf(delivery.message))
              return delivery.ack
            })
          ),
          Effect.repeat({ until: () => seen.length >= count })
        )
      yield* consume(20)
      assert.isUndefined(fiber.pollUnsafe())
      yield* Effect.promise(() => ctl("set_vm_memory_high_watermark", "0.9"))
      yield* Fiber.join(fiber)
      yield* consume(120)
      assert.sameMembers(seen, [...numbers(120)])
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.suspend(() => layers({ url: server.url, publishTimeout: "2 minutes" })))
    ))
})
