/**
 * The second argument of every handler: where it puts its events.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"

/**
 * Collects the events that a handler gives rise to. They are processed after
 * the handler has succeeded, in the order of collection (F1); a handler that
 * fails emits nothing (F2).
 *
 * **Gotchas**
 *
 * A collection belongs to one run of a handler. Collecting from a fiber that
 * outlives it is a defect, since the event could only be lost.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Collect<in Events> {
  /** Collects one event; takes only the events that the definition declares in `emits`. */
  readonly collect: (event: Events) => Effect.Effect<void>
  /** Collects several, in their order. */
  readonly collectAll: (events: Iterable<Events>) => Effect.Effect<void>
}
