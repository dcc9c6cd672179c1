/**
 * What definitions are made of, erased. `Command.AnyClass`, `Command.Target`,
 * `Middleware.Any` and `EventHandler.Any` are these types under public names. They
 * stand apart from the modules that make and run definitions.
 */
import type * as Context from "effect/Context"
import type * as Schema from "effect/Schema"
import type * as Event from "../../Event.ts"

/** Marks command classes and command instances. */
export const CommandTypeId = "~@event-flow/core/Command"

/** A command that a definition sends: its class, or its tag where the class is defined later. Public as `Command.Target`. */
export type Target = { readonly tag: string; readonly [CommandTypeId]: "~@event-flow/core/Command" } | string

/** Any command or query class. Public as `Command.AnyClass`. */
export interface CommandDefinition {
  readonly [CommandTypeId]: "~@event-flow/core/Command"
  readonly tag: string
  readonly kind: "Command" | "Query"
  readonly mode: "single" | "stream"
  readonly emits: ReadonlyArray<Event.AnyClass>
  readonly sends: ReadonlyArray<Target>
  readonly middleware: ReadonlyArray<MiddlewareDefinition>
  readonly requires: ReadonlyArray<Context.Key<unknown, unknown>>
  readonly payload: Schema.Struct.Fields
  readonly successSchema: Schema.Top
  readonly errorSchema: Schema.Top
}

/** A command instance. */
export interface AnyCommand {
  readonly _tag: string
}

export const MiddlewareTypeId = "~@event-flow/core/Middleware"

/** Any middleware, as listed in a definition. Public as `Middleware.Any`. */
export interface MiddlewareDefinition {
  readonly [MiddlewareTypeId]: "~@event-flow/core/Middleware"
  /** Schema of the errors that it adds. */
  readonly error: Schema.Top
  /** The services that it provides to what it wraps. */
  readonly provides: ReadonlyArray<Context.Key<unknown, unknown>>
  /** The services that it requires. */
  readonly requires: ReadonlyArray<Context.Key<unknown, unknown>>
  readonly "~provides": unknown
  readonly "~requires": unknown
  /** The service that implements it; never: it carries its own implementation. */
  readonly "~service": unknown
}

export const HandlerTypeId = "~@event-flow/core/EventHandler"

/** Any handler definition. `EventHandler.Any` extends it. */
export interface HandlerDefinition {
  readonly [HandlerTypeId]: "~@event-flow/core/EventHandler"
  readonly name: string
  /** Whether it handles one event, or the events of a batch. */
  readonly mode: "single" | "batch"
  /** The events that it handles. */
  readonly on: ReadonlyArray<Event.AnyClass>
  readonly emits: ReadonlyArray<Event.AnyClass>
  readonly sends: ReadonlyArray<Target>
  readonly errorSchema: Schema.Top
}

/** Two definitions that cannot stand beside each other, described. */
export interface Duplicate {
  readonly kind: "flow" | "command" | "handler" | "event"
  readonly definition: string
  readonly first: string
  readonly second: string
}
