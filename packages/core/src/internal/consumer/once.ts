/** Handles a message unless the inbox has seen it. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { EventFlowError } from "../../EventFlowError.ts"
import type { Inbox, InboxError } from "../../Inbox.ts"
import type { Message } from "../../Message.ts"

/** Gives false for a duplicate, which is not handled. */
export type Once = (
  message: Message,
  handling: Effect.Effect<void, EventFlowError>
) => Effect.Effect<boolean, EventFlowError | InboxError>

export const makeOnce = (inbox: Inbox["Service"], group: string): Once => {
  let isIdMissed = false
  return (message, handling) => {
    const { id, source } = message.attributes
    // An id must not be empty (CloudEvents 1.0)
    if (id !== undefined && id !== "") {
      // A source is a URI reference, which has no blank: the first one ends it
      return Effect.map(inbox.once(group, `${source ?? ""} ${id}`, handling), Option.isSome)
    }
    const handled = Effect.as(handling, true)
    if (isIdMissed) return handled
    isIdMissed = true
    return Effect.andThen(
      Effect.logWarning(`A message of topic "${message.topic}" has no id: duplicates of such messages are not dropped`),
      handled
    )
  }
}
