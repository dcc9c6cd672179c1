/**
 * Publishing to Apache Kafka.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import { assertWhole } from "@event-flow/core/BrokerLayer"
import type * as Settings from "@event-flow/core/Settings"
import * as Telemetry from "@event-flow/core/Telemetry"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as KafkaError from "./internal/errors.ts"
import * as Sender from "./internal/publish/sender.ts"
import { publisherSettings } from "./internal/settings.ts"
import * as KafkaConfig from "./KafkaConfig.ts"

/**
 * A `Broker` on Kafka.
 *
 * **Details**
 *
 * `publish` succeeds when the brokers have acknowledged every message (all
 * in-sync replicas by default). Messages of concurrent calls share requests;
 * each call gets its own result. Messages of one key keep their order: a
 * partition has at most one batch in flight, and a batch that is retried goes
 * before later messages. The key chooses the partition as Java's default
 * partitioner does. Messages without a key go to one partition after another, a
 * batch to each.
 *
 * While the buffer is full, `publish` waits. A publish fails at the latest after
 * `publishTimeout`: with `Unreachable` when the messages were not sent and will
 * not be, with `Timeout` when they may have arrived. An interrupted publish is not
 * sent unless it was sent before.
 *
 * **Gotchas**
 *
 * At least once: after a `Timeout`, publishing again can make a duplicate.
 * Retries within a publish make no duplicates (`idempotent`).
 *
 * **Example** (A broker)
 *
 * ```ts
 * import { KafkaBroker } from "@event-flow/kafka-layer"
 *
 * const Live = KafkaBroker.layer({ bootstrapServers: ["127.0.0.1:9092"], compression: "lz4" })
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: KafkaConfig.Publisher
): Layer.Layer<Broker.Broker, Settings.InvalidSetting> => Layer.effect(Broker.Broker, make(options))

/**
 * The same with options from `Config`s of your own: one for each option, or one
 * for all of them.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<KafkaConfig.Publisher>
): Layer.Layer<Broker.Broker, Settings.InvalidSetting | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * The same with options from the environment, or whatever the `ConfigProvider`
 * reads: `KAFKA_BOOTSTRAP_SERVERS` and so on; see `KafkaConfig.publisher`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv: Layer.Layer<Broker.Broker, Settings.InvalidSetting | Config.ConfigError> = layerConfig(
  KafkaConfig.publisher.config
)

// --- internal ---

const make = Effect.fnUntraced(function*(options: KafkaConfig.Publisher) {
  const settings = yield* publisherSettings(options)
  const { metrics } = yield* Telemetry.Settings
  const { buffer, missingTopics } = yield* Sender.make(settings, { metrics })
  return Broker.Broker.of({
    name: "kafka",
    publish: (messages) =>
      Effect.callback((resume) => {
        messages.forEach(assertWhole)
        const publish = buffer.offer(messages, resume)
        return publish === undefined ? undefined : Effect.sync(() => buffer.cancel(publish))
      }),
    missingTopics: (topics) =>
      Effect.mapError(
        missingTopics(topics),
        (failure) =>
          new Broker.PublishError({
            topic: topics.join(", "),
            messageType: "(none)",
            reason: new Broker.Unreachable(KafkaError.reasonFields(failure))
          })
      )
  })
})
