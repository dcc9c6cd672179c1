/**
 * "Has this consumer handled this message before?": turns at-least-once
 * delivery into handling once, as far as the inbox remembers.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/**
 * The inbox could not be asked, or could not remember.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class InboxError extends Schema.TaggedError<InboxError>("@event-flow/core/Inbox/InboxError")("InboxError", {
  consumer: Schema.String,
  messageId: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `The inbox of consumer "${this.consumer}" failed for message ${this.messageId}`
  }
}

/**
 * Remembers which consumer has handled which message.
 *
 * **Details**
 *
 * `once` runs `handle` unless the pair of consumer and message id is known; it
 * gives none for a duplicate. The id is remembered only when `handle` succeeds.
 * Of two at the same time the second waits for the first. The key is the pair,
 * since each consumer group handles a message for itself.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class Inbox extends Context.Service<Inbox, {
  readonly once: <A, E, R>(
    consumer: string,
    messageId: string,
    handle: Effect.Effect<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | InboxError, R>
}>()("@event-flow/core/Inbox") {}

/**
 * An inbox in memory. It forgets when the process ends, so it only drops
 * duplicates within one.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerMemory = (options?: {
  /** How many handled messages are remembered, the newest. Default: 100,000. */
  readonly capacity?: number | undefined
}): Layer.Layer<Inbox> =>
  Layer.sync(Inbox, () => {
    const capacity = options?.capacity ?? 100_000
    // In the order of insertion: the first is the oldest
    const handled = new Set<string>()
    // Kept: a new iterator passes over the places of all that was deleted
    const oldest = handled.values()
    const running = new Map<string, Deferred.Deferred<boolean>>()

    const once = <A, E, R>(
      consumer: string,
      messageId: string,
      handle: Effect.Effect<A, E, R>
    ): Effect.Effect<Option.Option<A>, E, R> => {
      const key = JSON.stringify([consumer, messageId])
      // Once it is in `running`, nothing may come in between but the end of `handle`
      return Effect.uninterruptibleMask((restore) => {
        if (handled.has(key)) return Effect.succeedNone
        const other = running.get(key)
        if (other !== undefined) {
          return restore(
            Effect.flatMap(Deferred.await(other), (succeeded) =>
              succeeded ? Effect.succeedNone : once(consumer, messageId, handle))
          )
        }
        const done = Deferred.makeUnsafe<boolean>()
        running.set(key, done)
        return Effect.onExit(restore(Effect.asSome(handle)), (exit) =>
          Effect.suspend(() => {
            running.delete(key)
            if (Exit.isSuccess(exit)) {
              handled.add(key)
              if (handled.size > capacity) {
                handled.delete(oldest.next().value!)
              }
            }
            return Effect.asVoid(Deferred.succeed(done, Exit.isSuccess(exit)))
          }))
      })
    }
    return Inbox.of({ once })
  })
