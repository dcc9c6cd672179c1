/**
 * Middleware that makes the dispatch of a command one transaction of the
 * simulated store, as `Transactional` of `@event-flow/sql-layer` does with SQL.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Middleware from "@event-flow/core/Middleware"
import * as Effect from "effect/Effect"
import * as Store from "./Store.ts"

/**
 * Makes the dispatch of a command one transaction: its handler, the handlers of its
 * domain events, and what it puts into the outbox.
 *
 * @stability unstable
 * @category middleware
 * @since 0.1.0
 */
export const make = (): Middleware.Inline<never, typeof Store.StoreError, Store.Store> =>
  Middleware.make((effect) => Effect.flatMap(Store.Store, (store) => store.transaction(effect)), {
    requires: [Store.Store],
    error: Store.StoreError
  })
