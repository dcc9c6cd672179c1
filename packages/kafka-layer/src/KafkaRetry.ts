/**
 * Delayed retries through topics: a message that failed waits in a retry topic
 * of its consumer group and is delivered again when its delay is over. No other
 * message waits for it.
 *
 * **Order is lost**: while a message waits, later messages of its key are
 * handled. Where the order of a key matters, retry in place, which makes them wait
 * (`ConsumerPolicy.retry`, the default policy), and use no retry topics.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import { retryPolicy } from "@event-flow/core/BrokerLayer"
import type * as ConsumerPolicy from "@event-flow/core/ConsumerPolicy"
import * as EventConsumer from "@event-flow/core/EventConsumer"
import type * as NotificationEvent from "@event-flow/core/NotificationEvent"
import * as Settings from "@event-flow/core/Settings"
import * as Subscriber from "@event-flow/core/Subscriber"
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { TopicSpec } from "./KafkaTopics.ts"

const TypeId = "~@event-flow/kafka-layer/KafkaRetry"

/**
 * The parts from which the name of a retry topic is made.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Step {
  readonly group: string
  /** The topic that the messages come from. */
  readonly topic: string
  /** Which delay; the first is 1. */
  readonly step: number
  readonly delay: Duration.Duration
}

/**
 * Options of the delayed retries of a consumer group.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The consumer group. Its failures are delivered to this group only. */
  readonly group: string
  /**
   * How long a message waits before each retry. When a delay is removed later, its
   * retry topic is no longer consumed: wait until it is empty.
   */
  readonly delays: Arr.NonEmptyReadonlyArray<Duration.Input>
  /**
   * Retries in place before each delay. Later messages of the key wait for them,
   * so they should be short. Default: none.
   */
  readonly inPlace?: Schedule.Schedule<unknown, ConsumerPolicy.Failure> | undefined
  /**
   * What to do when the message has failed after the last delay, and with failures
   * that no delay can mend. Default: dead-letter the message, to its first topic
   * with `.dead-letter`.
   */
  readonly otherwise?: ConsumerPolicy.Final | undefined
  /**
   * The retry topic of a step. Topics and groups may share a retry topic, steps may not.
   * Default: `defaultTopicName`.
   */
  readonly topicName?: ((step: Step) => string) | undefined
}

/**
 * How a consumer group retries: the value from which its consumer and its topics
 * are made.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface KafkaRetry {
  readonly [TypeId]: typeof TypeId
  readonly group: string
  readonly delays: Arr.NonEmptyReadonlyArray<Duration.Duration>
  /** For `layer`: with a consumer that does not read retry topics, messages would stay in them. */
  readonly "~policy": ConsumerPolicy.ConsumerPolicy
  /** The retry topics of a topic, one for each delay. */
  readonly topicsOf: (topic: string) => ReadonlyArray<RetryTopic>
}

/**
 * A topic whose messages are delivered when they are due.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface RetryTopic {
  readonly topic: string
  /** The topic that its messages come from. */
  readonly source: string
  /** The longest wait, in milliseconds. */
  readonly delay: number
}

