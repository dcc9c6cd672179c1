/**
 * An inbox on the simulated store: a message is handled in one transaction with
 * the row that says so.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Inbox from "@event-flow/core/Inbox"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Store from "./Store.ts"

/**
 * The messages that were handled, by consumer and id.
 *
 * @stability unstable
 * @category constants
 * @since 0.1.0
 */
export const handled: Store.Table<true> = Store.table<true>("inbox")

/**
 * The inbox of a consumer with `dedupe`: what its handlers write through the store is
 * committed together with the row of the message, or not at all.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Inbox.Inbox, never, Store.Store> = Layer.effect(
  Inbox.Inbox,
  Effect.map(Store.Store, (store) =>
    Inbox.make((consumer, messageIds, handle) => {
      const fail = (cause: unknown) => new Inbox.InboxError({ consumer, messageId: messageIds.join(", "), cause })
      const remember = Effect.forEach(messageIds, (id) => handled.insert(`${consumer}/${id}`, true)).pipe(
        Effect.provideService(Store.Store, store),
        Effect.mapError(fail)
      )
      // The failures of `handle` pass by; those of the transaction itself are the inbox's
      return Effect.flatMap(
        Effect.result(store.transaction(
          Effect.flatMap(remember, handle).pipe(Effect.mapError((error) => ({ error })))
        )),
        (result) => {
          if (result._tag === "Success") return Effect.succeed(result.success)
          return Effect.fail("error" in result.failure ? result.failure.error : fail(result.failure))
        }
      )
    }))
)
