/**
 * The collection of one run of one handler.
 */
import * as Effect from "effect/Effect"
import type * as Event from "../../Event.ts"
import { TypeId } from "../definition/eventClass.ts"

/**
 * Where a handler puts the events that it emits. An array behind a
 * function: nothing is allocated until the handler asks for `collect`.
 *
 * `collect` is bound, since handlers destructure it, and lazy, since an Effect
 * may be dropped, repeated or retried.
 */
export class Collector {
  /** What was collected; undefined: nothing. */
  events: Array<Event.Any> | undefined = undefined
  readonly #dispatch: { readonly isEnded: boolean } | undefined
  #closed = false

  /** `dispatch`: ends the collection when it ends; else the owner calls `close`. */
  constructor(dispatch?: { readonly isEnded: boolean }) {
    this.#dispatch = dispatch
  }

  get collect(): (event: Event.Any) => Effect.Effect<void> {
    return (event) => Effect.sync(() => this.#add(event))
  }

  get collectAll(): (events: Iterable<Event.Any>) => Effect.Effect<void> {
    return (events) =>
      Effect.sync(() => {
        for (const event of events) this.#add(event)
      })
  }

  #add(event: Event.Any): void {
    if (this === closedCollector) {
      throw new Error(
        `Event "${event._tag}" was collected by a handler whose definition declares no events: add it to emits`
      )
    }
    if (this.#closed || this.#dispatch?.isEnded === true) {
      // A fiber that outlives its handler: the event would be lost without a word
      throw new Error(
        `Event "${event._tag}" was collected after its handler had ended: join the fiber that collects it`
      )
    }
    if (!(TypeId in event)) throw plainObject(event)
    if (this.events === undefined) this.events = [event]
    else this.events.push(event)
  }

  /** Ends the collection and hands it over: what comes later is a defect of the handler. */
  close(): Array<Event.Any> | undefined {
    this.#closed = true
    return this.events
  }

  /** Hands over what has been collected since the last call and stays open. */
  take(): Array<Event.Any> | undefined {
    const events = this.events
    this.events = undefined
    return events
  }
}

const plainObject = ({ _tag }: { readonly _tag: string }): Error =>
  new Error(
    `"${_tag}" is a plain object with the fields of an event, such as a copy by spread: make it with new ${_tag}({ ... })`
  )

/**
 * For handlers whose definition declares no events. Not a static field of its
 * class: the compiler emits code for that which fails when it is loaded.
 */
export const closedCollector: Collector = new Collector()
