/**
 * Spans and metrics, named after OpenTelemetry's semantic conventions for
 * messaging (https://opentelemetry.io/docs/specs/semconv/messaging/).
 *
 * Nothing is spent on them when nobody listens: a span is opened only when the
 * running fiber has a tracer, metrics are updated only below `layer({ metrics:
 * true })`, and a span for each event handler is a choice of its own.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { inMessages, inSeconds } from "./internal/telemetry/units.ts"

/**
 * What to record.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** A span for each run of an event handler. Default: false. */
  readonly handlerSpans: boolean
  /** Update the metrics of this module. Default: false. */
  readonly metrics: boolean
}

/**
 * What the flows built below record; read when their layers are built.
 *
 * @stability unstable
 * @category references
 * @since 0.1.0
 */
export const Settings: Context.Reference<Options> = Context.Reference<Options>("@event-flow/core/Telemetry/Settings", {
  defaultValue: () => ({ handlerSpans: false, metrics: false })
})

/**
 * Sets what the flows built below record.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Partial<Options>): Layer.Layer<never> =>
  Layer.succeed(Settings)({ handlerSpans: options.handlerSpans ?? false, metrics: options.metrics ?? false })

/**
 * How long commands take, events included, in seconds. Attributes:
 * `event_flow.command`, and `error.type` when it failed.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const commandDuration = Metric.histogram("event_flow.command.duration", {
  description: "Duration of the dispatch of a command, its events included, in seconds",
  ...inSeconds
})

/**
 * How long publishing takes, in seconds. Attributes: `messaging.system`,
 * `messaging.destination.name`, `messaging.operation.type`, `error.type`.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const operationDuration = Metric.histogram("messaging.client.operation.duration", {
  description: "Duration of messaging operation initiated by a producer or consumer client, in seconds",
  ...inSeconds
})

/**
 * How long handling a consumed message takes, in seconds. Attributes:
 * `messaging.destination.name`, `messaging.consumer.group.name`, and `error.type`
 * when it was dead-lettered or ended the consumer.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const processDuration = Metric.histogram("messaging.process.duration", {
  description: "Duration of processing operation, in seconds",
  ...inSeconds
})

/**
 * Messages published.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const sentMessages = Metric.counter("messaging.client.sent.messages", {
  description: "Number of messages producer attempted to send to the broker",
  ...inMessages
})

/**
 * Messages consumed. Attribute `event_flow.outcome`: `handled`, `duplicate`,
 * `skipped` (what a policy ignores too), `postponed` or `dead_lettered`.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const consumedMessages = Metric.counter("messaging.client.consumed.messages", {
  description: "Number of messages that were delivered to the application",
  ...inMessages
})

/**
 * Failures that `onFailure: "log"` passed over. Counted whether or not metrics
 * are on: nothing else tells of them but the log.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const loggedFailures = Metric.counter("event_flow.event.failures", {
  description: "Failures while processing events that were logged and passed over",
  incremental: true
})

/**
 * Whether a consumer is paused, since a dependency of its handlers may be away: 1
 * while it is, 0 when it goes on. Attribute: `messaging.consumer.group.name`. Set
 * whether or not metrics are on.
 *
 * @stability unstable
 * @category metrics
 * @since 0.1.0
 */
export const pausedConsumers = Metric.gauge("event_flow.consumer.paused", {
  description: "Whether a consumer is paused because messages in a row failed in the same way"
})
