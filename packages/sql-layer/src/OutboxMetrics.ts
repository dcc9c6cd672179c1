/**
 * Metrics of the outbox, updated below `Telemetry.layer({ metrics: true })`.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/**
 * Rows that were published. Attribute: `messaging.system`, of the broker.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const published = Metric.counter("event_flow.outbox.published", {
  description: "Rows of the outbox that were published",
  incremental: true
})

/**
 * Failed attempts to publish a row, including those that made it dead.
 * Attribute: `messaging.system`.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const failed = Metric.counter("event_flow.outbox.failed", {
  description: "Attempts to publish a row of the outbox that failed",
  incremental: true
})

/**
 * Rows that wait to be published.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const pending = Metric.gauge("event_flow.outbox.pending", {
  description: "Rows of the outbox that wait to be published"
})

/**
 * Rows that are dead: no more attempts are made.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const dead = Metric.gauge("event_flow.outbox.dead", { description: "Rows of the outbox that were given up" })

/**
 * The age of the oldest pending row, in seconds; 0 for none.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const lag = Metric.gauge("event_flow.outbox.lag", {
  description: "Age of the oldest row of the outbox that waits to be published, in seconds"
})

/**
 * Counts a batch.
 *
 * @stability unstable
 * @category recording
 * @since 0.1.0
 */
export const count = (system: string, publishedRows: number, failedRows: number): Effect.Effect<void> => {
  const attributes = { "messaging.system": system }
  return Effect.andThen(
    publishedRows === 0 ? Effect.void : Metric.update(Metric.withAttributes(published, attributes), publishedRows),
    failedRows === 0 ? Effect.void : Metric.update(Metric.withAttributes(failed, attributes), failedRows)
  )
}

/**
 * Sets the gauges.
 *
 * @stability unstable
 * @category recording
 * @since 0.1.0
 */
export const record = (status: {
  readonly pending: number
  readonly dead: number
  readonly lagSeconds: number
}): Effect.Effect<void> =>
  Effect.all([
    Metric.update(pending, status.pending),
    Metric.update(dead, status.dead),
    Metric.update(lag, status.lagSeconds)
  ], { discard: true })
