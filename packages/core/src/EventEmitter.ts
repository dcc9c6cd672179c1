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
import { type Dispatch, inDispatch } from "./internal/dispatch.ts"
import { isDone } from "./internal/isDone.ts"
import { observeHandler } from "./internal/observe.ts"
import { nothing, reporting } from "./internal/reporting.ts"
import { withShortcut } from "./internal/shortcut.ts"
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
 * The emitter of an `EventMap` and a `Broker`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EventEmitter, never, EventMap.EventMap | Broker.Broker> = Layer.effect(
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
        : observeHandler(observer, handler.definition.name, event, collector, plain)
      return telemetry.handlerSpans
        ? Telemetry.handler(observed, { name: handler.definition.name, event: event._tag })
        : observed
    }

    const handlerOf: InDispatch["handlerOf"] = (dispatch, report, next) =>
      new HandlerRuns(map, run, dispatch, report, next)

    const publishInDispatch: InDispatch["publish"] = (dispatch, events, report, next) => {
      const { context, fiber } = dispatch
      fiber.setContext(context)
      const publishing = telemetry.metrics || Telemetry.isTracing(fiber)
        ? publish(events)
        : encodeAndSend(events, context)
      return report === undefined
        ? Effect.flatMap(publishing, () => next(nothing))
        : Effect.flatMap(reporting(Effect.as(publishing, nothing), report), next)
    }

    const handle = (event: Event.Any, options?: EmitOptions) =>
      inDispatch((dispatch) => handlerOf(dispatch, options?.report, Effect.succeed).handle(event))

    const encodeAll = (
      events: Arr.NonEmptyReadonlyArray<NotificationEvent.Any>,
      context: MessageCodec.MessageContext
    ): Effect.Effect<Arr.NonEmptyReadonlyArray<Message>, Broker.PublishError> =>
      Effect.forEach(events, (event) => codec.encode(event, context))

    const send = (events: ReadonlyArray<NotificationEvent.Any>, messages: Arr.NonEmptyReadonlyArray<Message>) => {
      if (observer === undefined) return broker.publish(messages)
      observer.published(events, messages)
      return Effect.onExit(
        broker.publish(messages),
        (exit) => Effect.sync(() => observer.publishEnded(messages, exit))
      )
    }

    const encodeAndSend = (
      events: Arr.NonEmptyReadonlyArray<NotificationEvent.Any>,
      context: Context.Context<never>
    ): Effect.Effect<void, Broker.BrokerNotFound | Broker.PublishError> => {
      const messageContext = MessageCodec.contextOf(context)
      if (events.length > 1) {
        return Effect.flatMap(encodeAll(events, messageContext), (messages) => send(events, messages))
      }
      const encoded = codec.encode(events[0], messageContext)
      // The default codec is done at once
      return isDone(encoded)
        ? send(events, [encoded.value])
        : Effect.flatMap(encoded, (message) => send(events, [message]))
    }

    const publish: EventEmitter["Service"]["publish"] = (events) =>
      Effect.withFiber((fiber) => {
        const tracing = Telemetry.isTracing(fiber)
        if (!tracing && !telemetry.metrics) return encodeAndSend(events, fiber.context)
        const topics = new Set(events.map((event) => classOf(event).route.topic))
        return Telemetry.publish(Effect.withFiber((fiber) => encodeAndSend(events, fiber.context)), {
          system: broker.name,
          topic: Array.from(topics).join(","),
          count: events.length,
          tracing,
          metrics: telemetry.metrics
        })
      })

    const emitter = EventEmitter.of({
      publish,
      handle,
      emit: (event, options) =>
        match(event, {
          Domain: (event) => handle(event, options),
          Notification: (event) => reporting(Effect.as(publish([event]), nothing), options?.report)
        })
    })
    return withShortcut(emitter, inDispatchOf, { handlerOf, publish: publishInDispatch })
  })
)

