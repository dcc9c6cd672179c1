import { assert, describe, it } from "@effect/vitest"
import { RabbitBroker, RabbitConfig, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { type Config, ConfigProvider, Duration, Effect, Layer, Redacted } from "effect"

const url = "amqp://127.0.0.1:1"

const fieldOf = <A>(layer: Layer.Layer<A, RabbitConfig.RabbitConfigError>) =>
  Layer.build(layer).pipe(
    Effect.scoped,
    Effect.flip,
    Effect.map(({ field }) => field)
  )

const broker = (options: Partial<RabbitConfig.Publisher>) => fieldOf(RabbitBroker.layer({ url, ...options }))

const subscriber = (options: Partial<RabbitConfig.Consumer>) => fieldOf(RabbitSubscriber.layer({ url, ...options }))

describe("a wrong setting fails when the layer is built, with its name", () => {
  const cases = [
    ["url", { url: "not a url" }],
    ["url", { url: Redacted.make("http://host") }],
    ["url", { url: "amqp://user:%zz@host" }],
    ["heartbeat", { heartbeat: "10 millis" }],
    ["connectTimeout", { connectTimeout: "soon" as never }],
    ["reconnectDelay", { reconnectDelay: -1 }],
    ["exchange", { exchange: "" }],
    ["exchange", { exchange: "x".repeat(256) }],
    ["tls", { tls: {} }],
    ["tls.key", { url: "amqps://host", tls: { certificate: "PEM" } }]
  ] satisfies ReadonlyArray<readonly [string, Partial<RabbitConfig.Connection>]>
  for (const [field, options] of cases) {
    it.live(`${field}: ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* broker(options), field)
        assert.strictEqual(yield* subscriber(options), field)
      }))
  }
  it.live("of publishing", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* broker({ maxInFlight: 0 }), "maxInFlight")
      assert.strictEqual(yield* broker({ channels: 1.5 }), "channels")
      assert.strictEqual(yield* broker({ channels: 5, maxInFlight: 4 }), "channels")
      assert.strictEqual(yield* broker({ publishTimeout: 0 }), "publishTimeout")
      assert.strictEqual(yield* broker({ unroutable: "maybe" as never }), "unroutable")
    }))
  it.live("of consuming", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* subscriber({ queueType: "stream" as never }), "queueType")
      assert.strictEqual(yield* subscriber({ prefetch: 65_536 }), "prefetch")
      assert.strictEqual(yield* subscriber({ deliveryLimit: 0 }), "deliveryLimit")
      assert.strictEqual(yield* subscriber({ deliveryLimit: 3, queueType: "classic" }), "deliveryLimit")
      assert.strictEqual(yield* subscriber({ deliveryLimit: 3, deadLetter: false }), "deliveryLimit")
      assert.strictEqual(yield* subscriber({ retryDelays: ["1 second", "Infinity"] }), "retryDelays[1]")
      assert.strictEqual(yield* subscriber({ subscribeTimeout: "Infinity" }), "subscribeTimeout")
    }))
  it.live("the secret is not in the error", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(RabbitBroker.layer({ url: "secret word" }))))
      assert.notInclude(`${error.message} ${JSON.stringify(error)}`, "secret")
    }))
})

describe("from the environment", () => {
  const read = <A>(config: Config.Config<A>, env: Record<string, string>) =>
    config.parse(ConfigProvider.constantCase(ConfigProvider.fromEnvRecord(env)))

  it.effect("everything", () =>
    Effect.gen(function*() {
      const { password, url, ...rest } = yield* read(RabbitConfig.publisher, {
        RABBITMQ_URL: "amqps://user:secret@host/v",
        RABBITMQ_PASSWORD: "other",
        RABBITMQ_TLS_CA: "PEM",
        RABBITMQ_HEARTBEAT: "5 seconds",
        RABBITMQ_MAX_IN_FLIGHT: "10",
        RABBITMQ_UNROUTABLE: "drop"
      })
      assert.strictEqual(Redacted.value(url as Redacted.Redacted), "amqps://user:secret@host/v")
      assert.strictEqual(Redacted.value(password!), "other")
      assert.notInclude(String(url), "secret")
      assert.strictEqual(rest.tls?.ca, "PEM")
      assert.strictEqual(rest.maxInFlight, 10)
      assert.strictEqual(rest.unroutable, "drop")
      assert.deepStrictEqual(rest.heartbeat, Duration.seconds(5))
      const consumer = yield* read(RabbitConfig.consumer, {
        RABBITMQ_URL: "amqp://host",
        RABBITMQ_QUEUE_TYPE: "classic",
        RABBITMQ_SINGLE_ACTIVE_CONSUMER: "true",
        RABBITMQ_RETRY_DELAYS: "1 second,1 minute"
      })
      assert.strictEqual(consumer.queueType, "classic")
      assert.isTrue(consumer.singleActiveConsumer)
      assert.deepStrictEqual(consumer.retryDelays, [Duration.seconds(1), Duration.minutes(1)])
    }))

  it.effect("what is missing or wrong is named", () =>
    Effect.gen(function*() {
      const missing = yield* Effect.flip(read(RabbitConfig.publisher, {}))
      assert.include(missing.message, "url")
      const wrong = yield* Effect.flip(
        read(RabbitConfig.consumer, { RABBITMQ_URL: "amqp://host", RABBITMQ_PREFETCH: "many" })
      )
      assert.include(wrong.message, "prefetch")
    }))

  it.live("as a layer", () =>
    RabbitBroker.layerConfig.pipe(
      Layer.build,
      Effect.scoped,
      Effect.flip,
      Effect.map((error) => assert.include(error.message, "maxInFlight")),
      Effect.provide(
        ConfigProvider.layer(ConfigProvider.constantCase(
          ConfigProvider.fromEnvRecord({ RABBITMQ_URL: "amqp://host", RABBITMQ_MAX_IN_FLIGHT: "0" })
        ))
      )
    ))
})

it("queues of different groups and topics have different names", () => {
  const names = [["a", "b:c"], ["a:b", "c"], ["a%3Ab", "c"], ["a", "b%3Ac"]].map(([group, topic]) =>
    RabbitTopology.queueName(group!, topic!)
  )
  assert.strictEqual(new Set(names).size, names.length)
})
