/**
 * Processes the events that a handler collected, and the follow-ups that they
 * lead to, until there are none: sequentially, or in parallel under a bound.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Event from "./Event.ts"
import * as EventEmitter from "./EventEmitter.ts"
import type { EventFlowError } from "./EventFlowError.ts"
import { inDispatch } from "./internal/dispatch/dispatch.ts"
import { makeDrain } from "./internal/dispatch/drain.ts"
import { Collected, failFast, type Failures } from "./internal/dispatch/failures.ts"
import type { Mediator } from "./internal/dispatch/mediatorId.ts"
import { processorWays } from "./internal/dispatch/ways.ts"
import * as Settings from "./Settings.ts"

/**
 * The settings of a processor, as fields of a schema; see `Options`.
 *
 * @stability unstable
 * @category settings
 * @since 0.1.0
 */
export const fields = {
  /**
   * How many emissions of one dispatch run at once, over all its levels (F4): a
   * whole number from 1, or `"unbounded"`. Publishing is one of them at a time,
   * in the order of collection, so that messages of one key keep their order.
   * Default: 1, breadth first in the order of collection (F3).
   */
  concurrency: Settings.withDefault(Schema.Union([Settings.wholeNumber(), Schema.Literal("unbounded")]), 1),
  /**
   * What a failure does (F6). A defect is never turned into one of these: it
   * passes through as a defect (F13).
   *
   * - `"failFast"` (default): the first failure interrupts what runs, starts
   *   nothing new and is the failure of the dispatch.
   * - `"accumulate"`: every event is processed; one `EventsFailed` lists all
   *   failures.
   * - `"log"`: every event is processed; each failure is logged and counted
   *   (`event_flow.event.failures`), and the dispatch succeeds. Events consumed
   *   from a broker are never only logged: their failures reach the
   *   `EventConsumer` as with `"accumulate"`, and its policy decides.
   */
  onFailure: Settings.withDefault(Schema.Literals(["failFast", "accumulate", "log"]), "failFast"),
  /**
   * How many follow-ups an event may be away from the first command, nested
   * sends included, before the dispatch fails with `CascadeTooDeep` (F10, F18).
   * A whole number from 0, or `"unbounded"`. Default: 1000.
   */
  maxDepth: Settings.withDefault(
    Schema.Union([Settings.wholeNumber({ minimum: 0 }), Schema.Literal("unbounded")]),
    1000
  )
}

/**
 * How events are processed. The bound and the policy belong to one dispatch:
 * nested sends and unrelated requests each have their own (F5).
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options extends Schema.Struct.Encoded<typeof fields> {}

const settings = Settings.make("EventProcessor", { prefix: "EVENT_FLOW", schema: Schema.Struct(fields) })

/**
 * Processes events. A flow has a processor of its own.
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
export class EventProcessor extends Context.Service<EventProcessor, {
  /** Emits the events and all follow-ups. The list is not mutated (F16). */
  readonly process: (events: ReadonlyArray<Event.Any>) => Effect.Effect<void, EventFlowError, Mediator>
}>()("@event-flow/core/EventProcessor") {}

/**
 * A processor with these options.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: Options
): Layer.Layer<EventProcessor, Settings.InvalidSetting, EventEmitter.EventEmitter> =>
  Layer.effect(
    EventProcessor,
    Effect.gen(function*() {
      const { concurrency, maxDepth, onFailure: policy } = yield* settings.check(options ?? {})
      const emitter = yield* EventEmitter.EventEmitter
      const drain = makeDrain(emitter, { concurrency: boundOf(concurrency), maxDepth: boundOf(maxDepth) })
      const failuresOf = (): Failures => policy === "failFast" ? failFast : new Collected(policy)
      // Never only logged: the consumer would acknowledge the message, and it would be lost
      const failuresOfConsumed = (): Failures => policy === "failFast" ? failFast : new Collected("accumulate")

      const processor = EventProcessor.of({
        process: (events) =>
          events.length === 0
            ? Effect.void
            : inDispatch((dispatch) => drain(dispatch, events, failuresOf(), () => Effect.void))
      })
      processorWays.set(processor, {
        process: (dispatch, events, next) => drain(dispatch, events, failuresOf(), next),
        consume: (dispatch, handlersOf, next) => {
          const consumeWith = (failures: Failures) =>
            handlersOf(
              dispatch,
              failures.report,
              (followUps) =>
                followUps.length === 0 && failures === failFast ? next() : drain(dispatch, followUps, failures, next)
            )
          // What is accumulated is the failures of one event
          return policy === "failFast"
            ? consumeWith(failFast)
            : { handle: (event) => consumeWith(failuresOfConsumed()).handle(event) }
        }
      })
      return processor
    })
  )

// --- internal ---

const boundOf = (bound: number | "unbounded"): number => bound === "unbounded" ? Infinity : bound
