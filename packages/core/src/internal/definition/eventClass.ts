/**
 * The common part of domain events and notification events: a schema class
 * with a literal for its kind.
 */
import type * as Schema from "effect/Schema"
import * as SchemaClass from "./schemaClass.ts"

export const TypeId = "~@event-flow/core/Event"

export type Kind = "Domain" | "Notification"

/** The members of every event instance besides its fields: its tag and, hidden, its kind. */
export interface Base<out K extends Kind> {
  readonly _tag: string
  readonly [TypeId]: K
}

/** The members of every event class. Constructor arguments are erased to `never`. */
export interface AnyClass<out K extends Kind, out Self = Base<K>> {
  new(...args: never): Self
  readonly [TypeId]: K
  readonly tag: string
  readonly fields: Schema.Struct.Fields
}

/** The arguments of a schema class's constructor. */
export type ConstructorArguments<S extends Schema.Struct<Schema.Struct.Fields>> = {} extends S["~type.make.in"]
  ? [props?: S["~type.make.in"], options?: Schema.MakeOptions]
  : [props: S["~type.make.in"], options?: Schema.MakeOptions]

export type TaggedFields<Tag extends string, Fields extends Schema.Struct.Fields> = Schema.TaggedStruct<Tag, Fields>

/** The statics of a schema class without `extend`: extending an event needs a new tag. */
export type SchemaStatics<Self, Tag extends string, Fields extends Schema.Struct.Fields> = Omit<
  Schema.Class<Self, TaggedFields<Tag, Fields>, {}>,
  "extend"
>

export type MissingSelf<Usage extends string> =
  `Missing \`Self\` generic: write \`class X extends ${Usage}<X>()("X", { ... }) {}\``

export const make = (options: {
  readonly tag: string
  readonly fields: Schema.Struct.Fields
  readonly kind: Kind
  readonly statics: object
}): unknown =>
  SchemaClass.make({
    tag: options.tag,
    fields: options.fields,
    statics: { ...options.statics, [TypeId]: options.kind, tag: options.tag },
    prototype: { [TypeId]: options.kind }
  })
