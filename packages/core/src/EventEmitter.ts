/**
 * Takes one event to where it belongs: a domain event to its handlers in this
 * process, a notification event to the broker.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Broker from "./Broker.ts"
import type * as Event from "./Event.ts"
import { match } from "./Event.ts"
import { type EventFailure, EventHandlerError } from "./EventFlowError.ts"
import type * as EventHandler from "./EventHandler.ts"
import * as EventMap from "./EventMap.ts"
import * as FlowObserver from "./FlowObserver.ts"
import { Collector } from "./internal/collector.ts"
import { handlerContext } from "./internal/flowContext.ts"
import { observeHandler } from "./internal/observe.ts"
import type { Message } from "./Message.ts"
import * as MessageCodec from "./MessageCodec.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"
import { classOf } from "./NotificationEvent.ts"
import * as Telemetry from "./Telemetry.ts"

/**
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface EmitOptions {
  /**
   * Takes the failure of a handler (or of a publish), whereupon the other
   * handlers of the event run. Without it the first failure ends the emission.
   */
  readonly report?: ((failure: Cause.Cause<EventFailure>) => void) | undefined
}

/**
 * Emits events; each method gives the follow-ups that handlers collected, in
 * order.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class EventEmitter extends Context.Service<EventEmitter, {
  /** Runs the handlers of a domain event, or publishes a notification event. */
  readonly emit: (event: Event.Any, options?: EmitOptions) => Effect.Effect<ReadonlyArray<Event.Any>, EventFailure>
  /** Publishes notification events as one batch, in order. */
  readonly publish: (
    events: Arr.NonEmptyReadonlyArray<NotificationEvent.Any>
  ) => Effect.Effect<void, Broker.BrokerNotFound | Broker.PublishError>
  /** Runs the handlers of an event of either kind in this process: for events that came from a broker. */
  readonly handle: (event: Event.Any, options?: EmitOptions) => Effect.Effect<ReadonlyArray<Event.Any>, EventFailure>
}>()("@event-flow/core/EventEmitter") {}

