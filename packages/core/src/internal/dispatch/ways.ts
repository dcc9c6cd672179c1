/**
 * How our own parts of a flow work in one another's dispatch: with what comes
 * next as a function, and no Effect in between only to be taken apart. It
 * halves the cost of an event.
 *
 * A part is found by its identity. A decorator, a copy or a part of your own is
 * another object, so nobody goes round it.
 */
import type * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import type * as Event from "../../Event.ts"
import type { EventFailure, EventFlowError } from "../../EventFlowError.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import type { Dispatch } from "./dispatch.ts"
import type { CountedHandler, HandlerTable } from "./handlerTable.ts"

/** Takes a failure of an emission, and the rest goes on; undefined: the first failure ends the emission. */
export type Report = ((failure: Cause.Cause<EventFailure>) => void) | undefined

/** What comes after an event: takes its follow-ups. */
export type Next<A, E> = (followUps: ReadonlyArray<Event.Any>) => Effect.Effect<A, E>

/** Handles events of a dispatch, one at a time. */
export interface Handles<A, E> {
  readonly handle: (event: Event.Any) => Effect.Effect<A, E | EventFailure>
}

/** The way into our emitter. */
export interface EmitterWay {
  readonly handlerOf: <A, E>(dispatch: Dispatch, report: Report, next: Next<A, E>) => Handles<A, E>
  readonly publish: <A, E>(
    dispatch: Dispatch,
    events: Arr.NonEmptyReadonlyArray<NotificationEvent.Any>,
    report: Report,
    next: Next<A, E>
  ) => Effect.Effect<A, E | EventFailure>
}

/** The way into our processor. */
export interface ProcessorWay {
  readonly process: <A, E>(
    dispatch: Dispatch,
    events: ReadonlyArray<Event.Any>,
    next: () => Effect.Effect<A, E>
  ) => Effect.Effect<A, E | EventFlowError>
  /** For events that came from a broker: handles one in the dispatch, then its follow-ups. */
  readonly consume: <A, E>(
    dispatch: Dispatch,
    handlers: HandlesFollowUps,
    next: () => Effect.Effect<A, E>
  ) => { readonly handle: (event: Event.Any) => Effect.Effect<A, E | EventFlowError> }
}

/** Runs the handlers of a consumed event and hands over their follow-ups. */
export type HandlesFollowUps = <A, E>(dispatch: Dispatch, report: Report, next: Next<A, E>) => Handles<A, E>

/** What is remembered of the handlers of one event, by their place, from one attempt to the next. */
export interface Memory {
  readonly begin: (handlers: ReadonlyArray<CountedHandler>) => void
  /** What a handler collected that has succeeded already; undefined: it is to run. */
  readonly collectedBy: (index: number) => ReadonlyArray<Event.Any> | undefined
  readonly succeeded: (index: number, events: ReadonlyArray<Event.Any>) => void
  readonly failedAt: (index: number) => void
}

export const emitterWays = new WeakMap<object, EmitterWay>()
export const processorWays = new WeakMap<object, ProcessorWay>()
/** The implementations behind our event maps. */
export const tables = new WeakMap<object, HandlerTable>()
