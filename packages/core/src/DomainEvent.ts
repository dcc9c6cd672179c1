/**
 * A domain event: something that happened, handled in this process by the
 * handlers that the `EventMap` lists for it, before the response of the command
 * is returned.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import type * as Struct from "effect/Struct"
import * as EventClass from "./internal/definition/eventClass.ts"

/**
 * Any domain event instance.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Any extends EventClass.Base<"Domain"> {}

/**
 * Any domain event class.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface AnyClass extends EventClass.AnyClass<"Domain"> {}

/**
 * The class that `DomainEvent.Class` makes. It is a Schema class, so it
 * decodes, encodes, prints and compares like one, and it has a tag.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface DomainEvent<Self, Tag extends string, Fields extends Schema.Struct.Fields>
  extends EventClass.SchemaStatics<Self, Tag, Fields>
{
  new(
    ...args: EventClass.ConstructorArguments<EventClass.TaggedFields<Tag, Fields>>
  ): EventClass.TaggedFields<Tag, Fields>["Type"] & EventClass.Base<"Domain">
  readonly [EventClass.TypeId]: "Domain"
  readonly tag: Tag

  /**
   * Defines an event with these fields and more, under its own tag. It is
   * another event (F15): the handlers of this event do not see it.
   */
  extend<Extended = never>(): <const NewTag extends string, const More extends Schema.Struct.Fields>(
    tag: NewTag,
    fields: More
  ) => [Extended] extends [never] ? EventClass.MissingSelf<"Base.extend">
    : DomainEvent<Extended, NewTag, Struct.Assign<Fields, More>>
}

/**
 * Defines a domain event.
 *
 * **Example** (A domain event)
 *
 * ```ts
 * import { DomainEvent } from "@event-flow/core"
 * import { Schema } from "effect"
 *
 * class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", {
 *   meetingId: Schema.String,
 *   userId: Schema.String
 * }) {}
 * ```
 *
 * **Details**
 *
 * The tag is the name of the event. It must be unique among the events of a
 * program: two events of one tag in an `EventMap` are an error when its layer
 * is built.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const Class = <Self = never>() =>
<const Tag extends string, const Fields extends Schema.Struct.Fields>(
  tag: Tag,
  fields: Fields
): [Self] extends [never] ? EventClass.MissingSelf<"DomainEvent.Class"> : DomainEvent<Self, Tag, Fields> =>
  // `makeClass` makes a class with this tag and these fields, as the type says
  makeClass(tag, fields) as never

/**
 * Whether a value is a domain event instance.
 *
 * @stability unstable
 * @category guards
 * @since 0.1.0
 */
export const isDomainEvent = (u: unknown): u is Any =>
  Predicate.hasProperty(u, EventClass.TypeId) && u[EventClass.TypeId] === "Domain" && typeof u !== "function"

// --- internal ---

const makeClass = (tag: string, fields: Schema.Struct.Fields): unknown =>
  EventClass.make({
    tag,
    fields,
    kind: "Domain",
    statics: {
      extend: () => (newTag: string, more: Schema.Struct.Fields) => makeClass(newTag, { ...fields, ...more })
    }
  })
