/**
 * Processes the events that a handler collected, and the follow-ups that they
 * lead to, until there are none: sequentially, or in parallel under a bound.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import type * as Event from "./Event.ts"
import { TypeId } from "./Event.ts"
import * as EventEmitter from "./EventEmitter.ts"
import type { EventFailure, EventFlowError } from "./EventFlowError.ts"
import { CascadeTooDeep, EventsFailed } from "./EventFlowError.ts"
import { type Dispatch, inDispatch } from "./internal/dispatch.ts"
import type { Mediator } from "./internal/mediatorId.ts"
import { runPool } from "./internal/pool.ts"
import { nothing, reporting } from "./internal/reporting.ts"
import { withShortcut } from "./internal/shortcut.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"
import * as Telemetry from "./Telemetry.ts"

/**
 * How events are processed. The bound and the policy belong to one dispatch:
 * nested sends and unrelated requests each have their own (F5).
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How many emissions of one dispatch run at once, over all its levels (F4).
   * Publishing is one of them at a time, in the order of collection, so that
   * messages of one key keep their order.
   * Default: 1, breadth first in the order of collection (F3).
   */
  readonly concurrency?: number | "unbounded" | undefined
  /**
   * What a failure does (F6). A defect is never turned into one of these: it
   * passes through as a defect (F13).
   *
   * - `"failFast"` (default): the first failure interrupts what runs, starts
   *   nothing new and is the failure of the dispatch.
   * - `"accumulate"`: every event is processed; one `EventsFailed` lists all
   *   failures.
   * - `"log"`: every event is processed; each failure is logged and counted
   *   (`event_flow.event.failures`), and the dispatch succeeds. An event that
   *   came from a broker is no dispatch to log and forget: its failures reach
   *   the `EventConsumer` as with `"accumulate"`, whose policy decides.
   */
  readonly onFailure?: "failFast" | "accumulate" | "log" | undefined
  /**
   * How many follow-ups an event may be away from its command, before the
   * dispatch fails with `CascadeTooDeep` (F10). Default: 1000.
   */
  readonly maxDepth?: number | undefined
}

/**
 * Processes events. The handlers that it runs may send commands, hence the
 * `Mediator`.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class EventProcessor extends Context.Service<EventProcessor, {
  /** Emits the events and all follow-ups. The list is not mutated (F16). */
  readonly process: (events: ReadonlyArray<Event.Any>) => Effect.Effect<void, EventFlowError, Mediator>
  /** Runs the local handlers of an event that came from a broker, then processes its follow-ups. */
  readonly handle: (event: Event.Any) => Effect.Effect<void, EventFlowError, Mediator>
}>()("@event-flow/core/EventProcessor") {}

/**
 * A processor with these options.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<EventProcessor, never, EventEmitter.EventEmitter> =>
  Layer.effect(
    EventProcessor,
    Effect.map(EventEmitter.EventEmitter, (emitter: Emitter) => {
      const concurrency = options?.concurrency === "unbounded" ? Infinity : options?.concurrency ?? 1
      const maxDepth = options?.maxDepth ?? 1000
      const policy = options?.onFailure ?? "failFast"
      const failuresOf = (): Failures => policy === "failFast" ? failFast : new Collected(policy)

      const drain = <A, E>(
        dispatch: Dispatch,
        events: ReadonlyArray<Event.Any>,
        failures: Failures,
        next: () => Effect.Effect<A, E>
      ): Effect.Effect<A, E | EventFlowError> => {
        const done = failures === failFast ? next : () => Effect.flatMap(failures.conclude, next)
        // Not `concurrency <= 1`: a bound that is no number would start nothing
        if (!(concurrency > 1)) return new SequentialDrain(emitter, dispatch, events, failures, maxDepth, done).step()
        dispatch.fiber.setContext(dispatch.context)
        return Effect.flatMap(drainParallel(emitter, events, failures, maxDepth, concurrency), done)
      }

      const processor = EventProcessor.of({
        process: (events) =>
          events.length === 0
            ? Effect.void
            : inDispatch((dispatch) => drain(dispatch, events, failuresOf(), () => Effect.void)),
        handle: (event) =>
          inDispatch((dispatch) => {
            // Never only logged: the consumer would acknowledge the message, and it would be lost
            const failures = policy === "failFast" ? failFast : new Collected("accumulate")
            return Effect.flatMap(
              emitter.handle(event, failures),
              (followUps) => drain(dispatch, followUps, failures, () => Effect.void)
            )
          })
      })
      const process: InDispatch[typeof processInDispatch] = (dispatch, events, next) =>
        drain(dispatch, events, failuresOf(), next)
      const handlerOf: HandlesInDispatch[typeof handlesInDispatch] = (dispatch, next) =>
        // What is accumulated is the failures of one event, and no business of the next one's
        policy !== "failFast" ? undefined : emitter[EventEmitter.inDispatchOf]?.handlerOf(
          dispatch,
          undefined,
          (followUps) => {
            if (followUps.length === 0) return next()
            dispatch.context = dispatch.flow?.context ?? dispatch.context
            return drain(dispatch, followUps, failFast, next)
          }
        )
      return withShortcut(withShortcut(processor, processInDispatch, process), handlesInDispatch, handlerOf)
    })
  )

/**
 * How our own mediator has our own processor work in its dispatch (see
 * `EventEmitter.InDispatch`).
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface InDispatch {
  readonly [processInDispatch]: <A, E>(
    dispatch: Dispatch,
    events: ReadonlyArray<Event.Any>,
    next: () => Effect.Effect<A, E>
  ) => Effect.Effect<A, E | EventFlowError>
}

/**
 * The key of `InDispatch`.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const processInDispatch: unique symbol = Symbol("@event-flow/core/EventProcessor/inDispatch")

/**
 * How our own consumer has our own processor handle one event after another in
 * the dispatch of a worker.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface HandlesInDispatch {
  /** `next` comes after the follow-ups of an event. Undefined: use `handle`. */
  readonly [handlesInDispatch]: <A, E>(
    dispatch: Dispatch,
    next: () => Effect.Effect<A, E>
  ) => { readonly handle: (event: Event.Any) => Effect.Effect<A, E | EventFlowError> } | undefined
}

