/**
 * Records what a flow does in spans and metrics, named after OpenTelemetry's
 * semantic conventions for messaging
 * (https://opentelemetry.io/docs/specs/semconv/messaging/).
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import type * as Tracer from "effect/Tracer"
import * as Telemetry from "../../Telemetry.ts"
import { counters, durations, measured, Timer } from "./handles.ts"
import { RunningSpan, spanned, withinSpan } from "./span.ts"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** The `error.type` attribute of a failed exit: the tag of the error. */
export const errorType = (exit: Exit.Failure<unknown, unknown>): string => {
  for (const reason of exit.cause.reasons) {
    if (Cause.isFailReason(reason)) {
      const error = reason.error
      return Predicate.hasProperty(error, "_tag") ? String(error._tag) : typeof error
    }
    if (Cause.isDieReason(reason)) return "defect"
  }
  return "interrupted"
}

/** The values of an update, with the error type as the last one when it failed. */
const withError = (values: ReadonlyArray<string>, exit: Exit.Exit<unknown, unknown>): ReadonlyArray<string> =>
  Exit.isSuccess(exit) ? values : [...values, errorType(exit)]

const errorAttribute = (error: string | undefined): Readonly<Record<string, string>> =>
  error === undefined ? {} : { "error.type": error }

const commandDurations = durations(Telemetry.commandDuration, ([command, error]) => ({
  "event_flow.command": command!,
  ...errorAttribute(error)
}))

/** Records a command from its start to its end: its span and its duration. */
export class CommandRecord {
  readonly #tag: string
  readonly #span: RunningSpan | undefined
  readonly #timer: Timer | undefined
  /** The context of the fiber, with the span in it. */
  readonly context: Context.Context<never>

  /** Starts a command in this fiber. */
  constructor(fiber: AnyFiber, tag: string, { metrics, tracing }: Recorded) {
    this.#tag = tag
    this.#span = tracing
      ? new RunningSpan(fiber, `Command/${tag}`, "internal", { "event_flow.command": tag })
      : undefined
    this.#timer = metrics ? new Timer(fiber) : undefined
    this.context = this.#span?.context ?? fiber.context
  }

  end(exit: Exit.Exit<unknown, unknown>): void {
    this.#timer?.end(commandDurations(withError([this.#tag], exit)))
    this.#span?.end(exit)
  }
}

/** What to record of one piece of work. */
export interface Recorded {
  readonly tracing: boolean
  readonly metrics: boolean
}

/** The span of one run of an event handler. */
export const handler = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  { event, name }: { readonly name: string; readonly event: string }
): Effect.Effect<A, E, R> =>
  spanned(effect, `EventHandler/${name}`, "internal", { "event_flow.handler": name, "event_flow.event": event })

const publishAttributes = (system: string, topic: string) => ({
  "messaging.system": system,
  "messaging.destination.name": topic,
  "messaging.operation.name": "publish",
  "messaging.operation.type": "send"
})

const publishDurations = durations(Telemetry.operationDuration, ([system, topic, error]) => ({
  ...publishAttributes(system!, topic!),
  ...errorAttribute(error)
}))

const sentMessages = counters(Telemetry.sentMessages, ([system, topic]) => publishAttributes(system!, topic!))

/** The span of a publish, parent of whatever the message leads to, and its metrics. */
export const publish = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: Recorded & {
    readonly system: string
    /** One topic, or several joined by commas. */
    readonly topic: string
    readonly count: number
  }
): Effect.Effect<A, E, R> => {
  const { count, metrics, system, topic, tracing } = options
  const values = [system, topic]
  const timed = metrics
    ? Effect.withFiber<A, E, R>((fiber) => {
      sentMessages(values).updateUnsafe(count, fiber.context)
      return measured(effect, (exit) => publishDurations(withError(values, exit)))
    })
    : effect
  return tracing
    ? spanned(timed, `publish ${topic}`, "producer", {
      ...publishAttributes(system, topic),
      "messaging.batch.message_count": count
    })
    : timed
}