/**
 * The emitter of an `EventMap` and a `Broker`, with the `MessageCodec` that the
 * layer finds.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  EventEmitter,
  never,
  EventMap.EventMap | Broker.Broker | MessageCodec.MessageCodec
> = Layer.effect(
  EventEmitter,
  Effect.gen(function*() {
    const map = yield* EventMap.EventMap
    const broker = yield* Broker.Broker
    const codec = yield* MessageCodec.MessageCodec
    const observer = yield* FlowObserver.Current
    const telemetry = yield* Telemetry.Settings

    const run = (handler: EventHandler.Bound, event: Event.Any, collector: Collector) => {
      const plain = runHandler(handler, event, collector)
      const observed = observer === undefined
        ? plain
        : observeHandler(
          observer,
          collector,
          plain,
          (run) => observer.handlerStarted(run, handler.definition.name, event)
        )
      return telemetry.handlerSpans
        ? Telemetry.handler(observed, { name: handler.definition.name, event: event._tag })
        : observed
    }

    const handle = (event: Event.Any, options?: EmitOptions) => {
      const entry = EventMap.find(map, event)
      return entry === undefined ? warnUnhandled(event) : runHandlers(entry.handlers, event, options?.report, run)
    }

    const encodeAll = (
      events: Arr.NonEmptyReadonlyArray<NotificationEvent.Any>,
      context: MessageCodec.MessageContext
    ): Effect.Effect<Arr.NonEmptyReadonlyArray<Message>, Broker.PublishError> =>
      events.length === 1
        ? Effect.map(codec.encode(events[0], context), (message) => [message])
        : Effect.forEach(events, (event) => codec.encode(event, context))

    const send = (events: ReadonlyArray<NotificationEvent.Any>, messages: Arr.NonEmptyReadonlyArray<Message>) => {
      observer?.published(events, messages)
      return broker.publish(messages)
    }

    const plainPublish: EventEmitter["Service"]["publish"] = (events) =>
      Effect.withFiber((fiber) =>
        Effect.flatMap(
          encodeAll(events, MessageCodec.contextOf(fiber.context)),
          (messages) => send(events, messages)
        )
      )

    const publish: EventEmitter["Service"]["publish"] = (events) =>
      Effect.withFiber((fiber) => {
        const tracing = Telemetry.isTracing(fiber)
        if (!tracing && !telemetry.metrics) return plainPublish(events)
        const topics = new Set(events.map((event) => classOf(event).route.topic))
        return Telemetry.publish(plainPublish(events), {
          system: broker.name,
          topic: Array.from(topics).join(","),
          count: events.length,
          tracing,
          metrics: telemetry.metrics
        })
      })

    return EventEmitter.of({
      publish,
      handle,
      emit: (event, options) =>
        match(event, {
          Domain: (event) => handle(event, options),
          Notification: (event) => reporting(Effect.as(publish([event]), nothing), options?.report)
        })
    })
  })
)

// --- internal ---

const nothing: ReadonlyArray<Event.Any> = []

const warnUnhandled = (event: Event.Any): Effect.Effect<ReadonlyArray<Event.Any>> =>
  Effect.as(
    Effect.logWarning(`Domain event "${event._tag}" has no handler: list one in the EventMap, or stop collecting it`),
    nothing
  )

const reporting = <E extends EventFailure>(
  effect: Effect.Effect<ReadonlyArray<Event.Any>, E>,
  report: EmitOptions["report"]
): Effect.Effect<ReadonlyArray<Event.Any>, E> =>
  report === undefined ? effect : Effect.catchCause(effect, (cause) => {
    if (Cause.hasInterrupts(cause)) return Effect.failCause(cause)
    report(cause)
    return Effect.succeed(nothing)
  })

type RunHandler = (
  handler: EventHandler.Bound,
  event: Event.Any,
  collector: Collector
) => Effect.Effect<void, unknown>

const runHandler: RunHandler = (handler, event, collector) => {
  try {
    return handler.run(event, collector)
  } catch (defect) {
    return Effect.die(defect)
  }
}

/**
 * The handlers of one event, one after the other. One continuation frame a
 * handler and no generator: this is the hot path of the library.
 */
const runHandlers = (
  handlers: ReadonlyArray<EventHandler.Bound>,
  event: Event.Any,
  report: EmitOptions["report"],
  run: RunHandler
): Effect.Effect<ReadonlyArray<Event.Any>, EventFailure> =>
  Effect.withFiber((fiber) => {
    const outer = fiber.context
    let followUps: Array<Event.Any> | undefined
    let index = 0
    let collector: Collector

    const step = (): Effect.Effect<ReadonlyArray<Event.Any>, EventFailure> => {
      if (index === handlers.length) {
        fiber.setContext(outer)
        return Effect.succeed(followUps ?? nothing)
      }
      const handler = handlers[index++]!
      collector = new Collector()
      fiber.setContext(handlerContext(handler.context, outer))
      return Effect.matchCauseEffect(run(handler, event, collector), { onSuccess, onFailure })
    }

    // Both take one parameter: Effect wraps functions of another arity
    const onSuccess = (_: void) => {
      const events = collector.close()
      if (events !== undefined) {
        if (followUps === undefined) followUps = events
        else for (const event of events) followUps.push(event)
      }
      return step()
    }

    const onFailure = (cause: Cause.Cause<unknown>) => {
      collector.close()
      const failure = Cause.map(cause, (error) =>
        new EventHandlerError({ event: event._tag, handler: handlers[index - 1]!.definition.name, cause: error }))
      if (report === undefined || Cause.hasInterrupts(cause)) {
        fiber.setContext(outer)
        return Effect.failCause(failure)
      }
      report(failure)
      return step()
    }

    return step()
  })
