/** What it means for publishes that the server closed their channel. */
import * as Broker from "@event-flow/core/Broker"
import { type AmqpFailure, ReplyCode } from "./amqpError.ts"

/** Where a message was published to, and how large its body is. */
export interface Published {
  readonly exchange: string
  readonly routingKey: string
  readonly content: Uint8Array
}

/**
 * The publishes that a channel was closed for. The server names no message, so
 * they are found by its words; when those fit none, any can be meant.
 */
export const culprits = <A extends { readonly outgoing: Published }>(
  { detail }: AmqpFailure,
  open: ReadonlyArray<A>
): ReadonlyArray<A> => {
  const size = /message size (\d+)/.exec(detail)?.[1]
  const exchange = /exchange '(.*?)' in vhost/.exec(detail)?.[1]
  const topic = /access to topic '(.*?)' in exchange/.exec(detail)?.[1]
  const found = open.filter(({ outgoing }) =>
    size !== undefined
      ? outgoing.content.length === Number(size)
      : outgoing.exchange === exchange && (topic === undefined || outgoing.routingKey === topic)
  )
  return found.length > 0 ? found : open
}

export const refusal = ({ cause, code, detail }: AmqpFailure): Broker.PublishReason => {
  const fields = { detail, cause }
  switch (code) {
    case ReplyCode.accessRefused:
      return new Broker.NotAuthorised(fields)
    case ReplyCode.notFound:
      return new Broker.UnknownTopic(fields)
    case ReplyCode.preconditionFailed:
      return detail.includes("message size") ? new Broker.MessageTooLarge(fields) : new Broker.Rejected(fields)
    default:
      return new Broker.Rejected(fields)
  }
}
