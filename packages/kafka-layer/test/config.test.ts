/** Settings: what is refused, and how they are read from the environment. */
import { assert, describe, it } from "@effect/vitest"
import { KafkaBroker, KafkaConfig, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { Config, ConfigProvider, Effect, Layer, Redacted, Schema } from "effect"

const bootstrapServers = ["127.0.0.1:1"]

const failureOf = <E>(layer: Layer.Layer<never, E>): Effect.Effect<E> =>
  Effect.scoped(Effect.flip(Layer.build(layer))).pipe(Effect.orDie)

describe("a wrong setting fails when the layer is built, with the field's name", () => {
  const publishers: ReadonlyArray<readonly [string, Partial<KafkaConfig.Publisher>]> = [
    ["bootstrapServers", { bootstrapServers: [] }],
    ["bootstrapServers[0]", { bootstrapServers: ["localhost"] }],
    ["bootstrapServers[0]", { bootstrapServers: ["localhost:0"] }],
    ["bootstrapServers[1]", { bootstrapServers: ["localhost:1", "localhost:99999"] }],
    ["clientId", { clientId: "a b" }],
    ["requestTimeout", { requestTimeout: 0 }],
    ["requestTimeout", { requestTimeout: Number.NaN }],
    ["requestTimeout", { requestTimeout: "200 days" }],
    ["publishTimeout", { publishTimeout: Infinity }],
    ["drainTimeout", { drainTimeout: -1 }],
    ["linger", { linger: -1 }],
    ["linger", { linger: Number.NaN }],
    ["maxBatchMessages", { maxBatchMessages: 0 }],
    ["maxInFlight", { maxInFlight: 1.5 }],
    ["acks", { acks: "none" as never }],
    ["idempotent", { acks: "leader", idempotent: true }],
    ["compression", { compression: "brotli" as never }],
    ["sasl.mechanism", {
      sasl: { mechanism: "GSSAPI" as never, username: "a", password: Redacted.make("b") }
    }],
    ["sasl.username", { sasl: { mechanism: "PLAIN", username: "", password: Redacted.make("b") } }],
    ["tls.key", { tls: { certificate: "x" } }],
    ["tls.certificate", { tls: { key: Redacted.make("x") } }]
  ]
  for (const [field, options] of publishers) {
    it.effect(`${field}: ${JSON.stringify(Object.values(options)[0])}`, () =>
      Effect.gen(function*() {
        const error = yield* failureOf(KafkaBroker.layer({ bootstrapServers, ...options }))
        assert.deepStrictEqual([error._tag, error.settings, error.field], ["InvalidSetting", "KafkaBroker", field])
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
        const error = yield* failureOf(KafkaSubscriber.layer({ bootstrapServers, ...options }))
        assert.deepStrictEqual([error.settings, error.field], ["KafkaSubscriber", field])
      }))
  }
})

describe("settings from the environment", () => {
  const fromEnvironment = (record: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnvRecord(record))

  it.effect("are all read", () =>
    Effect.gen(function*() {
      const publisher = yield* KafkaConfig.publisher.config
      assert.deepStrictEqual(publisher.bootstrapServers, ["one:9092", "two:9092"])
      assert.strictEqual(publisher.sasl?.mechanism, "SCRAM-SHA-256")
      assert.strictEqual(Redacted.value(publisher.sasl!.password), "secret")
      assert.notInclude(JSON.stringify(publisher), "secret")
      assert.strictEqual(publisher.tls, true)
      assert.strictEqual(publisher.compression, "zstd")
      assert.strictEqual(publisher.maxBatchMessages, 7)
      assert.strictEqual(publisher.linger, 5)
      assert.strictEqual((yield* KafkaConfig.consumer.config).startFrom, "latest")
      // What they give is what the layers take
      yield* KafkaConfig.publisher.check(publisher)
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

  const build = (record: Record<string, string>, layer: Layer.Layer<never, unknown>) =>
    Effect.map(failureOf(layer.pipe(Layer.provide(fromEnvironment(record)))), String)

  it.effect("that are missing or wrong are named", () =>
    Effect.gen(function*() {
      for (const layer of [KafkaBroker.layerFromEnv, KafkaSubscriber.layerFromEnv, KafkaTopics.layerFromEnv]) {
        assert.match(yield* build({}, layer), /KAFKA_BOOTSTRAP_SERVERS/)
      }
      const server = { KAFKA_BOOTSTRAP_SERVERS: "127.0.0.1:1" }
      assert.match(yield* build({ ...server, KAFKA_ACKS: "none" }, KafkaBroker.layerFromEnv), /KAFKA_ACKS/)
      assert.match(
        yield* build({ ...server, KAFKA_MAX_IN_FLIGHT: "0" }, KafkaBroker.layerFromEnv),
        /whole number from 1.*KAFKA_MAX_IN_FLIGHT/s
      )
      assert.match(
        yield* build({ ...server, KAFKA_SASL_MECHANISM: "PLAIN" }, KafkaSubscriber.layerFromEnv),
        /KAFKA_SASL_USERNAME/
      )
      // Several together
      const together = { ...server, KAFKA_ACKS: "leader", KAFKA_IDEMPOTENT: "true" }
      assert.match(yield* build(together, KafkaBroker.layerFromEnv), /idempotent of KafkaBroker/)
    }))

  it.effect("come under names of your own with layerConfig", () =>
    Effect.gen(function*() {
      const options: Config.Wrap<KafkaConfig.Consumer> = {
        bootstrapServers: Config.Array(Schema.String, "SERVERS"),
        sessionTimeout: Config.Duration("SESSION"),
        sasl: {
          mechanism: Config.succeed("PLAIN"),
          username: Config.String("USER"),
          password: Config.Redacted("PASSWORD")
        }
      }
      const env = { SERVERS: "127.0.0.1:1", SESSION: "1 second", USER: "alice", PASSWORD: "secret" }
      assert.match(yield* build({ ...env, USER: "" }, KafkaSubscriber.layerConfig(options)), /USER/)
      assert.match(
        yield* build(env, KafkaSubscriber.layerConfig(options)),
        /heartbeatInterval of KafkaSubscriber: it must be shorter than sessionTimeout \(1000 ms\)/
      )
      yield* Effect.scoped(Layer.build(
        KafkaSubscriber.layerConfig(options).pipe(Layer.provide(fromEnvironment({ ...env, SESSION: "60 seconds" })))
      ))
    }))
})