/**
 * What comes after an event: takes its follow-ups.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Next<A, E> = (followUps: ReadonlyArray<Event.Any>) => Effect.Effect<A, E>

/**
 * How our own processor has our own emitter work in its dispatch: with what
 * comes next as a function, and no Effect in between only to be taken apart.
 * It halves the cost of an event. An emitter of your own does not need it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface InDispatch {
  /** Handles the events of a dispatch, one at a time. */
  readonly handlerOf: <A, E>(
    dispatch: Dispatch,
    report: EmitOptions["report"],
    next: Next<A, E>
  ) => { readonly handle: (event: Event.Any) => Effect.Effect<A, E | EventFailure> }
  /** Publishes a batch of a dispatch. */
  readonly publish: <A, E>(
    dispatch: Dispatch,
    events: Arr.NonEmptyReadonlyArray<NotificationEvent.Any>,
    report: EmitOptions["report"],
    next: Next<A, E>
  ) => Effect.Effect<A, E | EventFailure>
}

/**
 * The emitter's `InDispatch`, if it is ours.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const inDispatchOf: unique symbol = Symbol("@event-flow/core/EventEmitter/inDispatch")

// --- internal ---

const unhandled = (event: Event.Any): Effect.Effect<void> =>
  match(event, {
    Domain: (event) =>
      Effect.logWarning(`Domain event "${event._tag}" has no handler: list one in the EventMap, or stop collecting it`),
    // It came from a broker: to go on would be to lose it
    Notification: (event) =>
      Effect.die(
        new Error(`Consumed event "${event._tag}" has no handler in the EventMap of the emitter that was to handle it`)
      )
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
 * The handlers of one event after the other, for the events of one dispatch,
 * one at a time: one continuation frame a handler, no generator, and nothing
 * allocated for an event but its collections. This is the hot path of the
 * library.
 *
 * It is itself what `Effect.matchCauseEffect` is given: an object literal in its
 * place may come to be allocated as an old object (V8 decides at the first full
 * collection), and what an old object holds outlives the next young
 * collections: the whole dispatch.
 */
class HandlerRuns<A, E> {
  readonly #map: EventMap.EventMap["Service"]
  readonly #run: RunHandler
  readonly #dispatch: Dispatch
  readonly #report: EmitOptions["report"]
  readonly #next: Next<A, E>
  #event!: Event.Any
  #handlers!: ReadonlyArray<EventHandler.Bound>
  #index = 0
  #followUps: ReadonlyArray<Event.Any> = nothing
  #collector!: Collector

  constructor(
    map: EventMap.EventMap["Service"],
    run: RunHandler,
    dispatch: Dispatch,
    report: EmitOptions["report"],
    next: Next<A, E>
  ) {
    this.#map = map
    this.#run = run
    this.#dispatch = dispatch
    this.#report = report
    this.#next = next
  }

  handle(event: Event.Any): Effect.Effect<A, E | EventFailure> {
    const entry = EventMap.find(this.#map, event)
    if (entry === undefined) return Effect.flatMap(unhandled(event), () => this.#next(nothing))
    this.#event = event
    this.#handlers = entry.handlers
    this.#index = 0
    this.#followUps = nothing
    return this.#step()
  }

  #step(): Effect.Effect<A, E | EventFailure> {
    if (this.#index === this.#handlers.length) return this.#next(this.#followUps)
    const handler = this.#handlers[this.#index++]!
    const dispatch = this.#dispatch
    this.#collector = new Collector(dispatch)
    dispatch.fiber.setContext(dispatch.handlerContext(handler.context))
    return Effect.matchCauseEffect(this.#run(handler, this.#event, this.#collector), this)
  }

  // Bound, and of one parameter: Effect wraps functions of another arity
  // oxlint-disable-next-line no-unused-vars
  readonly onSuccess = (_: void): Effect.Effect<A, E | EventFailure> => {
    const events = this.#collector.close()
    if (events !== undefined) {
      this.#followUps = this.#followUps.length === 0 ? events : this.#followUps.concat(events)
    }
    return this.#step()
  }

  readonly onFailure = (cause: Cause.Cause<unknown>): Effect.Effect<A, E | EventFailure> => {
    this.#collector.close()
    const event = this.#event._tag
    const handler = this.#handlers[this.#index - 1]!.definition.name
    const failure = Cause.map(cause, (error) => new EventHandlerError({ event, handler, cause: error }))
    // An interruption of the dispatch does not come by here: this one is the handler's own
    if (this.#report === undefined) return Effect.failCause(failure)
    this.#report(failure)
    return this.#step()
  }
}
