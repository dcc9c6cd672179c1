/**
 * A notification event: an event for other programs. It is published to a
 * message broker. No handler sees it in the process that collects it, unless a
 * consumer brings it back (F8).
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import type * as Struct from "effect/Struct"
import * as EventClass from "./internal/definition/eventClass.ts"
import type { Headers } from "./Message.ts"
import type { Upcast } from "./Upcast.ts"

/**
 * Any notification event instance.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Any extends EventClass.Base<"Notification"> {}

/**
 * The topic, the key and the version of a notification event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Route {
  /** The topic. Layers of brokers without topics map it to something else. */
  readonly topic: string
  /** The version that this program writes. It reads this version and those that `upcast` starts from. */
  readonly version: number
  /** Messages of one key keep their order. Undefined: the event has no key, and no order is promised. */
  readonly key: ((event: never) => string | undefined) | undefined
  readonly upcast: Upcast<number, unknown> | undefined
  /** The CloudEvents type of a version. */
  readonly type: (version: number) => string
  readonly id: ((event: never) => string) | undefined
  readonly headers: ((event: never) => Headers) | undefined
  /** For a tombstone, which has no body: reads the fields from the key. */
  readonly tombstone: ((key: string) => unknown) | undefined
}

/**
 * Any notification event class.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface AnyClass extends EventClass.AnyClass<"Notification"> {
  readonly route: Route
}

/**
 * The class that `NotificationEvent.Class` makes.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface NotificationEvent<Self, Tag extends string, Fields extends Schema.Struct.Fields>
  extends EventClass.SchemaStatics<Self, Tag, Fields>
{
  new(
    ...args: EventClass.ConstructorArguments<EventClass.TaggedFields<Tag, Fields>>
  ): EventClass.TaggedFields<Tag, Fields>["Type"] & EventClass.Base<"Notification">
  readonly [EventClass.TypeId]: "Notification"
  readonly tag: Tag
  readonly route: Route

  /** Defines a notification event with these fields and more, under its own tag and route. */
  extend<Extended = never>(): <
    const NewTag extends string,
    const More extends WireFields,
    const Version extends number = 1
  >(
    tag: NewTag,
    fields: More,
    options: Options<NewTag, Struct.Assign<Fields, More>, Version>
  ) => [Extended] extends [never] ? EventClass.MissingSelf<"Base.extend">
    : NotificationEvent<Extended, NewTag, Struct.Assign<Fields, More>>
}

/**
 * The fields of a notification event. Their codecs need no services: a message
 * must encode and decode by itself.
 *
 * **Gotchas**
 *
 * Encoding must be synchronous, which the types cannot check: an encoding that
 * waits is a defect when the event is published.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type WireFields = {
  readonly [x: PropertyKey]: Schema.Constraint & {
    readonly DecodingServices: never
    readonly EncodingServices: never
  }
}

/**
 * Options of a notification event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options<Tag extends string, Fields extends Schema.Struct.Fields, Version extends number> {
  /** The topic that the event is published to. */
  readonly topic: string
  /**
   * The ordering key: messages of one key are handled in the order in which
   * they were published. The function is given the decoded fields. Default: no
   * key.
   */
  // NoInfer: inferring fields from the function would triple what the compiler does for an event
  readonly key?: ((event: NoInfer<EventClass.TaggedFields<Tag, Fields>["Type"]>) => string | undefined) | undefined
  /** A whole number from 1. Raise it with each change of the fields. Default: 1. */
  readonly version?: Version | undefined
  /** Typed steps from version 1 to this one. Without them only this version can be read. */
  readonly upcast?: Upcast<NoInfer<Version>, Schema.Struct<Fields>["~type.make.in"]> | undefined
  /**
   * The CloudEvents type on the wire, for events that another program has named:
   * `"com.example.order.placed"`. With `upcast`, a function that names each
   * version; one name for all is an error. Default: the tag and the version, `"OrderPlaced.v1"`.
   */
  readonly type?: string | ((version: number) => string) | undefined
  /**
   * The id of the message, unique within the `source` of the program. A command
   * that is tried again publishes the same id for an equal event, and an inbox
   * drops the second. Default: one of `Ids`, new for each publish.
   */
  readonly id?: ((event: NoInfer<EventClass.TaggedFields<Tag, Fields>["Type"]>) => string) | undefined
  /**
   * Makes the event a tombstone: its message has a key and no body (null), which
   * removes the key from a compacted topic of Kafka. The function reads the fields
   * from the key. It also reads the tombstones of other programs, which often
   * have no type: of a topic, one event may be a tombstone. Default: the fields
   * are in the body.
   */
  readonly tombstone?: ((key: string) => Schema.Struct<Fields>["~type.make.in"]) | undefined
  /** Headers of the message, beside its attributes. Default: none. */
  readonly headers?: ((event: NoInfer<EventClass.TaggedFields<Tag, Fields>["Type"]>) => Headers) | undefined
}

