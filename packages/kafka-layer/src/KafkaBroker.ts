/**
 * Publishing to Apache Kafka.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as Message from "@event-flow/core/Message"
import * as Telemetry from "@event-flow/core/Telemetry"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Sender from "./internal/sender.ts"
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
 * partition has one batch on its way at most, and what is retried goes before
 * what came after it. The key chooses the partition as Java's default
 * partitioner does; messages without a key go to one partition after another,
 * a batch to each.
 *
 * While the buffer is full, `publish` waits. A publish fails at the latest after
 * `deliveryTimeout`: with `Unreachable` when it never left, with `Timeout` when
 * nobody knows. A publish that is interrupted is not sent if it had not left.
 *
 * **Gotchas**
 *
 * At least once: after a `Timeout`, publishing again can make a duplicate.
 * Within a publish, retries make none (`idempotent`).
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
): Layer.Layer<Broker.Broker, KafkaConfig.KafkaConfigError> => Layer.effect(Broker.Broker, make(options))

// --- internal ---

const make = Effect.fnUntraced(function*(options: KafkaConfig.Publisher) {
  const settings = yield* publisherSettings(options)
  const { metrics } = yield* Telemetry.Settings
  const accumulator = yield* Sender.make(settings, { metrics })
  return Broker.Broker.of({
    name: "kafka",
    publish: (messages) =>
      Effect.callback((resume) => {
        messages.forEach(Message.assertWhole)
        const publish = accumulator.offer(messages, resume)
        return publish === undefined ? undefined : Effect.sync(() => accumulator.cancel(publish))
      })
  })
})

// --- layers, below what they are made of ---

/**
 * The same with everything read from the `ConfigProvider`; see
 * `KafkaConfig.publisher` for the names.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<Broker.Broker, KafkaConfig.KafkaConfigError | Config.ConfigError> = Layer.unwrap(
  Effect.map(KafkaConfig.publisher, layer)
)
