/** Handles a message unless the inbox has seen it. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { EventFlowError } from "../../EventFlowError.ts"
import type { Inbox, InboxError } from "../../Inbox.ts"
import type { Message } from "../../Message.ts"

export interface Once {
  /** Gives false for a duplicate, which is not handled. */
  readonly one: (
    message: Message,
    handling: Effect.Effect<void, EventFlowError>
  ) => Effect.Effect<boolean, EventFlowError | InboxError>
  /** The same for several messages: handles those that are new. */
  readonly all: (
    messages: ReadonlyArray<Message>,
    handling: (isNew: ReadonlyArray<boolean>) => Effect.Effect<void, EventFlowError>
  ) => Effect.Effect<void, EventFlowError | InboxError>
}

export const makeOnce = (inbox: Inbox["Service"], group: string): Once => {
  let isIdMissed = false
  /** Said once: a message without an id cannot be told from another, and is always new. */
  const noteMissing = ({ topic }: Message): Effect.Effect<void> => {
    if (isIdMissed) return Effect.void
    isIdMissed = true
    return Effect.logWarning(
      `A message of topic "${topic}" has no id: duplicates of such messages are not dropped`
    )
  }
  return {
    one: (message, handling) => {
      const id = idOf(message)
      return id === undefined
        ? Effect.andThen(noteMissing(message), Effect.as(handling, true))
        : Effect.map(inbox.once(group, id, handling), Option.isSome)
    },
    all: (messages, handling) => {
      const ids = messages.map(idOf)
      const missing = messages.find((_, i) => ids[i] === undefined)
      const handled = inbox.onceAll(group, ids.filter((id) => id !== undefined), (isNew) => {
        let i = 0
        return handling(ids.map((id) => id === undefined || isNew[i++]!))
      })
      return missing === undefined ? handled : Effect.andThen(noteMissing(missing), handled)
    }
  }
}

// --- internal ---

/** An id must not be empty (CloudEvents 1.0). A source is a URI reference, which has no blank: the first one ends it. */
const idOf = ({ attributes: { id, source } }: Message): string | undefined =>
  id === undefined || id === "" ? undefined : `${source ?? ""} ${id}`
