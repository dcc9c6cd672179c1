/**
 * Consuming from Apache Kafka.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Settings from "@event-flow/core/Settings"
import * as Subscriber from "@event-flow/core/Subscriber"
import * as Telemetry from "@event-flow/core/Telemetry"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Subscription from "./internal/consume/subscription.ts"
import { consumerSettings } from "./internal/settings.ts"
import * as KafkaConfig from "./KafkaConfig.ts"
import * as KafkaHealth from "./KafkaHealth.ts"
import * as KafkaRetry from "./KafkaRetry.ts"

/**
 * The services that the layers provide.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export type Services = Subscriber.Subscriber | KafkaHealth.KafkaHealth | KafkaRetry.RetrySubscriber

/**
 * A `Subscriber` on Kafka's consumer groups, its `KafkaHealth`, and the
 * `RetrySubscriber` that `KafkaRetry` builds on.
 *
 * **Details**
 *
 * At least once: an offset is committed when its message and all before it in the
 * partition are acknowledged. Partitions are handled in parallel, and so are the
 * keys of a partition: the lane of a delivery is its topic, partition and key.
 * Messages without a key have no lane.
 *
 * Memory is bounded whatever the lag: a partition is fetched only while few of
 * its messages wait. Commits are batched by count and time. They name the
 * generation of the group in which the messages were handled, so a broker refuses
 * them once the partition has gone to another consumer.
 *
 * When partitions are taken away, nothing more of them is delivered. Handlers that
 * run may end within `revokeTimeout` and are interrupted after that; what is done
 * is committed before the group goes on. When brokers cannot be reached, or the
 * group has removed this consumer, it joins again by itself.
 *
 * `nack` delivers the message again from memory, after `redeliveryDelay`, together
 * with later messages of its lane.
 *
 * **Gotchas**
 *
 * A handler that takes longer than `revokeTimeout` while the group rebalances is
 * interrupted, and another consumer handles its message again.
 *
 * Kafka has no ephemeral groups: `subscribe` fails for `ephemeral`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: KafkaConfig.Consumer
): Layer.Layer<Services, Settings.InvalidSetting> => Layer.effectContext(make(options))

/**
 * The same with options from `Config`s of your own: one for each option, or one
 * for all of them.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<KafkaConfig.Consumer>
): Layer.Layer<Services, Settings.InvalidSetting | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * The same with options from the environment, or whatever the `ConfigProvider`
 * reads: `KAFKA_BOOTSTRAP_SERVERS` and so on; see `KafkaConfig.consumer`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv: Layer.Layer<Services, Settings.InvalidSetting | Config.ConfigError> = layerConfig(
  KafkaConfig.consumer.config
)

// --- internal ---

const make = Effect.fnUntraced(function*(options: KafkaConfig.Consumer) {
  const settings = yield* consumerSettings(options)
  const { metrics } = yield* Telemetry.Settings
  const registry = new Set<() => KafkaHealth.SubscriptionHealth>()
  const subscriber = Subscriber.Subscriber.of({
    name: "kafka",
    subscribe: (subscribe) => Subscription.make({ settings, subscribe, retryTopics: [], metrics, registry })
  })
  const retrySubscriber = KafkaRetry.RetrySubscriber.of({
    subscribe: ({ retryTopics, ...subscribe }) =>
      Subscription.make({
        settings,
        subscribe: { ...subscribe, topics: [...subscribe.topics, ...retryTopics.map(({ topic }) => topic)] },
        retryTopics,
        metrics,
        registry
      })
  })
  const health = KafkaHealth.KafkaHealth.of({
    subscriptions: Effect.sync(() => Array.from(registry, (subscription) => subscription()))
  })
  return Context.make(Subscriber.Subscriber, subscriber).pipe(
    Context.add(KafkaHealth.KafkaHealth, health),
    Context.add(KafkaRetry.RetrySubscriber, retrySubscriber)
  )
})
