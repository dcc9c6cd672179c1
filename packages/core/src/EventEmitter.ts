/**
 * Takes one event to where it belongs: a domain event to its handlers in this
 * process, a notification event to the broker.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Broker from "./Broker.ts"
import type * as Event from "./Event.ts"
import { match } from "./Event.ts"
import type { EventFailure } from "./EventFlowError.ts"
import * as EventMap from "./EventMap.ts"
import { inDispatch } from "./internal/dispatch/dispatch.ts"
import { HandlerRuns } from "./internal/dispatch/handlerRuns.ts"
import type { Mediator } from "./internal/dispatch/mediatorId.ts"
import { makePublish } from "./internal/dispatch/publish.ts"
import { nothing, reporting } from "./internal/dispatch/reporting.ts"
import { makeRunHandler } from "./internal/dispatch/watchHandler.ts"
import { type EmitterWay, emitterWays, tables } from "./internal/dispatch/ways.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"

/**
 * Emits events. A flow has an emitter of its own.
 *
 * **Details**
 *
 * The handlers that it runs may send commands, so it needs the mediator that
 * runs the dispatch.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class EventEmitter extends Context.Service<EventEmitter, {
  /**
   * Runs the handlers of a domain event and gives the follow-ups that they
   * collected, in order; publishes a notification event.
   */
  readonly emit: (
    event: Event.Any,
    options?: {
      /**
       * Called with each failure of a handler (or of a publish); the other handlers
       * of the event still run. Without it the first failure ends the emission.
       */
      readonly report?: ((failure: Cause.Cause<EventFailure>) => void) | undefined
    }
  ) => Effect.Effect<ReadonlyArray<Event.Any>, EventFailure, Mediator>
  /** Publishes notification events as one batch, in order. */
  readonly publish: (
    events: Arr.NonEmptyReadonlyArray<NotificationEvent.Any>
  ) => Effect.Effect<void, Broker.BrokerNotFound | Broker.PublishError>
}>()("@event-flow/core/EventEmitter") {}

/**
 * The emitter of an `EventMap` and a `Broker`, with the `MessageCodec` that the
 * layer finds.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EventEmitter, never, EventMap.EventMap | Broker.Broker> = Layer.effect(
  EventEmitter,
  Effect.gen(function*() {
    const table = tables.get(yield* EventMap.EventMap)
    if (table === undefined) {
      return yield* Effect.die(new Error("The EventMap of an EventEmitter must come from EventMap.layer"))
    }
    const run = yield* makeRunHandler
    const publishing = yield* makePublish(yield* Broker.Broker)

    const handlerOf: EmitterWay["handlerOf"] = (dispatch, report, next) =>
      new HandlerRuns(table, run, dispatch, report, next, undefined)

    const emitter = EventEmitter.of({
      publish: publishing.publish,
      emit: (event, options) =>
        match(event, {
          Domain: (event) =>
            inDispatch((dispatch) => handlerOf(dispatch, options?.report, Effect.succeed).handle(event)),
          Notification: (event) => reporting(Effect.as(publishing.publish([event]), nothing), options?.report)
        })
    })
    emitterWays.set(emitter, { handlerOf, publish: publishing.inDispatch })
    return emitter
  })
)
