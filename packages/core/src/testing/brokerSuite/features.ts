/** What a pair promises beyond the ports. */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"

/**
 * What the pair promises beyond the ports, and how the suite prepares it. A
 * promise that is not made skips the cases that need it. Public as
 * `BrokerSuite.Features`.
 */
export interface Features {
  /**
   * Makes the topics of a case, before it subscribes or publishes: Kafka creates
   * them with some partitions. The suite gives every case new names. Default:
   * nothing, subscribing or publishing makes a topic.
   */
  readonly prepareTopics?: ((topics: ReadonlyArray<string>) => Effect.Effect<void, unknown>) | undefined
  /**
   * A topic keeps what is published before anybody has subscribed. Without it,
   * the suite subscribes first (RabbitMQ: a message without a queue is
   * unroutable). Default: false.
   */
  readonly persistentTopics?: boolean | undefined
  /** A group that subscribes for the first time gets what was published before. Default: false. */
  readonly oldMessagesForNewGroups?: boolean | undefined
  /**
   * Groups may be ephemeral (`SubscribeOptions.ephemeral`). Without it, the suite
   * checks that `subscribe` refuses such a group. Default: false.
   */
  readonly ephemeralGroups?: boolean | undefined
  /**
   * Messages of one key are delivered in the order of publishing, over all
   * consumers of a group. Default: true.
   */
  readonly orderPerKey?: boolean | undefined
  /**
   * A group has at most one unacknowledged message of a key: the next one is
   * delivered when the one before is acknowledged, and one that is given back
   * comes before those behind it. (Kafka delivers them ahead, in one lane.)
   * Default: false.
   */
  readonly onePerKey?: boolean | undefined
  /** `Delivery.attempt` is exact, not just above 1 for a redelivery or always 1. Default: false. */
  readonly countsAttempts?: boolean | undefined
  /** A key may be bytes that are no text. Default: false. */
  readonly binaryKeys?: boolean | undefined
  /** Messages are there when the layer that published them is closed. Default: false. */
  readonly durable?: boolean | undefined
  /**
   * A consumer that joins or leaves a group can make messages that were
   * acknowledged come again (Kafka: those not committed yet). Without it, the
   * suite takes a duplicate for a failure. Default: false.
   */
  readonly duplicatesOnRebalance?: boolean | undefined
  /**
   * Restarts the broker, and succeeds when it takes connections again. Both the
   * publisher and the subscription must mend themselves. Default: none, the case
   * is skipped.
   */
  readonly restart?: Effect.Effect<void, unknown> | undefined
  /** How long the suite waits for a message or an end, before the case fails. Default: 30 seconds. */
  readonly patience?: Duration.Input | undefined
}

export const has = (features: Features, feature: keyof Features): boolean =>
  feature === "orderPerKey" ? features.orderPerKey !== false : Boolean(features[feature])
