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
 * The health of one subscription. It is `"connected"` while it consumes all of its
 * queues.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface SubscriptionHealth extends Health.Health {
  readonly group: string
  /** The queues that it consumes, in the order of the topics. */
  readonly queues: ReadonlyArray<string>
  /** Messages that the server has sent and that wait for a worker. */
  readonly waiting: number
  /** Messages that were delivered and are not acknowledged. */
  readonly inFlight: number
}

/**
 * Gives the health of the subscriptions of a `RabbitSubscriber` from memory: asking
 * costs nothing and works without a server. `Health` of core has them too, beside
 * those of other layers.
 *
 * **Example** (How many messages handlers have in hand)
 *
 * ```ts
 * import { RabbitHealth } from "@event-flow/rabbitmq-layer"
 * import { Effect } from "effect"
 *
 * const inFlight = Effect.map(
 *   RabbitHealth.RabbitHealth.use((health) => health.subscriptions),
 *   (subscriptions) => subscriptions.reduce((sum, { inFlight }) => sum + inFlight, 0)
 * )
 * ```
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class RabbitHealth extends Context.Service<RabbitHealth, {
  readonly subscriptions: Effect.Effect<ReadonlyArray<SubscriptionHealth>>
}>()("@event-flow/rabbitmq-layer/RabbitHealth") {}
