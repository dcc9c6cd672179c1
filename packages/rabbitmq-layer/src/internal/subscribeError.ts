/** Why a subscription cannot be made, from the errors of the client. */
import * as Subscriber from "@event-flow/core/Subscriber"
import type * as Arr from "effect/Array"
import { type AmqpFailure, ConnectFailure, ReplyCode } from "./amqpError.ts"

export const subscribeError = (
  { group, topics }: { readonly group: string; readonly topics: Arr.NonEmptyReadonlyArray<string> },
  failure: AmqpFailure
): Subscriber.SubscribeError =>
  new Subscriber.SubscribeError({
    topics,
    group,
    reason: reasonOf(failure),
    detail: failure.detail,
    cause: failure.cause
  })

const reasonOf = (failure: AmqpFailure): Subscriber.SubscribeError["reason"] => {
  if (failure instanceof ConnectFailure) return failure.isRefused ? "NotAuthorised" : "Unreachable"
  switch (failure.code) {
    case ReplyCode.accessRefused:
    case ReplyCode.notAllowed:
      return "NotAuthorised"
    case ReplyCode.notFound:
      return "UnknownTopic"
    case undefined:
      return "Unreachable"
    default:
      return "Other"
  }
}
