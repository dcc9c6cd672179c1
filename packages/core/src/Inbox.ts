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
 * `onceAll` does so for several messages at once: `handle` is told which of them
 * are new, in their order, and they are remembered together. Of an id that comes
 * twice the first is new.
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
  readonly onceAll: <A, E, R>(
    consumer: string,
    messageIds: ReadonlyArray<string>,
    handle: (isNew: ReadonlyArray<boolean>) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | InboxError, R>
}>()("@event-flow/core/Inbox") {}

/**
 * An inbox from its `onceAll`: of one message, and of several.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (onceAll: Inbox["Service"]["onceAll"]): Inbox["Service"] =>
  Inbox.of({
    onceAll,
    once: (consumer, messageId, handle) =>
      onceAll(consumer, [messageId], ([isNew]) => isNew ? Effect.asSome(handle) : Effect.succeedNone)
  })

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
    const running = new Map<string, Deferred.Deferred<void>>()

    const onceAll = <A, E, R>(
      consumer: string,
      messageIds: ReadonlyArray<string>,
      handle: (isNew: ReadonlyArray<boolean>) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E, R> => {
      const keys = messageIds.map((id) => JSON.stringify([consumer, id]))
      // Once they are in `running`, nothing may come in between but the end of `handle`
      return Effect.uninterruptibleMask((restore) => {
        for (const key of keys) {
          const other = running.get(key)
          // Checked before any key is claimed: two batches that each hold a key of the other would deadlock
          if (other !== undefined) {
            return restore(Effect.flatMap(Deferred.await(other), () => onceAll(consumer, messageIds, handle)))
          }
        }
        const done = Deferred.makeUnsafe<void>()
        const taken: Array<string> = []
        const isNew = keys.map((key) => {
          if (handled.has(key) || running.has(key)) return false
          running.set(key, done)
          taken.push(key)
          return true
        })
        return Effect.onExit(restore(Effect.suspend(() => handle(isNew))), (exit) =>
          Effect.suspend(() => {
            for (const key of taken) {
              running.delete(key)
              if (Exit.isSuccess(exit)) handled.add(key)
              if (handled.size > capacity) handled.delete(oldest.next().value!)
            }
            return Effect.asVoid(Deferred.succeed(done, undefined))
          }))
      })
    }

    return make(onceAll)
  })
