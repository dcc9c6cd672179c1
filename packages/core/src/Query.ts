/**
 * A query: a command that only reads. It emits nothing, so sending it fails
 * only with its own errors.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Schema from "effect/Schema"
import type * as Command from "./Command.ts"
import { makeCommand } from "./internal/definition/commandClass.ts"
import type { MissingSelf } from "./internal/definition/eventClass.ts"
import type * as Middleware from "./Middleware.ts"

/**
 * Defines a query: `Command.Class` without `emits`.
 *
 * **Example** (A query)
 *
 * ```ts
 * import { Query } from "@event-flow/core"
 * import { Schema } from "effect"
 *
 * class SeatsLeft extends Query.Class<SeatsLeft>()("SeatsLeft", {
 *   payload: { meetingId: Schema.String },
 *   success: Schema.Int
 * }) {}
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const Class = <Self = never>() =>
<
  const Tag extends string,
  const Fields extends Schema.Struct.Fields = {},
  Success extends Schema.Top = Schema.Void,
  Error extends Schema.Top = Schema.Never,
  const Sends extends ReadonlyArray<Command.Target> = readonly [],
  const M extends ReadonlyArray<Middleware.Any> = readonly [],
  const Requires extends ReadonlyArray<Context.Key<unknown, unknown>> = readonly [],
  const Stream extends boolean = false
>(
  tag: Tag,
  options: Omit<Command.Options<Fields, Success, Error, readonly [], Sends, M, Requires, Stream>, "emits">
): [Self] extends [never] ? MissingSelf<"Query.Class"> : Command.Command<Self, Tag, Fields, {
  readonly success: Success
  readonly error: Error
  readonly emits: readonly []
  readonly sends: Sends
  readonly middleware: M
  readonly requires: Requires
  readonly mode: Stream extends true ? "stream" : "single"
  // As in `Command.Class`
}> => makeCommand("Query", tag, options) as never
