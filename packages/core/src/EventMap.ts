/**
 * Which handlers the domain events of a flow have, in which order.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Event from "./Event.ts"
import type * as EventHandler from "./EventHandler.ts"
import type { TypeId } from "./internal/definition/eventClass.ts"
import { isDomainClass } from "./internal/definition/kinds.ts"
import { makeTable } from "./internal/dispatch/handlerTable.ts"
import { tables } from "./internal/dispatch/ways.ts"

/**
 * Two definitions that cannot stand beside each other (F14).
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class DuplicateDefinition
  extends Schema.TaggedError<DuplicateDefinition>("@event-flow/core/EventMap/DuplicateDefinition")(
    "DuplicateDefinition",
    {
      kind: Schema.Literals(["flow", "command", "handler", "event", "type", "tombstone"]),
      /** The tag of the commands or events, the name of the handlers or flows, or the CloudEvents type or the topic of the events. */
      definition: Schema.String,
      /** The two definitions, described. */
      first: Schema.String,
      second: Schema.String
    }
  )
{
  override get message(): string {
    const what = {
      flow: "flows are named",
      command: "commands have the tag",
      handler: "event handlers are named",
      event: "event classes have the tag",
      type: "event classes have the CloudEvents type",
      tombstone: "event classes are the tombstone of topic"
    }
    return `Two ${what[this.kind]} "${this.definition}": ${this.first}, and ${this.second}. Rename one`
  }
}

/**
 * The table from the tag of an event to its handlers. A flow has one of its own.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class EventMap extends Context.Service<EventMap, {
  /** By tag: the event class, and its handlers in the order of the map. */
  readonly entries: ReadonlyMap<string, {
    readonly event: Event.AnyClass
    readonly handlers: ReadonlyArray<EventHandler.Any>
  }>
}>()("@event-flow/core/EventMap") {}

/** The implementations of the handlers of domain events among these. */
type Implementations<H extends EventHandler.Any> = H extends EventHandler.Any
  ? "Domain" extends H["on"][number][typeof TypeId] ? EventHandler.EventHandlerImplementation<H["name"]> : never
  : never

/**
 * The map of the domain events that these handlers handle. It requires exactly
 * the implementations of the handlers of domain events: those of notification
 * events run in a consumer, which requires theirs.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = <H extends EventHandler.Any>(
  handlers: ReadonlyArray<H>
): Layer.Layer<EventMap, DuplicateDefinition, Implementations<H>> =>
  Layer.effect(
    EventMap,
    Effect.contextWith((context: Context.Context<never>) =>
      Effect.map(
        Effect.mapError(makeTable(handlers, context, isDomainClass), (duplicate) => new DuplicateDefinition(duplicate)),
        (table) => {
          const map = EventMap.of({
            entries: new Map(Array.from(
              table.entries,
              ({ event, handlers }) => [event.tag, { event, handlers: handlers.map(({ definition }) => definition) }]
            ))
          })
          tables.set(map, table)
          return map
        }
      )
    )
  )
