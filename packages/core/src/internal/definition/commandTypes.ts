/**
 * What the types of a command class are computed from, and what is computed.
 * `Command` exports those by name that users write.
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { Collect } from "../../Collect.ts"
import type * as Event from "../../Event.ts"
import type * as Middleware from "../../Middleware.ts"
import type { CommandTypeId, Target } from "./models.ts"

/** What a definition says besides its fields. */
export interface Spec {
  readonly success: Schema.Top
  readonly error: Schema.Top
  readonly emits: ReadonlyArray<Event.AnyClass>
  readonly sends: ReadonlyArray<Target>
  readonly middleware: ReadonlyArray<Middleware.Any>
  readonly requires: ReadonlyArray<Context.Key<unknown, unknown>>
  readonly mode: "single" | "stream"
}

/**
 * An instance of a command class: its fields, and type-level information. That
 * has no type of its own, whose name a spread of an instance would bring into the
 * declarations of a program.
 */
export type Instance<Tag extends string, Fields extends Schema.Struct.Fields, S extends Spec> =
  & Schema.TaggedStruct<Tag, Fields>["Type"]
  & {
    readonly [CommandTypeId]: {
      readonly tag: Tag
      readonly success: S["success"]["Type"]
      readonly error: S["error"]["Type"] | MiddlewareErrors<S["middleware"]>
      readonly emits: Event.Instance<S["emits"][number]>
      readonly requires: S["requires"][number]["Identifier"]
      readonly mode: S["mode"]
    }
  }

/** The requirement that a flow which lists the command is provided; public as `Command.CommandFlow`. */
export interface CommandFlow<in out Tag extends string> {
  readonly _: unique symbol
  readonly flowOf: Tag
}

/** The requirements for sending these targets; public as `Command.Flows`. */
export type Flows<T extends Target> = T extends string ? CommandFlow<T>
  : T extends { readonly tag: infer Tag extends string } ? CommandFlow<Tag>
  : never

/** The function that handles a command: an Effect of the response, or for a streaming command a Stream of elements. */
export type HandlerFunction<Self, S extends Spec, R> = S["mode"] extends "stream" ? (
    command: Self,
    context: Collect<Event.Instance<S["emits"][number]>>
  ) => Stream.Stream<S["success"]["Type"], S["error"]["Type"], R>
  : (
    command: Self,
    context: Collect<Event.Instance<S["emits"][number]>>
  ) => Effect.Effect<S["success"]["Type"], S["error"]["Type"], R>

/**
 * The function that an implementation consists of. It finds what the definition
 * requires, what its middleware provides, what sending itself and the commands in
 * `sends` requires, and the services that its layer gives it.
 */
export type Implementation<Self, Tag extends string, S extends Spec, Given = never> = HandlerFunction<
  Self,
  S,
  | S["requires"][number]["Identifier"]
  | S["middleware"][number]["~provides"]
  | CommandFlow<Tag>
  | Flows<S["sends"][number]>
  | Given
>

/** What the layer of a command's implementation requires for its middleware. */
export type MiddlewareServices<S extends Spec> =
  | S["middleware"][number]["~service"]
  | Exclude<MiddlewareRequires<S["middleware"]>, S["requires"][number]["Identifier"]>

/**
 * What a list of middleware requires of its surroundings: each takes away what it
 * provides and adds what it requires, the innermost (last) first.
 */
export type MiddlewareRequires<M extends ReadonlyArray<Middleware.Any>, R = never> = M extends readonly [
  ...infer Outer extends ReadonlyArray<Middleware.Any>,
  infer Inner extends Middleware.Any
] ? MiddlewareRequires<Outer, Exclude<R, Inner["~provides"]> | Inner["~requires"]>
  : R

/** The errors that a list of middleware adds. */
export type MiddlewareErrors<M extends ReadonlyArray<Middleware.Any>> = M[number]["error"]["Type"]
