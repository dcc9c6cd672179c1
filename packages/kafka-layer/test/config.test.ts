import { assert, describe, it } from "@effect/vitest"
import { KafkaBroker, KafkaConfig, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { ConfigProvider, Effect, Layer, Redacted } from "effect"

const bootstrapServers = ["127.0.0.1:1"]

const fieldOf = (layer: Layer.Layer<never, KafkaConfig.KafkaConfigError>): Effect.Effect<string> =>
  Effect.scoped(Effect.map(Effect.flip(Layer.build(layer)), (error) => error.field)).pipe(Effect.orDie)

describe("a wrong setting fails when the layer is built, with the field's name", () => {
  const publishers: ReadonlyArray<readonly [string, Partial<KafkaConfig.Publisher>]> = [
    ["bootstrapServers", { bootstrapServers: [] }],
    ["bootstrapServers", { bootstrapServers: ["localhost"] }],
    ["bootstrapServers", { bootstrapServers: ["localhost:0"] }],
    ["bootstrapServers", { bootstrapServers: ["localhost:99999"] }],
    ["clientId", { clientId: "a b" }],
    ["requestTimeout", { requestTimeout: 0 }],
    ["requestTimeout", { requestTimeout: Number.NaN }],
    ["requestTimeout", { requestTimeout: "200 days" }],
    ["linger", { linger: -1 }],
    ["maxBatchMessages", { maxBatchMessages: 0 }],
    ["maxInFlight", { maxInFlight: 1.5 }],
    ["acks", { acks: "none" as never }],
    ["idempotent", { acks: "leader", idempotent: true }],
    ["compression", { compression: "brotli" as never }],
    ["sasl.mechanism", {
      sasl: { mechanism: "GSSAPI" as never, username: "a", password: Redacted.make("b") }
    }],
    ["sasl.username", { sasl: { mechanism: "PLAIN", username: "", password: Redacted.make("b") } }],
    ["tls", { tls: { certificate: "x" } }]
  ]
  for (const [field, options] of publishers) {
    it.effect(`${field}: ${JSON.stringify(Object.values(options)[0])}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* fieldOf(KafkaBroker.layer({ bootstrapServers, ...options })), field)
      }))
  }

  const consumers: ReadonlyArray<readonly [string, Partial<KafkaConfig.Consumer>]> = [
    ["startFrom", { startFrom: "middle" as never }],
    ["heartbeatInterval", { heartbeatInterval: "40 seconds" }],
    ["rebalanceTimeout", { rebalanceTimeout: "20 seconds" }],
    ["revokeTimeout", { revokeTimeout: "30 seconds" }],
    ["commitCount", { commitCount: -1 }]
  ]
  for (const [field, options] of consumers) {
    it.effect(`${field}: ${JSON.stringify(Object.values(options)[0])}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* fieldOf(KafkaSubscriber.layer({ bootstrapServers, ...options })), field)
      }))
  }
})

describe("configuration from a ConfigProvider", () => {
  const fromEnvironment = (record: Record<string, string>) =>
    ConfigProvider.layer(ConfigProvider.fromEnvRecord(record).pipe(ConfigProvider.constantCase))

  it.effect("reads everything", () =>
    Effect.gen(function*() {
      const publisher = yield* KafkaConfig.publisher
      assert.deepStrictEqual(publisher.bootstrapServers, ["one:9092", "two:9092"])
      assert.strictEqual(publisher.sasl?.mechanism, "SCRAM-SHA-256")
      assert.strictEqual(Redacted.value(publisher.sasl!.password), "secret")
      assert.notInclude(JSON.stringify(publisher), "secret")
      assert.strictEqual(publisher.tls, true)
      assert.strictEqual(publisher.compression, "zstd")
      assert.strictEqual(publisher.maxBatchMessages, 7)
      assert.strictEqual((yield* KafkaConfig.consumer).startFrom, "latest")
    }).pipe(Effect.provide(fromEnvironment({
      KAFKA_BOOTSTRAP_SERVERS: "one:9092, two:9092",
      KAFKA_TLS: "true",
      KAFKA_SASL_MECHANISM: "SCRAM-SHA-256",
      KAFKA_SASL_USERNAME: "alice",
      KAFKA_SASL_PASSWORD: "secret",
      KAFKA_COMPRESSION: "zstd",
      KAFKA_MAX_BATCH_MESSAGES: "7",
      KAFKA_LINGER: "5 millis",
      KAFKA_START_FROM: "latest"
    }))))

  it.effect("says which is missing or wrong", () =>
    Effect.gen(function*() {
      const build = (record: Record<string, string>, layer: Layer.Layer<never, unknown>) =>
        Effect.scoped(Effect.flip(Layer.build(layer.pipe(Layer.provide(fromEnvironment(record)))))).pipe(
          Effect.map(String)
        )
      for (const layer of [KafkaBroker.layerConfig, KafkaSubscriber.layerConfig, KafkaTopics.layerConfig]) {
        assert.match(yield* build({}, layer), /bootstrapServers/i)
      }
      const server = { KAFKA_BOOTSTRAP_SERVERS: "127.0.0.1:1" }
      assert.match(yield* build({ ...server, KAFKA_ACKS: "none" }, KafkaBroker.layerConfig), /acks/)
      assert.match(yield* build({ ...server, KAFKA_MAX_IN_FLIGHT: "0" }, KafkaBroker.layerConfig), /maxInFlight/)
      assert.match(
        yield* build({ ...server, KAFKA_SASL_MECHANISM: "PLAIN" }, KafkaSubscriber.layerConfig),
        /saslUsername/
      )
    }))
})
