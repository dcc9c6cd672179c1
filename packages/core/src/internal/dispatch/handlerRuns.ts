/**
 * Runs the handlers of events, one event after the other.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Event from "../../Event.ts"
import { type EventFailure, EventHandlerError } from "../../EventFlowError.ts"
import type { BoundHandler } from "../definition/handlerDefinition.ts"
import { Collector } from "./collector.ts"
import { type Dispatch, enterHandler } from "./dispatch.ts"
import type { Flow } from "./flow.ts"
import type { CountedHandler, HandlerTable } from "./handlerTable.ts"
import { nothing } from "./reporting.ts"
import type { Memory, Next, Report } from "./ways.ts"

export type RunHandler = (
  handler: BoundHandler,
  event: Event.Any,
  collector: Collector,
  flow: Flow
) => Effect.Effect<void, unknown>

/** A handler that throws died. */
export const runHandler: RunHandler = (handler, event, collector) => {
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
export class HandlerRuns<A, E> {
  readonly #table: HandlerTable
  readonly #run: RunHandler
  readonly #dispatch: Dispatch
  readonly #report: Report
  readonly #next: Next<A, E>
  readonly #memory: Memory | undefined
  #event!: Event.Any
  #handlers!: ReadonlyArray<CountedHandler>
  #index = 0
  #followUps: ReadonlyArray<Event.Any> = nothing
  #collector!: Collector

  constructor(
    table: HandlerTable,
    run: RunHandler,
    dispatch: Dispatch,
    report: Report,
    next: Next<A, E>,
    memory: Memory | undefined
  ) {
    this.#table = table
    this.#run = run
    this.#dispatch = dispatch
    this.#report = report
    this.#next = next
    this.#memory = memory
  }

  handle(event: Event.Any): Effect.Effect<A, E | EventFailure> {
    const entry = this.#table.find(event)
    if (entry === undefined) return Effect.flatMap(this.#table.unhandled(event), () => this.#next(nothing))
    entry.counts.emitted++
    this.#event = event
    this.#handlers = entry.handlers
    this.#index = 0
    this.#followUps = nothing
    if (this.#memory !== undefined) this.#memory.begin(entry.handlers)
    return this.#step()
  }

  #step(): Effect.Effect<A, E | EventFailure> {
    if (this.#memory !== undefined) this.#pass(this.#memory)
    if (this.#index === this.#handlers.length) return this.#next(this.#followUps)
    const handler = this.#handlers[this.#index++]!
    handler.counts.started++
    this.#collector = new Collector(this.#dispatch)
    enterHandler(this.#dispatch, handler.services)
    return Effect.matchCauseEffect(this.#run(handler, this.#event, this.#collector, this.#dispatch.flow), this)
  }

  /** Passes over the handlers that have succeeded already. */
  #pass(memory: Memory): void {
    while (this.#index < this.#handlers.length) {
      const events = memory.collectedBy(this.#index)
      if (events === undefined) return
      this.#index++
      this.#follow(events)
    }
  }

  #follow(events: ReadonlyArray<Event.Any>): void {
    if (events.length > 0) this.#followUps = this.#followUps.length === 0 ? events : this.#followUps.concat(events)
  }

  // Bound, and of one parameter: Effect wraps functions of another arity
  // oxlint-disable-next-line no-unused-vars
  readonly onSuccess = (_: void): Effect.Effect<A, E | EventFailure> => {
    const events = this.#collector.close()
    if (events !== undefined) this.#follow(events)
    if (this.#memory !== undefined) this.#memory.succeeded(this.#index - 1, events ?? nothing)
    return this.#step()
  }

  readonly onFailure = (cause: Cause.Cause<unknown>): Effect.Effect<A, E | EventFailure> => {
    this.#collector.close()
    const event = this.#event._tag
    const bound = this.#handlers[this.#index - 1]!
    const handler = bound.definition.name
    bound.counts.failed++
    if (this.#memory !== undefined) this.#memory.failedAt(this.#index - 1)
    const failure = Cause.map(cause, (error) => new EventHandlerError({ event, handler, cause: error }))
    // An interruption of the dispatch does not come by here: this one is the handler's own
    if (this.#report === undefined) return Effect.failCause(failure)
    this.#report(failure)
    return this.#step()
  }
}