/**
 * Options of a subscription to topics and their retry topics.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface SubscribeOptions extends Subscriber.SubscribeOptions {
  readonly retryTopics: ReadonlyArray<RetryTopic>
}

/**
 * A `Subscriber` that knows retry topics; `KafkaSubscriber`'s layers provide it.
 *
 * **Details**
 *
 * Deliveries of a retry topic look like those of the topic that they come from:
 * `message.topic` and `origin` are those of the first delivery. Until it is due, a
 * message is neither delivered nor counted by `maxInFlight`.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class RetrySubscriber extends Context.Service<RetrySubscriber, {
  readonly subscribe: (
    options: SubscribeOptions
  ) => Effect.Effect<Subscriber.Subscription, Subscriber.SubscribeError, Scope.Scope>
}>()("@event-flow/kafka-layer/KafkaRetry/RetrySubscriber") {}

/**
 * `<topic>.<group>.retry.<step>`, with `_` for characters that Kafka does not
 * take. Two groups whose names only differ in such characters share their retry
 * topics; each skips the messages of the other.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const defaultTopicName = ({ group, step, topic }: Step): string =>
  `${topic}.${group.replaceAll(/[^a-zA-Z0-9._-]/g, "_")}.retry.${step}`

/**
 * Says how a group retries typed failures; undecodable messages and defects
 * are not retried. Throws `Settings.InvalidSetting` for an empty name of a group, a
 * delay below 1 millisecond, or one that never ends.
 *
 * **Example** (Retries after 5 seconds and after another minute)
 *
 * ```ts
 * import { EventHandler, NotificationEvent } from "@event-flow/core"
 * import { KafkaBroker, KafkaRetry, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
 * import { Effect, Layer } from "effect"
 *
 * class Announced extends NotificationEvent.Class<Announced>()("Announced", {}, { topic: "meetings" }) {}
 * const Show = EventHandler.make("Show", { on: Announced })
 *
 * const connection = { bootstrapServers: ["127.0.0.1:9092"] }
 * const retry = KafkaRetry.make({ group: "board", delays: ["5 seconds", "1 minute"] })
 *
 * // In place of EventConsumer.layer
 * const Board = KafkaRetry.layer(retry, [Show], { concurrency: 16 }).pipe(
 *   Layer.provide(Show.toLayer(() => Effect.log("announced"))),
 *   Layer.provide([KafkaBroker.layer(connection), KafkaSubscriber.layer(connection)])
 * )
 * const ensureTopics = KafkaTopics.KafkaTopics.use((topics) =>
 *   topics.ensure(KafkaRetry.specs(retry, [Announced], { partitions: 4 }))
 * )
 * ```
 *
 * **Example** (Two quick retries in place before each delay)
 *
 * ```ts
 * import { KafkaRetry } from "@event-flow/kafka-layer"
 * import { Schedule } from "effect"
 *
 * const retry = KafkaRetry.make({
 *   group: "board",
 *   delays: ["1 minute"],
 *   inPlace: Schedule.spaced("50 millis").pipe(Schedule.upTo({ times: 2 }))
 * })
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): KafkaRetry => {
  const { inPlace, otherwise, topicName = defaultTopicName } = options
  const { delays: millis, group } = settings.checkUnsafe({ group: options.group, delays: options.delays })
  const delays = Arr.map(millis, (delay) => Duration.millis(delay))
  return {
    [TypeId]: TypeId,
    group,
    delays,
    "~policy": retryPolicy({
      group,
      delays,
      inPlace,
      otherwise,
      topicName: (topic, step, delay) => topicName({ group, topic, step, delay })
    }),
    topicsOf: (topic) =>
      delays.map((delay, i) => ({
        topic: topicName({ group, topic, step: i + 1, delay }),
        source: topic,
        delay: Math.ceil(Duration.toMillis(delay))
      }))
  }
}

/**
 * The specs for `KafkaTopics` of the retry topics of topics, or of the topics of
 * notification events. Retry topics delete messages by age and never by key. A
 * `retention` below twice the delay is raised to that; without one, the broker's
 * default must be longer than the delay.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const specs = (
  retry: KafkaRetry,
  of: ReadonlyArray<NotificationEvent.AnyClass | string>,
  options?: Omit<TopicSpec, "topic">
): ReadonlyArray<TopicSpec> => {
  const found = new Map<string, TopicSpec>()
  for (const source of of) {
    for (const { delay, topic } of retry.topicsOf(typeof source === "string" ? source : source.route.topic)) {
      found.set(topic, {
        topic,
        ...options,
        retention: options?.retention === undefined
          ? undefined
          : Duration.max(Duration.fromInputUnsafe(options.retention), Duration.millis(2 * delay)),
        // By key, a message would be deleted while it waits as soon as the next of its key fails
        settings: { ...options?.settings, "cleanup.policy": "delete" }
      })
    }
  }
  return [...found.values()]
}

/**
 * Options of the consumer; its group and policy come from the retry.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface ConsumerOptions<Dedupe extends boolean = boolean>
  extends Omit<EventConsumer.Options<Dedupe>, "group" | "policy">
{
  /**
   * Makes the policy from that of the retry: `ConsumerPolicy.ignoreUnknownTypes`,
   * or one that dead-letters at once what no retry can mend. Default: the policy of
   * the retry.
   */
  readonly policy?: ((retry: ConsumerPolicy.ConsumerPolicy) => ConsumerPolicy.ConsumerPolicy) | undefined
}