/**
 * The key of `HandlesInDispatch`.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const handlesInDispatch: unique symbol = Symbol("@event-flow/core/EventProcessor/handlesInDispatch")

// --- internal ---

type Emitter = EventEmitter.EventEmitter["Service"] & {
  readonly [EventEmitter.inDispatchOf]?: EventEmitter.InDispatch
}

/** The policy of a dispatch: fail at once, or take note and go on. */
interface Failures extends EventEmitter.EmitOptions {
  readonly conclude: Effect.Effect<void, EventsFailed>
}

const failFast: Failures = { conclude: Effect.void }

class Collected implements Failures {
  readonly #policy: "accumulate" | "log"
  readonly #causes: Array<Cause.Cause<EventFailure>> = []

  constructor(policy: "accumulate" | "log") {
    this.#policy = policy
  }

  readonly report = (cause: Cause.Cause<EventFailure>): void => {
    this.#causes.push(cause)
  }

  readonly conclude: Effect.Effect<void, EventsFailed> = Effect.suspend(() => {
    if (this.#causes.length === 0) return Effect.void
    const reasons = this.#causes.flatMap((cause) => cause.reasons)
    const failures = reasons.filter(Cause.isFailReason).map((reason) => reason.error)
    // Defects, and handlers that interrupted themselves: no policy hides them
    const defects = Cause.fromReasons<never>(
      reasons.filter((reason) => Cause.isDieReason(reason) || Cause.isInterruptReason(reason))
    )
    const died = defects.reasons.length > 0 ? Effect.failCause(defects) : Effect.void
    if (!Arr.isReadonlyArrayNonEmpty(failures)) return died
    if (this.#policy === "log") return Effect.andThen(Effect.forEach(failures, logFailure, { discard: true }), died)
    return Effect.failCause(Cause.combine(Cause.fail(new EventsFailed({ failures })), defects))
  })
}

const logFailure = (failure: EventFailure): Effect.Effect<void> =>
  Effect.andThen(
    Effect.logError(failure.message, Cause.fail(failure)),
    Metric.update(Telemetry.loggedFailures, 1)
  )

/** What is emitted at once: a domain event, or adjacent notification events (F12). */
type Item = Event.Any | Batch

type Batch = Arr.NonEmptyReadonlyArray<NotificationEvent.Any>

/** The item that starts at `index`. */
const itemAt = (events: ReadonlyArray<Event.Any>, index: number): Item => {
  const event = events[index]!
  if (event[TypeId] !== "Notification") return event
  const batch: Arr.NonEmptyArray<NotificationEvent.Any> = [event]
  for (let end = index + 1; end < events.length; end++) {
    const next = events[end]!
    if (next[TypeId] !== "Notification") break
    batch.push(next)
  }
  return batch
}

const isBatch = (item: Item): item is Batch => Array.isArray(item)

const emitItem = (
  emitter: EventEmitter.EventEmitter["Service"],
  item: Item,
  failures: Failures
): Effect.Effect<ReadonlyArray<Event.Any>, EventFailure> => {
  if (!isBatch(item)) return emitter.emit(item, failures)
  return reporting(Effect.as(emitter.publish(item), nothing), failures.report)
}

const tooDeep = (event: Event.Any, maxDepth: number, failures: Failures): Effect.Effect<void, CascadeTooDeep> => {
  const error = new CascadeTooDeep({ event: event._tag, maxDepth })
  if (failures.report === undefined) return Effect.fail(error)
  failures.report(Cause.fail(error))
  return Effect.void
}

/**
 * Breadth first by levels. Only two levels are kept, so a chain of a million
 * follow-ups takes constant memory, and `advance` returns to the run loop, so
 * it takes constant stack (F10).
 */
class SequentialDrain<A, E> {
  readonly #emitter: Emitter
  readonly #handlers: { readonly handle: (event: Event.Any) => Effect.Effect<A, E | EventFailure> } | undefined
  readonly #dispatch: Dispatch
  readonly #failures: Failures
  readonly #maxDepth: number
  readonly #done: () => Effect.Effect<A, E>
  #level: ReadonlyArray<Event.Any>
  #following = nothing
  // What a handler collected is taken as it is; what is added to must be a copy (F16)
  #additions: Array<Event.Any> | undefined = undefined
  #index = 0
  #depth = 0

  constructor(
    emitter: Emitter,
    dispatch: Dispatch,
    events: ReadonlyArray<Event.Any>,
    failures: Failures,
    maxDepth: number,
    done: () => Effect.Effect<A, E>
  ) {
    this.#emitter = emitter
    this.#dispatch = dispatch
    this.#level = events
    this.#failures = failures
    this.#maxDepth = maxDepth
    this.#done = done
    this.#handlers = emitter[EventEmitter.inDispatchOf]?.handlerOf(dispatch, failures.report, this.#advance)
  }

  step(): Effect.Effect<A, E | EventFailure> {
    if (this.#index === this.#level.length) {
      if (this.#following.length === 0) return this.#done()
      this.#level = this.#following
      this.#following = nothing
      this.#additions = undefined
      this.#index = 0
      if (++this.#depth > this.#maxDepth) {
        return Effect.flatMap(tooDeep(this.#level[0]!, this.#maxDepth, this.#failures), this.#done)
      }
    }
    const ours = this.#emitter[EventEmitter.inDispatchOf]
    const event = this.#level[this.#index]!
    if (this.#handlers !== undefined && event[TypeId] === "Domain") {
      this.#index++
      return this.#handlers.handle(event)
    }
    const item = itemAt(this.#level, this.#index)
    this.#index += isBatch(item) ? item.length : 1
    if (ours !== undefined && isBatch(item)) {
      return ours.publish(this.#dispatch, item, this.#failures.report, this.#advance)
    }
    this.#dispatch.fiber.setContext(this.#dispatch.context)
    return Effect.flatMap(emitItem(this.#emitter, item, this.#failures), this.#advance)
  }

  readonly #advance = (followUps: ReadonlyArray<Event.Any>): Effect.Effect<A, E | EventFailure> => {
    if (followUps.length > 0) {
      if (this.#following.length === 0) {
        this.#following = followUps
      } else {
        if (this.#additions === undefined) this.#following = this.#additions = Array.from(this.#following)
        for (const followUp of followUps) this.#additions.push(followUp)
      }
    }
    return this.step()
  }
}

const drainParallel = (
  emitter: EventEmitter.EventEmitter["Service"],
  events: ReadonlyArray<Event.Any>,
  failures: Failures,
  maxDepth: number,
  concurrency: number
): Effect.Effect<void, EventFailure> =>
  Effect.suspend(() => {
    // One publish at a time, in the order in which their turns came: publishing
    // side by side would reorder the messages of a key. What waits takes no place
    let isPublishing = false
    const waiting: Array<Batch> = []

    const publishAll = (batch: Batch): Effect.Effect<void, EventFailure> =>
      Effect.flatMap(emitItem(emitter, batch, failures), () => {
        const next = waiting.shift()
        if (next !== undefined) return publishAll(next)
        isPublishing = false
        return Effect.void
      })

    return runPool<Work, EventFailure>({
      concurrency,
      initial: toWork(events, 0),
      run: ({ depth, item }) => {
        if (isBatch(item)) {
          if (isPublishing) {
            waiting.push(item)
            return noWork
          }
          isPublishing = true
          return Effect.andThen(publishAll(item), noWork)
        }
        return Effect.flatMap(emitItem(emitter, item, failures), (followUps) => {
          if (followUps.length === 0) return noWork
          if (depth + 1 > maxDepth) return Effect.as(tooDeep(followUps[0]!, maxDepth, failures), [])
          return Effect.succeed(toWork(followUps, depth + 1))
        })
      }
    })
  })

interface Work {
  readonly item: Item
  readonly depth: number
}

const noWork: Effect.Effect<ReadonlyArray<Work>> = Effect.succeed([])

const toWork = (events: ReadonlyArray<Event.Any>, depth: number): ReadonlyArray<Work> => {
  const work: Array<Work> = []
  for (let index = 0; index < events.length;) {
    const item = itemAt(events, index)
    work.push({ item, depth })
    index += isBatch(item) ? item.length : 1
  }
  return work
}
