/** Why a subscription cannot be made, from the errors of the client. */
import * as Broker from "@event-flow/core/Broker"
import * as Subscriber from "@event-flow/core/Subscriber"
import { type AmqpFailure, ConnectFailure, ReplyCode } from "./amqpError.ts"

export const subscribeError = (
  options: Pick<Subscriber.SubscribeOptions, "group" | "topics">,
  failure: AmqpFailure
): Subscriber.SubscribeError => Subscriber.subscribeError(options, reasonOf(failure))

const reasonOf = (failure: AmqpFailure): Subscriber.SubscribeReason => {
  const fields = { detail: failure.detail, cause: failure.cause }
  if (failure instanceof ConnectFailure) {
    return failure.isRefused ? new Broker.NotAuthorised(fields) : new Broker.Unreachable(fields)
  }
  switch (failure.code) {
    case ReplyCode.accessRefused:
    case ReplyCode.notAllowed:
      return new Broker.NotAuthorised(fields)
    case ReplyCode.notFound:
      return new Broker.UnknownTopic(fields)
    case undefined:
      return new Broker.Unreachable(fields)
    default:
      return new Broker.Rejected(fields)
  }
}
