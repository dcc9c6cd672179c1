/** Why the server could not be asked, in terms of the ports. */
import * as Broker from "@event-flow/core/Broker"
import type * as Subscriber from "@event-flow/core/Subscriber"
import { type AmqpFailure, ConnectFailure, ReplyCode } from "./amqpError.ts"

/** The reasons that the server's answers have. */
export type Reason = Exclude<Subscriber.SubscribeReason, Broker.Closed>

export const reasonOf = (failure: AmqpFailure): Reason => {
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
