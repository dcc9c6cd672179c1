/**
 * Which handlers an event has, in which order: a plain table, built once.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Event from "../../Event.ts"
import { type BoundHandler, implementationKey } from "../definition/handlerDefinition.ts"
import type { Duplicate, HandlerDefinition } from "../definition/models.ts"

/** A handler in a table, with how its runs went: those that started, and of these the ones that failed. */
export interface CountedHandler extends BoundHandler {
  readonly counts: { started: number; failed: number }
}

/** The handlers of one event class, in the order of the list. */
export interface TableEntry {
  readonly event: Event.AnyClass
  readonly handlers: ReadonlyArray<CountedHandler>
  readonly counts: { emitted: number }
}

export class HandlerTable {
  readonly #entries: ReadonlyMap<string, TableEntry>
  readonly #unhandled = new Set<unknown>()

  constructor(entries: ReadonlyMap<string, TableEntry>) {
    this.#entries = entries
  }

  get entries(): Iterable<TableEntry> {
    return this.#entries.values()
  }

  /** By the exact class of the event: a subclass is another event (F15). */
  find(event: Event.Any): TableEntry | undefined {
    const entry = this.#entries.get(event._tag)
    return entry !== undefined && entry.event === (event.constructor as unknown) ? entry : undefined
  }

  /** What is to be said of an event for which `find` gives nothing. */
  unhandled(event: Event.Any): Effect.Effect<void> {
    const namesake = this.#entries.get(event._tag)
    if (namesake !== undefined) return Effect.die(anotherClass(event, namesake))
    if (this.#unhandled.has(event.constructor)) return Effect.void
    this.#unhandled.add(event.constructor)
    return Effect.logWarning(
      `Domain event "${event._tag}" has no handler in its flow: list one, or stop collecting it. ` +
        "This is said once for each event class"
    )
  }
}

const anotherClass = (event: Event.Any, { event: { tag }, handlers }: TableEntry): Error =>
  new Error(
    `Two event classes have the tag "${tag}": the one that handler "${handlers[0]?.definition.name}" handles, ` +
      `and the one of the event that was collected (class ${event.constructor.name}). ` +
      "It is a second copy of the module, or a subclass: define it with extend and a tag of its own"
  )

/** The table of these handlers, whose implementations are in `context`, for the events that pass `isIncluded`. */
export const makeTable = (
  handlers: ReadonlyArray<HandlerDefinition>,
  context: Context.Context<never>,
  isIncluded: (event: Event.AnyClass) => boolean
): Effect.Effect<HandlerTable, Duplicate> => {
  const byName = new Map<string, HandlerDefinition>()
  const byTag = new Map<
    string,
    { readonly first: HandlerDefinition; readonly event: Event.AnyClass; readonly bound: Array<CountedHandler> }
  >()
  for (const handler of handlers) {
    const events = handler.on.filter(isIncluded)
    if (events.length === 0) continue
    // The type of the layer requires the implementation of every listed handler
    const implementation = Context.getUnsafe(context, implementationKey(handler))
    const namesake = byName.get(handler.name) ??
      (implementation.definition === handler ? undefined : implementation.definition)
    if (namesake !== undefined) {
      return Effect.fail<Duplicate>(
        {
          kind: "handler",
          definition: handler.name,
          first: describeHandler(namesake),
          second: describeHandler(handler)
        }
      )
    }
    byName.set(handler.name, handler)
    const bound: CountedHandler = { ...implementation, counts: { started: 0, failed: 0 } }
    for (const event of new Set(events)) {
      const entry = byTag.get(event.tag)
      if (entry === undefined) {
        byTag.set(event.tag, { first: handler, event, bound: [bound] })
      } else if (entry.event === event) {
        entry.bound.push(bound)
      } else {
        return Effect.fail<Duplicate>(
          {
            kind: "event",
            definition: event.tag,
            first: describeEvent(entry.event, entry.first),
            second: describeEvent(event, handler)
          }
        )
      }
    }
  }
  const entries = new Map<string, TableEntry>()
  for (const [tag, { bound, event }] of byTag) entries.set(tag, { event, handlers: bound, counts: { emitted: 0 } })
  return Effect.succeed(new HandlerTable(entries))
}

const describeHandler = (handler: HandlerDefinition): string =>
  `the one on ${handler.on.map(({ tag }) => `"${tag}"`).join(", ")}`

const describeEvent = (event: Event.AnyClass, handler: HandlerDefinition): string => {
  const fields = Object.keys(event.fields).filter((name) => name !== "_tag")
  return `the one with fields {${fields.join(", ")}} handled by "${handler.name}"`
}