/**
 * Defines a notification event.
 *
 * **Example** (A notification event)
 *
 * ```ts
 * import { NotificationEvent } from "@event-flow/core"
 * import { Schema } from "effect"
 *
 * class MeetingAnnounced extends NotificationEvent.Class<MeetingAnnounced>()("MeetingAnnounced", {
 *   meetingId: Schema.String,
 *   title: Schema.String
 * }, { topic: "meetings", key: (event) => event.meetingId, version: 1 }) {}
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const Class =
  <Self = never>() =>
  <const Tag extends string, const Fields extends WireFields, const Version extends number = 1>(
    tag: Tag,
    fields: Fields,
    options: Options<Tag, Fields, Version>
  ): [Self] extends [never] ? EventClass.MissingSelf<"NotificationEvent.Class">
    : NotificationEvent<Self, Tag, Fields> =>
    // `makeClass` makes a class with this tag and these fields, as the type says
    makeClass(tag, fields, options) as never

/**
 * Whether a value is a notification event instance.
 *
 * @stability unstable
 * @category guards
 * @since 0.1.0
 */
export const isNotificationEvent = (u: unknown): u is Any =>
  Predicate.hasProperty(u, EventClass.TypeId) && u[EventClass.TypeId] === "Notification" && typeof u !== "function"

/**
 * The class of a notification event instance.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const classOf = (event: Any): AnyClass =>
  // Only classes that `Class` has made construct notification events
  event.constructor as unknown as AnyClass

// --- internal ---

interface ErasedOptions extends Partial<Pick<Route, "key" | "upcast" | "id" | "headers" | "tombstone">> {
  readonly topic: string
  readonly version?: number | undefined
  readonly type?: string | ((version: number) => string) | undefined
}

const makeClass = (tag: string, fields: Schema.Struct.Fields, options: ErasedOptions): unknown => {
  const version = options.version ?? 1
  // Definitions are evaluated at import: there is no error channel
  if (!Number.isInteger(version) || version < 1) {
    throw new Error(`NotificationEvent "${tag}": version must be a whole number from 1, not ${version}`)
  }
  if (options.upcast !== undefined && options.upcast.version !== version) {
    throw new Error(`NotificationEvent "${tag}": upcast ends at version ${options.upcast.version}, not at ${version}`)
  }
  if (options.topic.length === 0) {
    throw new Error(`NotificationEvent "${tag}": topic is empty`)
  }
  const { headers, id, key, tombstone, topic, type, upcast } = options
  const typeOf = typeof type === "function" ? type : (version: number) => type ?? `${tag}.v${version}`
  const types = Array.from({ length: version }, (_, i) => typeOf(i + 1))
  if (types.includes("")) throw new Error(`NotificationEvent "${tag}": type is empty`)
  if (upcast !== undefined && new Set(types).size < version) {
    throw new Error(
      `NotificationEvent "${tag}": two versions have one type: give \`type\` as a function of the version`
    )
  }
  if (tombstone !== undefined && key === undefined) {
    throw new Error(`NotificationEvent "${tag}": a tombstone needs a key`)
  }
  const route: Route = { topic, version, key, upcast, type: typeOf, id, headers, tombstone }
  return EventClass.make({
    tag,
    fields,
    kind: "Notification",
    statics: {
      route,
      extend: () => (newTag: string, more: Schema.Struct.Fields, newOptions: ErasedOptions) =>
        makeClass(newTag, { ...fields, ...more }, newOptions)
    }
  })
}
