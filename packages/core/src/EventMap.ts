/**
 * Which handlers an event has, in which order: a plain table, built once.
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

/**
 * Two definitions that cannot stand in one map (F14).
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class DuplicateDefinition
  extends Schema.TaggedError<DuplicateDefinition>("@event-flow/core/EventMap/DuplicateDefinition")(
    "DuplicateDefinition",
    {
      kind: Schema.Literals(["handler", "event"]),
      /** The name of the handlers, or the tag of the events. */
      name: Schema.String,
      /** The two definitions, described. */
      first: Schema.String,
      second: Schema.String
    }
  )
{
  override get message(): string {
    return this.kind === "handler"
      ? `Two event handlers are named "${this.name}": ${this.first}, and ${this.second}. Rename one`
      : `Two event classes have the tag "${this.name}": ${this.first}, and ${this.second}. Rename one`
  }
}

/**
 * The handlers of one event class, in the order of the map.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Entry {
  readonly event: Event.AnyClass
  readonly handlers: ReadonlyArray<EventHandler.Bound>
}

/**
 * The table from an event's tag to its handlers.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class EventMap extends Context.Service<EventMap, {
  readonly entries: ReadonlyMap<string, Entry>
}>()("@event-flow/core/EventMap") {}

/**
 * Looks up the handlers of an event by its exact class: a subclass is another
 * event (F15).
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const find = (map: EventMap["Service"], event: Event.Any): Entry | undefined => {
  const entry = map.entries.get(event._tag)
  return entry !== undefined && entry.event === (event.constructor as unknown) ? entry : undefined
}

/**
 * A map of the listed handlers; requires exactly their services.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = <const Handlers extends ReadonlyArray<EventHandler.Any>>(
  ...handlers: Handlers
): Layer.Layer<EventMap, DuplicateDefinition, EventHandler.Services<Handlers>> =>
  Layer.effect(
    EventMap,
    Effect.contextWith((context: Context.Context<EventHandler.Services<Handlers>>) => build(handlers, context))
  )

// --- internal ---

const describeHandler = (handler: EventHandler.Any): string => `the one on "${handler.on.tag}"`

const describeEvent = (handler: EventHandler.Any): string => {
  const fields = Object.keys(handler.on.fields).filter((name) => name !== "_tag")
  return `the one with fields {${fields.join(", ")}} handled by "${handler.name}"`
}

const build = (
  handlers: ReadonlyArray<EventHandler.Any>,
  context: Context.Context<never>
): Effect.Effect<EventMap["Service"], DuplicateDefinition> => {
  const byName = new Map<string, EventHandler.Any>()
  const byTag = new Map<string, { readonly first: EventHandler.Any; readonly bound: Array<EventHandler.Bound> }>()
  for (const handler of handlers) {
    // The layer's type requires the service of every listed handler
    const bound = Context.getUnsafe(context, handler.key)
    const namesake = byName.get(handler.name) ?? (bound.definition === handler ? undefined : bound.definition)
    if (namesake !== undefined) {
      return Effect.fail(
        new DuplicateDefinition({
          kind: "handler",
          name: handler.name,
          first: describeHandler(namesake),
          second: describeHandler(handler)
        })
      )
    }
    byName.set(handler.name, handler)
    const tag = handler.on.tag
    const entry = byTag.get(tag)
    if (entry === undefined) {
      byTag.set(tag, { first: handler, bound: [bound] })
    } else if (entry.first.on === handler.on) {
      entry.bound.push(bound)
    } else {
      return Effect.fail(
        new DuplicateDefinition({
          kind: "event",
          name: tag,
          first: describeEvent(entry.first),
          second: describeEvent(handler)
        })
      )
    }
  }
  const entries = new Map<string, Entry>()
  for (const [tag, { bound, first }] of byTag) entries.set(tag, { event: first.on, handlers: bound })
  return Effect.succeed({ entries })
}
