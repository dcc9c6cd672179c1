/**
 * Typed steps from older versions of a notification event to its current one.
 *
 * A message on the wire carries the version that it was written with. When a
 * consumer is newer than the producer, the codec decodes the message with the
 * schema of its own version and runs every step from there to the current one.
 *
 * **Example** (Three versions)
 *
 * ```ts
 * import { NotificationEvent, Upcast } from "@event-flow/core"
 * import { Schema } from "effect"
 *
 * const upcast = Upcast.from(Schema.Struct({ id: Schema.String }))
 *   .to(Schema.Struct({ id: Schema.String, title: Schema.String }), (v1) => ({ ...v1, title: "" }))
 *   .toCurrent((v2) => ({ ...v2, seats: 0 }))
 *
 * class Announced extends NotificationEvent.Class<Announced>()("Announced", {
 *   id: Schema.String,
 *   title: Schema.String,
 *   seats: Schema.Int
 * }, { topic: "meetings", version: 3, upcast }) {}
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Schema from "effect/Schema"

/**
 * A complete chain from version 1 to `Version`. Its last step returns `Out`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Upcast<out Version extends number, out Out> {
  readonly version: Version
  /** For each older version, how to decode it and the step to the next one. */
  readonly steps: ReadonlyArray<{
    readonly version: number
    readonly schema: Schema.Codec<unknown, unknown>
    readonly up: (value: unknown) => unknown
  }>
  readonly "~out"?: (() => Out) | undefined
}

/**
 * A chain that has reached version `Versions["length"]` and is not complete.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Builder<Versions extends ReadonlyArray<unknown>, Last> {
  /** Adds the next version and the step to it. Its schema needs no services: a message must decode by itself. */
  to<S extends Schema.Codec<unknown, unknown>>(
    schema: S,
    up: (previous: Last) => S["Type"]
  ): Builder<[...Versions, S], S["Type"]>
  /** Adds the step to the current version. `up` must return what the event's constructor takes. */
  toCurrent<Out>(up: (previous: Last) => Out): Upcast<[...Versions, unknown]["length"], Out>
}

/**
 * Starts a chain at version 1. Its schema needs no services: a message must
 * decode by itself.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const from = <S extends Schema.Codec<unknown, unknown>>(schema: S): Builder<[S], S["Type"]> =>
  makeBuilder([], schema)

// --- internal ---

type Steps = Upcast<number, unknown>["steps"]

const makeBuilder = <Versions extends ReadonlyArray<unknown>, Last>(
  steps: Steps,
  schema: Schema.Codec<unknown, unknown>
): Builder<Versions, Last> => {
  const close = (up: (previous: never) => unknown): Steps => [
    ...steps,
    // The compiler has checked each step against its neighbors. The list does not carry these types
    { version: steps.length + 1, schema, up: up as (value: unknown) => unknown }
  ]
  return {
    to: (next, up) => makeBuilder(close(up), next),
    toCurrent: (up) => {
      const all = close(up)
      // One step for each of `Versions`
      return { version: (all.length + 1) as [...Versions, unknown]["length"], steps: all }
    }
  }
}
