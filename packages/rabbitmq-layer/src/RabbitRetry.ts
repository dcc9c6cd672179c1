/**
 * Delayed retries of a consumer group. They need no plugin: a message that failed
 * waits in a queue with a time to live, and is delivered again when that is over.
 * No other message waits for it.
 *
 * **Order is lost**: while a message waits, later messages of its key are
 * handled. If the order of a key matters, retry in place instead
 * (`ConsumerPolicy.retry`, the default policy): later messages of the key wait.
 *
 * @stability unstable
 * @since 0.1.0
 */
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
import * as Names from "./internal/names.ts"
import * as RabbitTopology from "./RabbitTopology.ts"

const TypeId = "~@event-flow/rabbitmq-layer/RabbitRetry"

/**
 * Options of the delayed retries of a consumer group.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The consumer group. Other groups of the same topic do not see its retries. */
  readonly group: string
  /** How long a message waits before each retry. */
  readonly delays: Arr.NonEmptyReadonlyArray<Duration.Input>
  /**
   * Retries in place before each delay. Later messages of the key wait for
   * them, so they should be short. Default: none.
   */
  readonly inPlace?: Schedule.Schedule<unknown, ConsumerPolicy.Failure> | undefined
  /**
   * The decision for a message that failed again after the last delay, and for
   * failures that are not retried. Default: dead-letter it.
   */
  readonly otherwise?: ConsumerPolicy.Final | undefined
}

/**
 * How a consumer group retries. Its consumer and its queues are made from this
 * value.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface RabbitRetry {
  readonly [TypeId]: typeof TypeId
  readonly group: string
  readonly delays: Arr.NonEmptyReadonlyArray<Duration.Duration>
  /** For `layer`, which knows the names of the subscriber's queues. */
  readonly "~policy": (queueName: QueueName) => ConsumerPolicy.ConsumerPolicy
}

/**
 * Names the queue of a group for a topic.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type QueueName = (group: string, topic: string) => string

/**
 * Options of `RetrySubscriber.subscribe`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface SubscribeOptions extends Subscriber.SubscribeOptions {
  readonly retryDelays: ReadonlyArray<Duration.Duration>
}

/**
 * A `Subscriber` that declares the queues of retries; `RabbitSubscriber`'s
 * layers provide it.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class RetrySubscriber extends Context.Service<RetrySubscriber, {
  readonly queueName: QueueName
  readonly subscribe: (
    options: SubscribeOptions
  ) => Effect.Effect<Subscriber.Subscription, Subscriber.SubscribeError, Scope.Scope>
}>()("@event-flow/rabbitmq-layer/RabbitRetry/RetrySubscriber") {}

/**
 * Says how a group retries typed failures. Undecodable messages and defects are
 * not retried. Throws `Settings.InvalidSetting` for an empty group name, and for a
 * delay that is below 1 millisecond or infinite.
 *
 * **Example** (Retries after 5 seconds and after another minute)
 *
 * ```ts
 * import { EventHandler, NotificationEvent } from "@event-flow/core"
 * import { RabbitBroker, RabbitRetry, RabbitSubscriber } from "@event-flow/rabbitmq-layer"
 * import { Effect, Layer } from "effect"
 *
 * class Announced extends NotificationEvent.Class<Announced>()("Announced", {}, { topic: "meetings" }) {}
 * const Show = EventHandler.make("Show", { on: Announced })
 *
 * const connection = { url: "amqp://127.0.0.1" }
 * const retry = RabbitRetry.make({ group: "board", delays: ["5 seconds", "1 minute"] })
 *
 * // In place of EventConsumer.layer
 * const Board = RabbitRetry.layer(retry, [Show], { concurrency: 16 }).pipe(
 *   Layer.provide(Show.toLayer(() => Effect.log("announced"))),
 *   Layer.provide([RabbitBroker.layer(connection), RabbitSubscriber.layer(connection)])
 * )
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): RabbitRetry => {
  const { inPlace, otherwise } = options
  const { delays: millis, group } = settings.checkUnsafe({ group: options.group, delays: options.delays })
  const delays = Arr.map(millis, (delay) => Duration.millis(delay))
  return {
    [TypeId]: TypeId,
    group,
    delays,
    "~policy": (queueName) =>
      retryPolicy({
        group,
        delays,
        inPlace,
        otherwise,
        topicName: (topic, step, delay) => Names.retryQueue(queueName(group, topic), step, delay)
      })
  }
}

/**
 * What the group needs for topics, or for the topics of notification events,
 * with the queues of its retries. `RabbitTopology` creates them before the first
 * consumer starts.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const specs = (
  retry: RabbitRetry,
  of: ReadonlyArray<NotificationEvent.AnyClass | string>
): ReadonlyArray<RabbitTopology.GroupSpec> =>
  RabbitTopology.specs(retry.group, of).map((spec) => ({ ...spec, retryDelays: retry.delays }))

/**
 * Options of the consumer. Group and policy come from the retry. An ephemeral
 * group cannot have retries.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface ConsumerOptions<Dedupe extends boolean = boolean>
  extends Omit<EventConsumer.Options<Dedupe>, "group" | "policy" | "ephemeral">
{
  /**
   * Makes the policy from that of the retry: `ConsumerPolicy.ignoreUnknownTypes`,
   * or a function that dead-letters some failures at once. Default: the policy of
   * the retry.
   */
  readonly policy?: ((retry: ConsumerPolicy.ConsumerPolicy) => ConsumerPolicy.ConsumerPolicy) | undefined
}

