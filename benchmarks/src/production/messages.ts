/** What is consumed: the messages of `memorySource.ts`, each with an id of its own, and in the traces of their senders. */
import type * as Message from "@event-flow/core/Message"
import { messages } from "../memorySource.ts"
import type { Configuration } from "./configurations.ts"

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"

export const measuredMessage = (i: number, { tracing }: Configuration): Message.Message => {
  const message = messages[i % messages.length]!
  const attributes = { ...message.attributes, id: `id-${i}` }
  return tracing === undefined
    ? { ...message, attributes }
    : { ...message, attributes: { ...attributes, traceparent: `${traceparent}-${i % tracing === 0 ? "01" : "00"}` } }
}
