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
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import type * as Tracer from "effect/Tracer"

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
 * Whether spans opened in this fiber reach a tracer.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const isTracing = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  fiber.cache.tracer !== undefined && fiber.cache.tracerEnabled

const durationBoundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

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
  boundaries: durationBoundaries
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
  boundaries: durationBoundaries
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
  boundaries: durationBoundaries
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
  incremental: true
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
  incremental: true
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
 * Updates a histogram with the duration of an effect, in seconds.
 *
 * @stability unstable
 * @category recording
 * @since 0.1.0
 */
export const recordDuration = (
  metric: Metric.Metric<number, unknown>,
  attributes: Record<string, string>
) =>
<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Clock.currentTimeNanos,
    (start) =>
      Effect.onExit(effect, (exit) =>
        Effect.flatMap(Clock.currentTimeNanos, (end) => {
          const seconds = Number(end - start) / 1e9
          const all = Exit.isSuccess(exit) ? attributes : { ...attributes, "error.type": errorType(exit) }
          return Metric.update(Metric.withAttributes(metric, all), seconds)
        }))
  )

/**
 * The `error.type` attribute of a failed exit: the tag of the error.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const errorType = (exit: Exit.Failure<unknown, unknown>): string => {
  for (const reason of exit.cause.reasons) {
    if (reason._tag === "Fail") {
      const error = reason.error
      return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : typeof error
    }
    if (reason._tag === "Die") return "defect"
  }
  return "interrupted"
}

/**
 * The span of a command and, where on, its duration. The plain effect is given
 * back when nobody listens.
 *
 * @stability unstable
 * @category recording
 * @since 0.1.0
 */
export const command = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: { readonly tag: string; readonly tracing: boolean; readonly metrics: boolean }
): Effect.Effect<A, E, R> => {
  const measured = options.metrics
    ? recordDuration(commandDuration, { "event_flow.command": options.tag })(effect)
    : effect
  return options.tracing
    ? Effect.withSpan(measured, `Command/${options.tag}`, {
      captureStackTrace: false,
      kind: "internal",
      attributes: { "event_flow.command": options.tag }
    })
    : measured
}

/**
 * The span of one run of an event handler.
 *
 * @stability unstable
 * @category recording
 * @since 0.1.0
 */
export const handler = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: { readonly name: string; readonly event: string }
): Effect.Effect<A, E, R> =>
  Effect.withSpan(effect, `EventHandler/${options.name}`, {
    captureStackTrace: false,
    kind: "internal",
    attributes: { "event_flow.handler": options.name, "event_flow.event": options.event }
  })

/**
 * The span of a publish, parent of whatever the message leads to, and its
 * metrics.
 *
 * @stability unstable
 * @category recording
 * @since 0.1.0
 */
export const publish = <A, E, R>(effect: Effect.Effect<A, E, R>, options: {
  readonly system: string
  /** One topic, or several joined by commas. */
  readonly topic: string
  readonly count: number
  readonly tracing: boolean
  readonly metrics: boolean
}): Effect.Effect<A, E, R> => {
  const attributes = {
    "messaging.system": options.system,
    "messaging.destination.name": options.topic,
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send"
  }
  const measured = options.metrics
    ? Effect.andThen(
      Metric.update(Metric.withAttributes(sentMessages, attributes), options.count),
      recordDuration(operationDuration, attributes)(effect)
    )
    : effect
  return options.tracing
    ? Effect.withSpan(measured, `publish ${options.topic}`, {
      captureStackTrace: false,
      kind: "producer",
      attributes: { ...attributes, "messaging.batch.message_count": options.count }
    })
    : measured
}

/**
 * The span of handling a consumed message, child of the span that published it,
 * and its duration. What `failureOf` finds in the result shows as a failure in
 * both, with its `error.type`; the effect succeeds all the same.
 *
 * @stability unstable
 * @category recording
 * @since 0.1.0
 */
export const process = <A, E, R>(effect: Effect.Effect<A, E, R>, options: {
  readonly system: string
  readonly topic: string
  readonly group: string
  readonly messageId: string | undefined
  /** The span of the publisher, from the message's `traceparent`. */
  readonly parent: Tracer.AnySpan | undefined
  readonly tracing: boolean
  readonly metrics: boolean
  /** Why the message was not handled, although its handling came to an end. */
  readonly failureOf?: ((result: A) => Cause.Cause<unknown> | undefined) | undefined
}): Effect.Effect<A, E, R> => {
  if (!options.tracing && !options.metrics) return effect
  const failureOf = options.failureOf
  if (failureOf === undefined) return recordProcess(effect, options)
  return Effect.suspend(() => {
    let failed: { readonly result: A } | undefined = undefined as { readonly result: A } | undefined
    const failing = Effect.flatMap(effect, (result) => {
      const failure = failureOf(result)
      if (failure === undefined) return Effect.succeed(result)
      failed = { result }
      // Seen by the recording only: caught below
      return Effect.failCause(failure as Cause.Cause<never>)
    })
    return Effect.catchCause(
      recordProcess(failing, options),
      (cause) => failed === undefined ? Effect.failCause(cause) : Effect.succeed(failed.result)
    )
  })
}

const recordProcess = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: Omit<Parameters<typeof process>[1], "failureOf">
): Effect.Effect<A, E, R> => {
  const attributes = {
    "messaging.system": options.system,
    "messaging.destination.name": options.topic,
    "messaging.consumer.group.name": options.group,
    "messaging.operation.name": "process",
    "messaging.operation.type": "process"
  }
  const measured = options.metrics ? recordDuration(processDuration, attributes)(effect) : effect
  if (!options.tracing) return measured
  const annotated = Effect.onExit(
    measured,
    (exit) => Exit.isSuccess(exit) ? Effect.void : Effect.annotateCurrentSpan("error.type", errorType(exit))
  )
  return Effect.withSpan(annotated, `process ${options.topic}`, {
    captureStackTrace: false,
    kind: "consumer",
    // Without a publisher's span it starts a trace: the span of who started the consumer is not its parent
    root: options.parent === undefined,
    parent: options.parent,
    attributes: options.messageId === undefined
      ? attributes
      : { ...attributes, "messaging.message.id": options.messageId }
  })
}
