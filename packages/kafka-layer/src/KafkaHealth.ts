/**
 * Health of the subscriptions of a program.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Health from "@event-flow/core/Health"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * The progress of a consumer in one partition.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface PartitionHealth {
  readonly topic: string
  readonly partition: number
  /** The offset at which the group continues. */
  readonly committed: number
  /** Messages that were delivered and are not acknowledged. */
  readonly inFlight: number
  /** In a retry topic: when the next message is due, in milliseconds since 1970. */
  readonly heldUntil: number | undefined
  /** The end of the partition as of the last fetch; undefined before the first. */
  readonly end: number | undefined
  /** Messages between the two; undefined before the first fetch and while the partition cannot be read. */
  readonly lag: number | undefined
  /**
   * Since when no broker has answered for the partition, in milliseconds since 1970. Undefined while one does, and
   * until `fetchWait` and `requestTimeout` have passed without an answer.
   */
  readonly unreadSince: number | undefined
}

/**
 * The health of one subscription. It is `"connected"` while it is a member of its
 * group, a broker has answered for each of its partitions within `fetchWait` and
 * `requestTimeout`, and the coordinator within `heartbeatInterval` and
 * `requestTimeout`. `detail` names what does not answer.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface SubscriptionHealth extends Health.Health {
  readonly group: string
  /** Topics that were deleted and not created again; the others are consumed. */
  readonly missingTopics: ReadonlyArray<string>
  /** The partitions that this consumer has been given. */
  readonly partitions: ReadonlyArray<PartitionHealth>
}

/**
 * Gives the health of the subscriptions of a `KafkaSubscriber` from memory: asking
 * costs nothing and works without a broker. `Health` of core has them too, beside
 * those of other layers.
 *
 * **Example** (How far a consumer is behind)
 *
 * ```ts
 * import { KafkaHealth } from "@event-flow/kafka-layer"
 * import { Effect } from "effect"
 *
 * const lag = Effect.map(
 *   KafkaHealth.KafkaHealth.use((health) => health.subscriptions),
 *   (subscriptions) =>
 *     subscriptions.flatMap(({ partitions }) => partitions).reduce((sum, { lag = 0 }) => sum + lag, 0)
 * )
 * ```
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class KafkaHealth extends Context.Service<KafkaHealth, {
  readonly subscriptions: Effect.Effect<ReadonlyArray<SubscriptionHealth>>
}>()("@event-flow/kafka-layer/KafkaHealth") {}
