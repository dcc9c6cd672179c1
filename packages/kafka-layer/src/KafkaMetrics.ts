/**
 * Metrics of this layer, beside those of core's `Telemetry`, which counts and
 * times messages that are published and handled. They are updated only below
 * `Telemetry.layer({ metrics: true })`.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Metric from "effect/Metric"

/**
 * Messages between what a group has committed and the end of a partition.
 * Attributes: `messaging.destination.name`, `messaging.destination.partition.id`,
 * `messaging.consumer.group.name`.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const consumerLag = Metric.gauge("messaging.kafka.consumer.lag", {
  description: "Messages between the committed offset of a group and the end of a partition"
})

/**
 * Requests to publish. Attribute `error.type` on those that failed.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const produceRequests = Metric.counter("messaging.kafka.produce.requests", {
  description: "Produce requests that were answered or failed",
  incremental: true
})

/**
 * Rebalances and reconnections: how often this program's partitions were taken
 * away. Attributes: `messaging.consumer.group.name`, `event_flow.cause`
 * (`rebalance`, `lost`, `close`).
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const revocations = Metric.counter("messaging.kafka.consumer.revocations", {
  description: "How often partitions were taken from this consumer",
  incremental: true
})