/**
 * What such a consumer requires: a `RetrySubscriber` in place of a `Subscriber`.
 * With a subscriber that declares no queues for retries, the program does not
 * compile.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Requirements<S extends EventConsumer.Source, Dedupe extends boolean> =
  | Exclude<EventConsumer.Requirements<S, Dedupe>, Subscriber.Subscriber>
  | RetrySubscriber

/**
 * `EventConsumer.layer` with delayed retries.
 *
 * **Details**
 *
 * A message whose handling failed with a typed failure is published to the queue
 * of the next delay, and acknowledged when the server has confirmed that. A crash
 * between the two makes a duplicate and loses nothing. When the delay is over, the
 * server moves the message to the queue of its group; other groups do not get it.
 * The message keeps its id, attributes, key and body. Its headers
 * (`BrokerLayer.RetryHeaders`) say what happened and when it is due.
 *
 * The subscription declares the queues of the delays. With `declare: false` they
 * must exist (`RabbitRetry.specs`).
 *
 * **Gotchas**
 *
 * A message that is retried loses its place in the order of its key: later ones
 * are handled first. When you remove a delay, its queue stays on the server; its
 * messages still come back.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = <const S extends EventConsumer.Source, const Dedupe extends boolean = false>(
  retry: RabbitRetry,
  source: S,
  options?: ConsumerOptions<Dedupe>
): Layer.Layer<EventConsumer.EventConsumer, EventConsumer.StartError, Requirements<S, Dedupe>> =>
  Layer.unwrap(
    Effect.map(
      RetrySubscriber,
      ({ queueName }) => EventConsumer.layer(source, consumerOptions(retry, queueName, options))
    )
  ).pipe(Layer.provide(layerSubscriber(retry)))

/**
 * `EventConsumer.run` with delayed retries; see `layer`.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const run = <const S extends EventConsumer.Source, const Dedupe extends boolean = false>(
  retry: RabbitRetry,
  source: S,
  options?: ConsumerOptions<Dedupe>
): Effect.Effect<never, EventConsumer.ConsumerError | EventConsumer.StartError, Requirements<S, Dedupe>> =>
  Effect.flatMap(
    RetrySubscriber,
    ({ queueName }) => EventConsumer.run(source, consumerOptions(retry, queueName, options))
  )
    .pipe(
      Effect.provide(layerSubscriber(retry))
    )

// --- internal ---

const settings = Settings.make("RabbitRetry", {
  prefix: "RABBITMQ_RETRY",
  schema: Schema.Struct({
    group: Schema.String.check(Schema.isNonEmpty({ expected: "the name of a consumer group" })),
    delays: Schema.NonEmptyArray(Settings.duration())
  })
})

const consumerOptions = <Dedupe extends boolean>(
  retry: RabbitRetry,
  queueName: QueueName,
  options: ConsumerOptions<Dedupe> | undefined
): EventConsumer.Options<Dedupe> => {
  const policy = retry["~policy"](queueName)
  return { ...options, group: retry.group, policy: options?.policy === undefined ? policy : options.policy(policy) }
}

/** The consumer's `Subscriber`, which has the queues of the retries declared with those that it subscribes to. */
const layerSubscriber = (retry: RabbitRetry): Layer.Layer<Subscriber.Subscriber, never, RetrySubscriber> =>
  Layer.effect(
    Subscriber.Subscriber,
    Effect.map(RetrySubscriber, ({ subscribe }) =>
      Subscriber.Subscriber.of({
        name: "rabbitmq",
        subscribe: (options) => subscribe({ ...options, retryDelays: retry.delays })
      }))
  )
