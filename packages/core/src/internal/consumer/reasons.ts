/** Why a message could not be handled: as a policy sees it, and in other words. */
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import type { EventFlowError } from "../../EventFlowError.ts"
import type { InboxError } from "../../Inbox.ts"
import type * as Message from "../../Message.ts"
import * as MessageCodec from "../../MessageCodec.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import { describe, describeId, describeType } from "../describe.ts"

export const decodingFailed = (
  message: Message.Message,
  cause: Cause.Cause<MessageCodec.DecodeError>
): ConsumerPolicy.Undecodable => {
  const error = Cause.findErrorOption(cause)
  return { _tag: "Undecodable", message, error: Option.isSome(error) ? error.value : decodingDied(message, cause) }
}

/** A bug in a schema or an upcast is no reason to end the consumer. */
const decodingDied = (message: Message.Message, cause: Cause.Cause<unknown>): MessageCodec.DecodeError => {
  const defect = Cause.squash(cause)
  return new MessageCodec.DecodeError({
    topic: message.topic,
    messageId: describeId(message),
    messageType: describeType(message),
    reason: "InvalidBody",
    detail: `decoding died: ${describe(defect)}`,
    cause: defect
  })
}

export const handlingFailed = (
  message: Message.Message,
  event: NotificationEvent.Any,
  cause: Cause.Cause<EventFlowError | InboxError>
): ConsumerPolicy.Failure => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error) && !Cause.hasDies(cause)
    ? { _tag: "HandlerFailed", message, event, error: error.value }
    : { _tag: "HandlerDied", message, event, cause }
}

export const underlying = (failure: ConsumerPolicy.Failure): unknown =>
  failure._tag === "HandlerDied" ? Cause.squash(failure.cause) : failure.error

export const causeOf = (failure: ConsumerPolicy.Failure): Cause.Cause<unknown> =>
  failure._tag === "HandlerDied" ? failure.cause : Cause.fail(failure.error)

/** Retries are counted for each kind by itself: a policy may make a new schedule every time it is asked. */
export const kindOf = (failure: ConsumerPolicy.Failure): string => {
  if (failure._tag === "HandlerDied") return failure._tag
  const { error } = failure
  const cause = error._tag === "EventHandlerError" ? error.cause : undefined
  return [failure._tag, error._tag, Predicate.hasProperty(cause, "_tag") ? cause._tag : typeof cause].join("/")
}
