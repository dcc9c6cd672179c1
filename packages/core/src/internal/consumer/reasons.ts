/** Why a message could not be handled: as a policy sees it, and in other words. */
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import { type EventFlowError, EventHandlerError } from "../../EventFlowError.ts"
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
  const found = Cause.findErrorOption(cause)
  if (Option.isNone(found) || Cause.hasDies(cause)) return { _tag: "HandlerDied", message, event, cause }
  const error = found.value
  return error._tag === "InboxError"
    ? { _tag: "InboxFailed", message, event, error }
    : { _tag: "HandlerFailed", message, event, error }
}

export const underlying = (failure: ConsumerPolicy.Failure): unknown =>
  failure._tag === "HandlerDied" ? Cause.squash(failure.cause) : failure.error

export const causeOf = (failure: ConsumerPolicy.Failure): Cause.Cause<unknown> =>
  failure._tag === "HandlerDied" ? failure.cause : Cause.fail(failure.error)

/** Failures of one kind are alike: the tag of the failure, and of the error behind it. */
export const kindOf = (failure: ConsumerPolicy.Failure): string => {
  const error = underlying(failure)
  return error instanceof EventHandlerError
    ? [failure._tag, error._tag, tagOf(error.cause)].join("/")
    : [failure._tag, tagOf(error)].join("/")
}

/** What names the kind of an error. */
export const tagOf = (error: unknown): string => {
  if (Predicate.hasProperty(error, "_tag")) return String(error._tag)
  return error instanceof Error ? error.name : typeof error
}