const processAttributes = (system: string, topic: string, group: string) => ({
  "messaging.system": system,
  "messaging.destination.name": topic,
  "messaging.consumer.group.name": group,
  "messaging.operation.name": "process",
  "messaging.operation.type": "process"
})

const processDurations = durations(Telemetry.processDuration, ([system, topic, group, error]) => ({
  ...processAttributes(system!, topic!, group!),
  ...errorAttribute(error)
}))

/**
 * The span of handling a consumed message, child of the span that published it,
 * and its duration. What `failureOf` finds when the effect has succeeded shows
 * as a failure in both, with its `error.type`.
 */
export const process = <E, R>(
  effect: Effect.Effect<void, E, R>,
  options: Recorded & {
    readonly system: string
    readonly topic: string
    readonly group: string
    readonly messageId: string | undefined
    /** The span of the publisher, from the message's `traceparent`. */
    readonly parent: Tracer.AnySpan | undefined
    /** Why the message was not handled, although its handling came to an end. */
    readonly failureOf: () => Cause.Cause<unknown> | undefined
  }
): Effect.Effect<void, E, R> => {
  const { group, messageId, metrics, parent, system, topic, tracing } = options
  if (!tracing && !metrics) return effect
  return Effect.withFiber((fiber) => {
    const { context } = fiber
    let span: RunningSpan | undefined
    if (tracing && parent?.sampled === false) {
      fiber.setContext(withinSpan(context, parent))
    } else if (tracing) {
      const attributes = processAttributes(system, topic, group)
      span = new RunningSpan(
        fiber,
        `process ${topic}`,
        "consumer",
        messageId === undefined ? attributes : { ...attributes, "messaging.message.id": messageId },
        // Without a publisher's span it starts a trace: the span of who started the consumer is not its parent
        parent ?? null
      )
      fiber.setContext(span.context)
    }
    const timer = metrics ? new Timer(fiber) : undefined
    return Effect.onExitPrimitive(effect, (exit) => {
      fiber.setContext(context)
      const failure = Exit.isSuccess(exit) ? options.failureOf() : undefined
      const ended = failure === undefined ? exit : Exit.failCause(failure)
      timer?.end(processDurations(withError([system, topic, group], ended)))
      if (span === undefined) return undefined
      if (Exit.isFailure(ended)) span.attribute("error.type", errorType(ended))
      span.end(ended)
      return undefined
    })
  })
}

/** The span of handling a batch, with links to the spans that published its messages, and its duration. */
export const processBatch = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: Recorded & {
    readonly system: string
    /** One topic, or several joined by commas. */
    readonly topic: string
    readonly group: string
    readonly count: number
    readonly links: ReadonlyArray<Tracer.AnySpan>
  }
): Effect.Effect<A, E, R> => {
  const { count, group, links, metrics, system, topic, tracing } = options
  const values = [system, topic, group]
  const timed = metrics ? measured(effect, (exit) => processDurations(withError(values, exit))) : effect
  return tracing
    ? Effect.withSpan(timed, `process ${topic}`, {
      captureStackTrace: false,
      kind: "consumer",
      root: true,
      links: links.map((span) => ({ span, attributes: {} })),
      attributes: { ...processAttributes(system, topic, group), "messaging.batch.message_count": count }
    })
    : timed
}

const consumedMessages = counters(Telemetry.consumedMessages, ([system, topic, group, outcome]) => ({
  "messaging.system": system!,
  "messaging.destination.name": topic!,
  "messaging.consumer.group.name": group!,
  "event_flow.outcome": outcome!
}))

/** Counts a consumed message by what became of it. */
export const consumed = (
  options: { readonly system: string; readonly topic: string; readonly group: string; readonly outcome: string },
  context: Context.Context<never>
): void => consumedMessages([options.system, options.topic, options.group, options.outcome]).updateUnsafe(1, context)