/**
 * The requirements of a consumer with retries: a `RetrySubscriber` in place of a
 * `Subscriber`, so that it does not compile with a subscriber without retry topics.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Requirements<S extends EventConsumer.Source, Dedupe extends boolean> =
  | Exclude<EventConsumer.Requirements<S, Dedupe>, Subscriber.Subscriber>
  | RetrySubscriber

/**
 * `EventConsumer.layer` with retry topics.
 *
 * **Details**
 *
 * A message whose handler failed with a typed error is published to the retry
 * topic of the next delay and acknowledged when the brokers have it: a crash in
 * between makes a duplicate and loses nothing. The message keeps its id,
 * attributes, key and body, so `Inbox` and partitioning by key work as before. The
 * headers of the retry (`BrokerLayer.RetryHeaders`) say where it comes from, what happened and when it is
 * due. The consumer reads the retry topics beside its topics, and its policy sees
 * a retried message under its first topic.
 *
 * A partition of a retry topic holds its messages back until the first one is due.
 * They use no worker and none of `maxInFlight`; at most `maxBufferedPerPartition`
 * of them, and one fetch, are in memory. Offsets are not committed beyond a
 * message that waits, so it survives restarts and rebalances.
 *
 * **Gotchas**
 *
 * A retried message loses the order of its key: later messages are handled first.
 * Retry topics must exist: subscribing fails with `UnknownTopic` and names those
 * that are missing. When the clocks of two machines differ, their due times differ
 * as much.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = <const S extends EventConsumer.Source, const Dedupe extends boolean = false>(
  retry: KafkaRetry,
  source: S,
  options?: ConsumerOptions<Dedupe>
): Layer.Layer<EventConsumer.EventConsumer, EventConsumer.StartError, Requirements<S, Dedupe>> =>
  Layer.provide(EventConsumer.layer(source, consumerOptions(retry, options)), layerSubscriber(retry))

/**
 * `EventConsumer.run` with retry topics; see `layer`.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const run = <const S extends EventConsumer.Source, const Dedupe extends boolean = false>(
  retry: KafkaRetry,
  source: S,
  options?: ConsumerOptions<Dedupe>
): Effect.Effect<never, EventConsumer.ConsumerError | EventConsumer.StartError, Requirements<S, Dedupe>> =>
  Effect.provide(EventConsumer.run(source, consumerOptions(retry, options)), layerSubscriber(retry))

// --- internal ---

const settings = Settings.make("KafkaRetry", {
  prefix: "KAFKA_RETRY",
  schema: Schema.Struct({
    group: Schema.String.check(Schema.isNonEmpty({ expected: "the name of a consumer group" })),
    delays: Schema.NonEmptyArray(Settings.duration())
  })
})

const consumerOptions = <Dedupe extends boolean>(
  retry: KafkaRetry,
  options: ConsumerOptions<Dedupe> | undefined
): EventConsumer.Options<Dedupe> => ({
  ...options,
  group: retry.group,
  policy: options?.policy === undefined ? retry["~policy"] : options.policy(retry["~policy"])
})

/** The consumer's `Subscriber`, which adds the retry topics to the topics of a subscription. */
const layerSubscriber = (retry: KafkaRetry): Layer.Layer<Subscriber.Subscriber, never, RetrySubscriber> =>
  Layer.effect(
    Subscriber.Subscriber,
    Effect.map(RetrySubscriber, (kafka) =>
      Subscriber.Subscriber.of({
        name: "kafka",
        subscribe: (options) => {
          const retryTopics = topicsFor(retry, options.topics)
          return typeof retryTopics !== "string"
            ? kafka.subscribe({ ...options, retryTopics })
            : Effect.fail(Subscriber.subscribeError(options, new Broker.Rejected({ detail: retryTopics })))
        }
      }))
  )

/** The retry topics of all topics, each once, or what is wrong with them. */
const topicsFor = (retry: KafkaRetry, topics: ReadonlyArray<string>): ReadonlyArray<RetryTopic> | string => {
  const found = new Map<string, { readonly step: number; readonly retryTopic: RetryTopic }>()
  for (const source of topics) {
    for (const [step, retryTopic] of retry.topicsOf(source).entries()) {
      const name = retryTopic.topic
      if (!/^[a-zA-Z0-9._-]{1,249}$/.test(name)) return `"${name}" cannot be the name of a retry topic: use topicName`
      if (topics.includes(name)) return `"${name}" is a retry topic and a topic of the consumer`
      const other = found.get(name)
      // A message would wait behind those with a longer delay
      if (other !== undefined && other.step !== step) return `"${name}" is the retry topic of two delays`
      if (other === undefined) found.set(name, { step, retryTopic })
    }
  }
  return Array.from(found.values(), ({ retryTopic }) => retryTopic)
}
