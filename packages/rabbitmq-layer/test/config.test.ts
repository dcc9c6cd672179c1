/** Settings: what is refused, and how they are read from the environment. */
import { assert, describe, it } from "@effect/vitest"
import { RabbitBroker, RabbitConfig, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Config, ConfigProvider, Effect, Layer, Redacted } from "effect"

const url = "amqp://127.0.0.1:1"

const failureOf = <A, E>(layer: Layer.Layer<A, E>): Effect.Effect<E> =>
  Effect.scoped(Effect.flip(Layer.build(layer))).pipe(Effect.orDie)

describe("a wrong setting fails when the layer is built, with the field's name", () => {
  const connections: ReadonlyArray<readonly [string, Partial<RabbitConfig.Connection>]> = [
    ["url", { url: "not a url" }],
    ["url", { url: Redacted.make("http://host") }],
    ["url", { url: "amqp:///vhost" }],
    ["url", { url: "amqp://user:%zz@host" }],
    ["heartbeat", { heartbeat: "10 millis" }],
    ["connectTimeout", { connectTimeout: "soon" as never }],
    ["reconnectDelay", { reconnectDelay: -1 }],
    ["drainTimeout", { drainTimeout: Infinity }],
    ["exchange", { exchange: "" }],
    ["exchange", { exchange: "x".repeat(256) }],
    ["tls", { tls: {} }],
    ["tls.key", { url: "amqps://host", tls: { certificate: "PEM" } }]
  ]
  for (const [field, options] of connections) {
    it.effect(`${field}: ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        const broker = yield* failureOf(RabbitBroker.layer({ url, ...options }))
        assert.deepStrictEqual([broker.settings, broker.field], ["RabbitBroker", field])
        const subscriber = yield* failureOf(RabbitSubscriber.layer({ url, ...options }))
        assert.deepStrictEqual([subscriber.settings, subscriber.field], ["RabbitSubscriber", field])
        assert.strictEqual((yield* Effect.flip(RabbitConfig.connection.check({ url, ...options }))).field, field)
      }))
  }

  const publishers: ReadonlyArray<readonly [string, Partial<RabbitConfig.Publisher>]> = [
    ["maxInFlight", { maxInFlight: 0 }],
    ["channels", { channels: 1.5 }],
    ["channels", { channels: 5, maxInFlight: 4 }],
    ["publishTimeout", { publishTimeout: 0 }],
    ["unroutable", { unroutable: "maybe" as never }]
  ]
  for (const [field, options] of publishers) {
    it.effect(`${field}: ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* failureOf(RabbitBroker.layer({ url, ...options }))).field, field)
      }))
  }

  const consumers: ReadonlyArray<readonly [string, Partial<RabbitConfig.Consumer>]> = [
    ["queueType", { queueType: "stream" as never }],
    ["queueName", { queueName: "name" as never }],
    ["prefetch", { prefetch: 65_536 }],
    ["deliveryLimit", { deliveryLimit: 0 }],
    ["deliveryLimit", { deliveryLimit: 3, queueType: "classic" }],
    ["deliveryLimit", { deliveryLimit: 3, deadLetter: false }],
    ["subscribeTimeout", { subscribeTimeout: "Infinity" }]
  ]
  for (const [field, options] of consumers) {
    it.effect(`${field}: ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* failureOf(RabbitSubscriber.layer({ url, ...options }))).field, field)
      }))
  }

  it.effect("without the secret", () =>
    Effect.gen(function*() {
      for (const url of ["secret word", "secret://host", "amqp://secret:%zz@host"]) {
        const error = yield* failureOf(RabbitBroker.layer({ url }))
        assert.notInclude(`${error.message} ${JSON.stringify(error)}`, "secret")
      }
    }))
})

describe("settings from the environment", () => {
  const fromEnvironment = (record: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnvRecord(record))

  it.effect("are all read", () =>
    Effect.gen(function*() {
      const publisher = yield* RabbitConfig.publisher.config
      assert.strictEqual(Redacted.value(publisher.url as Redacted.Redacted), "amqps://user:secret@host/v")
      assert.strictEqual(Redacted.value(publisher.password!), "other secret")
      assert.notInclude(JSON.stringify(publisher), "secret")
      assert.deepStrictEqual(publisher.tls, {
        ca: "PEM",
        certificate: undefined,
        key: undefined,
        serverName: undefined
      })
      assert.strictEqual(publisher.maxInFlight, 10)
      assert.strictEqual(publisher.unroutable, "drop")
      assert.strictEqual(publisher.heartbeat, 5_000)
      const consumer = yield* RabbitConfig.consumer.config
      assert.strictEqual(consumer.queueType, "classic")
      assert.isTrue(consumer.singleActiveConsumer)
      // What they give is what the layers take
      yield* RabbitConfig.publisher.check(publisher)
      yield* RabbitConfig.consumer.check(consumer)
    }).pipe(Effect.provide(fromEnvironment({
      RABBITMQ_URL: "amqps://user:secret@host/v",
      RABBITMQ_PASSWORD: "other secret",
      RABBITMQ_TLS_CA: "PEM",
      RABBITMQ_HEARTBEAT: "5 seconds",
      RABBITMQ_MAX_IN_FLIGHT: "10",
      RABBITMQ_UNROUTABLE: "drop",
      RABBITMQ_QUEUE_TYPE: "classic",
      RABBITMQ_SINGLE_ACTIVE_CONSUMER: "true"
    }))))

  const build = (record: Record<string, string>, layer: Layer.Layer<never, unknown>) =>
    Effect.map(failureOf(layer.pipe(Layer.provide(fromEnvironment(record)))), String)

  it.effect("that are missing or wrong are named", () =>
    Effect.gen(function*() {
      for (const layer of [RabbitBroker.layerFromEnv, RabbitSubscriber.layerFromEnv]) {
        assert.match(yield* build({}, layer), /RABBITMQ_URL/)
      }
      const server = { RABBITMQ_URL: url }
      assert.match(
        yield* build({ ...server, RABBITMQ_PREFETCH: "many" }, RabbitSubscriber.layerFromEnv),
        /RABBITMQ_PREFETCH/
      )
      assert.match(
        yield* build({ ...server, RABBITMQ_MAX_IN_FLIGHT: "0" }, RabbitBroker.layerFromEnv),
        /RABBITMQ_MAX_IN_FLIGHT/
      )
      // Several together
      assert.match(
        yield* build({ ...server, RABBITMQ_CHANNELS: "3", RABBITMQ_MAX_IN_FLIGHT: "2" }, RabbitBroker.layerFromEnv),
        /channels of RabbitBroker/
      )
    }))

  it.effect("come under names of your own with layerConfig", () =>
    Effect.gen(function*() {
      const options: Config.Wrap<RabbitConfig.Publisher> = {
        url: Config.Redacted("BROKER"),
        channels: Config.Int("CHANNELS"),
        route: Config.succeed((topic) => ({ exchange: "", routingKey: topic }))
      }
      assert.match(yield* build({ CHANNELS: "1" }, RabbitBroker.layerConfig(options)), /BROKER/)
      assert.match(
        yield* build({ BROKER: url, CHANNELS: "0" }, RabbitBroker.layerConfig(options)),
        /channels of RabbitBroker/
      )
    }))
})

it("queues of different groups and topics have different names", () => {
  const names = [["a", "b:c"], ["a:b", "c"], ["a%3Ab", "c"], ["a", "b%3Ac"]].map(([group, topic]) =>
    RabbitTopology.queueName(group!, topic!)
  )
  assert.strictEqual(new Set(names).size, names.length)
})
