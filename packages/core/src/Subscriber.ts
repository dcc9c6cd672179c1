/**
 * The port of the way back in: deliveries from a message broker.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Broker from "./Broker.ts"
import type { Message } from "./Message.ts"

/**
 * Why a subscription failed; take them apart with
 * `Effect.catchReason("SubscribeError", "UnknownTopic", ...)`.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export type SubscribeReason = typeof SubscribeReason.Type

/**
 * Schema of the reasons of a `SubscribeError`, which it shares with `PublishError`:
 *
 * - `UnknownTopic`: a topic or queue does not exist, or no longer.
 * - `NotAuthorised`: the broker refused these credentials, or what they may do.
 * - `Unreachable`: the broker could not be reached within the layer's bound.
 * - `Closed`: the subscription, or the subscriber's layer, is closing or closed.
 * - `Rejected`: the broker refused for another reason; see `detail`.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export const SubscribeReason = Schema.Union([
  Broker.UnknownTopic,
  Broker.NotAuthorised,
  Broker.Unreachable,
  Broker.Closed,
  Broker.Rejected
])

/**
 * A subscription could not be made, or it broke and reconnecting cannot mend it.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class SubscribeError extends Schema.TaggedError<SubscribeError>("@event-flow/core/Subscriber/SubscribeError")(
  "SubscribeError",
  { topics: Schema.Array(Schema.String), group: Schema.String, reason: SubscribeReason }
) {
  override readonly cause = this.reason

  override get message(): string {
    return `Subscription of group "${this.group}" to ${this.topics.map((topic) => `"${topic}"`).join(", ")} failed: ` +
      `${this.reason._tag}: ${this.reason.detail}`
  }

  /** Whether subscribing again may succeed. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
}

/**
 * Builds the `SubscribeError` of a subscription.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const subscribeError = (
  { group, topics }: Pick<SubscribeOptions, "group" | "topics">,
  reason: SubscribeReason
): SubscribeError => new SubscribeError({ topics, group, reason })

/**
 * One message in the hands of a consumer, until it is acknowledged.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Delivery {
  readonly message: Message
  /** 1 for the first delivery, more for a redelivery, as far as the broker counts. */
  readonly attempt: number
  /** Where it comes from in the broker's own terms (`partition`, `offset`, `queue`), for dead letters and logs. */
  readonly origin: Readonly<Record<string, string>>
  /**
   * Deliveries with the same lane are handled in order, others in parallel:
   * topic, partition and key. Undefined: no promise of order.
   */
  readonly lane: string | undefined
  /**
   * Done: handled, skipped or dead-lettered. It cannot fail: a broker that went
   * away meanwhile delivers again. Only the first of `ack` and `nack` counts.
   */
  readonly ack: Effect.Effect<void>
  /** Not done: deliver it again, to this or another consumer of the group. */
  readonly nack: Effect.Effect<void>
  /**
   * Whether the message was taken from this consumer (a rebalance, a lost
   * connection): it must not be handled any more, and `ack` does nothing.
   */
  readonly isRevoked: () => boolean
}

/**
 * A subscription, open as long as its scope.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Subscription {
  /**
   * The next deliveries, at least one: waits for them. Bounded by
   * `maxInFlight`: nothing more comes while as many are unacknowledged.
   */
  readonly take: Effect.Effect<Arr.NonEmptyReadonlyArray<Delivery>, SubscribeError>
  /**
   * Calls the listener when deliveries were revoked, to interrupt their
   * handlers; what it gives back is awaited before the broker goes on, within
   * the layer's bound.
   */
  readonly onRevoked: (listener: Effect.Effect<void>) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * What to subscribe to, as which group, and how much to take at once.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface SubscribeOptions {
  readonly topics: Arr.NonEmptyReadonlyArray<string>
  /** The consumer group: each message goes to one consumer of every group. */
  readonly group: string
  /** How many deliveries may be unacknowledged at once. */
  readonly maxInFlight: number
  /**
   * How many deliveries are handled at once. A broker that counts what it sends
   * ahead as a delivery sends no more than these can begin soon. Default:
   * `maxInFlight`.
   */
  readonly concurrency?: number | undefined
  /**
   * Whether the group lives only as long as its subscriptions: for consumers that
   * come and go, such as one for each connected client. It starts with the first
   * message that is published after the subscription. When its last subscription
   * closes, the broker forgets it, with the messages that it has not acknowledged.
   * All subscriptions of a group are ephemeral, or none is; else `subscribe` fails.
   * A broker that has no such groups refuses with a `SubscribeError` (Kafka).
   * Default: false.
   */
  readonly ephemeral?: boolean | undefined
}

/**
 * Subscribes to topics.
 *
 * **Details**
 *
 * At least once: a message whose consumer ends without acknowledging it is
 * delivered again. Closing the scope of a subscription stops deliveries, keeps
 * the acknowledgements made before, and gives the rest back to the group.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class Subscriber extends Context.Service<Subscriber, {
  /** The value of `messaging.system` in spans and metrics. */
  readonly name: string
  readonly subscribe: (options: SubscribeOptions) => Effect.Effect<Subscription, SubscribeError, Scope.Scope>
}>()("@event-flow/core/Subscriber") {}
