/**
 * The second argument of every handler: it collects the events of the handler.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"

/**
 * Collects the events that a handler emits. They are processed after the
 * handler has succeeded, in the order of collection (F1); a handler that fails
 * emits nothing (F2).
 *
 * **Gotchas**
 *
 * A collection belongs to one run of a handler. Collecting from a fiber that
 * outlives this run is a defect, since the event would be lost.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Collect<in Events> {
  /** Collects one event. The definition must declare its class in `emits`. */
  readonly collect: (event: Events) => Effect.Effect<void>
  /** Collects several events, in their order. */
  readonly collectAll: (events: Iterable<Events>) => Effect.Effect<void>
}
