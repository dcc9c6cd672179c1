/**
 * Delayed retries through topics: a message that failed waits in a retry topic
 * of its consumer group and comes again when its delay is over. Nothing waits
 * behind it meanwhile.
 *
 * **Order is lost**: while a message waits, later messages of its key are
 * handled. Where the order of a key matters, retry in place, which has them wait
 * (`ConsumerPolicy.retry`, the default policy), and use no retry topics.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as ConsumerPolicy from "@event-flow/core/ConsumerPolicy"
import * as EventConsumer from "@event-flow/core/EventConsumer"
import type * as NotificationEvent from "@event-flow/core/NotificationEvent"
import * as Postponed from "@event-flow/core/Postponed"
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
 * A retry topic is named for these.
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
  /** The consumer group, whose failures are retried by itself alone. */
  readonly group: string
  /**
   * How long a message waits before each retry. The retry topic of a delay that
   * is taken away later is not consumed any more: empty it before.
   */
  readonly delays: Arr.NonEmptyReadonlyArray<Duration.Input>
  /**
   * Retries in place before each delay: later messages of the key wait for
   * those. Should be short. Default: none.
   */
  readonly inPlace?: Schedule.Schedule<unknown, ConsumerPolicy.Failure> | undefined
  /**
   * When the message has failed after the last delay too, and for what no delay
   * can mend. Default: dead-letter it, to the topic that it was first published
   * to with `.dead-letter`.
   */
  readonly otherwise?: ConsumerPolicy.Final | undefined
  /**
   * The retry topic of a step. Topics and groups may share one, steps may not.
   * Default: `defaultTopicName`.
   */
  readonly topicName?: ((step: Step) => string) | undefined
}

/**
 * How a consumer group retries: what its consumer and the creation of its
 * topics are made from.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface KafkaRetry {
  readonly [TypeId]: typeof TypeId
  readonly group: string
  readonly delays: Arr.NonEmptyReadonlyArray<Duration.Duration>
  /** For `layer`: with a consumer that reads no retry topics, what this puts there would stay there. */
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
 * What a subscription to topics and their retry topics is told.
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
 * `message.topic` and `origin` are those of the first time. Until it is due, a
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
 * topics; each passes over the messages of the other.
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
  const { inPlace } = options
  const { delays: millis, group } = settings.checkUnsafe({ group: options.group, delays: options.delays })
  const delays = Arr.map(millis, (delay) => Duration.millis(delay))
  const otherwise = options.otherwise ?? ConsumerPolicy.deadLetter()
  const topicName = options.topicName ?? defaultTopicName
  return {
    [TypeId]: TypeId,
    group,
    delays,
    "~policy": (failure) => {
      if (failure._tag !== "HandlerFailed") return otherwise
      const { message } = failure
      const step = (Postponed.read(message, group)?.step ?? 0) + 1
      const delay = delays[step - 1]
      const last = delay === undefined ? otherwise : ConsumerPolicy.postpone({
        topic: topicName({ group, topic: message.topic, step, delay }),
        step,
        delay
      })
      return inPlace === undefined ? last : ConsumerPolicy.retry(inPlace, last)
    },
    topicsOf: (topic) =>
      delays.map((delay, i) => ({
        topic: topicName({ group, topic, step: i + 1, delay }),
        source: topic,
        delay: Math.ceil(Duration.toMillis(delay))
      }))
  }
}

/**
 * The retry topics of topics, or of the topics of notification events, for
 * `KafkaTopics`. They delete old messages by age and never by key; a `retention`
 * below twice the delay is raised to that. Without one, the broker's default
 * must be longer than the delay.
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
 * The options of the consumer, of which the retry decides group and policy.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface ConsumerOptions<Dedupe extends boolean = boolean>
  extends Omit<EventConsumer.Options<Dedupe>, "group" | "policy">
{
  /**
   * The policy, made from that of the retry: `ConsumerPolicy.ignoreUnknownTypes`,
   * or one that dead-letters at once what another time will not mend. Default:
   * that of the retry.
   */
  readonly policy?: ((retry: ConsumerPolicy.ConsumerPolicy) => ConsumerPolicy.ConsumerPolicy) | undefined
}

/**
 * What such a consumer requires: a `RetrySubscriber` in place of a `Subscriber`,
 * so that it does not compile with one that leaves retry topics alone.
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
 * A message whose handling failed with a typed failure is published to the retry
 * topic of the next delay and acknowledged when the brokers have it: a crash in
 * between makes a duplicate and loses nothing. It keeps its id, attributes, key
 * and body, so an `Inbox` and partitions by key do their work; the headers of
 * `Postponed` say where it comes from, what happened and when it is due. The
 * group's consumer reads its retry topics beside the others, and a policy sees
 * the message there under its first topic.
 *
 * A partition of a retry topic holds back what was fetched until the first of it
 * is due: no worker, none of `maxInFlight`, and at most
 * `maxBufferedPerPartition` messages and a fetch in memory; nothing is committed
 * beyond what waits, so that it outlasts restarts and rebalances.
 *
 * **Gotchas**
 *
 * The order of a key is lost for what is retried: what came after it is handled
 * first. Retry topics must exist: subscribing fails with `UnknownTopic`, and says
 * which are missing. Two machines whose clocks differ disagree about due times
 * by as much.
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

/** The consumer's `Subscriber`, which adds the retry topics to whatever it subscribes to. */
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

/** The retry topics of all topics, each once; a text says what is wrong with them. */
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
