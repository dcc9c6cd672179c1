/**
 * Health of the subscriptions of a program.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * The state of a subscription in its consumer group:
 *
 * - `"joining"`: it joins its group, for the first time or after a rebalance.
 * - `"stable"`: it is a member of its group.
 * - `"disconnected"`: no broker can be reached, or the group has removed it; it connects again by itself.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type State = "joining" | "stable" | "disconnected"

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
  /** Messages between the two; undefined before the first fetch. */
  readonly lag: number | undefined
}

/**
 * The health of one subscription.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface SubscriptionHealth {
  readonly group: string
  readonly topics: ReadonlyArray<string>
  readonly state: State
  /** Whether it is `stable` and the last request to a broker succeeded. */
  readonly isConnected: boolean
  /** Why it is not connected. */
  readonly detail: string | undefined
  /** The partitions that this consumer has been given. */
  readonly partitions: ReadonlyArray<PartitionHealth>
}

/**
 * Gives the health of the subscriptions of a `KafkaSubscriber` from memory: asking
 * costs nothing and works without a broker.
 *
 * **Example** (A readiness check)
 *
 * ```ts
 * import { KafkaHealth } from "@event-flow/kafka-layer"
 * import { Effect } from "effect"
 *
 * const isReady = Effect.map(
 *   KafkaHealth.KafkaHealth.use((health) => health.subscriptions),
 *   (subscriptions) => subscriptions.every((subscription) => subscription.isConnected)
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
