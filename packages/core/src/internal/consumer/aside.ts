/** The messages that are put aside for one that could not be handled. */
import { decodeRetry, emptyRecord, encodeRetry, retryHeaderPrefix } from "../../BrokerLayer.ts"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import * as Message from "../../Message.ts"
import type * as Subscriber from "../../Subscriber.ts"
import { describe } from "../describe.ts"
import { underlying } from "./reasons.ts"

/** Headers that say why a message is a dead letter. */
const deadLetterPrefix = "dead-letter-"

/** Bounded: the text of a schema's error has the whole value in it, and a message that is too large is stuck. */
const maxErrorLength = 1000

const shortened = (text: string): string =>
  text.length <= maxErrorLength
    ? text
    // Not in the middle of a surrogate pair
    : `${text.slice(0, maxErrorLength - 1).replace(/[\ud800-\udbff]$/, "")}…`

/**
 * The message as it came, under another topic, with headers that say why.
 */
export const toDeadLetter = (
  delivery: Subscriber.Delivery,
  failure: ConsumerPolicy.Failure,
  { attempts, group, topic }: { readonly attempts: number; readonly group: string; readonly topic: string }
): Message.Message => {
  const { message, origin } = delivery
  const headers = Object.assign(withoutRetry(message), {
    "dead-letter-reason": failure._tag,
    "dead-letter-error": shortened(describe(underlying(failure))),
    "dead-letter-topic": message.topic,
    "dead-letter-group": group,
    "dead-letter-attempts": String(attempts + attemptsBefore(message, group))
  })
  for (const name in origin) {
    if (name !== "topic") headers[`dead-letter-${name}`] = origin[name]!
  }
  return asRead(message, topic, headers)
}

/** The message as it came, under the topic where it waits, with headers that say why and for how long. */
export const toPostponed = (
  delivery: Subscriber.Delivery,
  failure: ConsumerPolicy.Failure,
  decision: ConsumerPolicy.Postpone,
  { attempts, due, group }: { readonly attempts: number; readonly due: number; readonly group: string }
): Message.Message => {
  const { message, origin } = delivery
  const { topic: _, ...place } = origin
  return asRead(
    message,
    decision.topic,
    Object.assign(
      withoutRetry(message),
      encodeRetry({
        group,
        step: decision.step,
        due,
        attempts: attempts + attemptsBefore(message, group),
        topic: message.topic,
        reason: failure._tag,
        error: shortened(describe(underlying(failure))),
        origin: place
      })
    )
  )
}

/**
 * The same without the headers that the message came with, and without its long
 * attributes; a header names them. Undefined: there are none.
 */
export const withoutForeign = (aside: Message.Message): Message.Message | undefined => {
  const headers = emptyRecord<Message.Headers[string]>()
  const attributes = emptyRecord<string>()
  const dropped: Array<string> = []
  for (const name in aside.headers) {
    const value = aside.headers[name]!
    const isOurs = name.startsWith(deadLetterPrefix) || name.startsWith(retryHeaderPrefix)
    if (isOurs && typeof value === "string" && value.length <= maxErrorLength) headers[name] = value
    else dropped.push(name)
  }
  for (const name in aside.attributes) {
    const value = aside.attributes[name]!
    if (value.length <= maxErrorLength) attributes[name] = value
    else dropped.push(name)
  }
  if (dropped.length === 0) return undefined
  headers[`${deadLetterPrefix}without`] = shortened(dropped.join(", "))
  return Message.copy(aside, { attributes, headers })
}

/** A copy, without what the layer of the broker fails to read: a message that cannot be put aside would end its consumer. */
const asRead = (message: Message.Message, topic: string, headers: Message.Headers): Message.Message =>
  Message.make({
    topic,
    key: readable(() => message.key),
    attributes: readable(() => message.attributes),
    headers,
    body: message.body
  })

const readable = <A>(read: () => A): A | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}

const attemptsBefore = (message: Message.Message, group: string): number =>
  readable(() => decodeRetry(message, group))?.attempts ?? 0

/** The headers of a message without those of its retries. */
const withoutRetry = (message: Message.Message): Record<string, Message.Headers[string]> => {
  const headers = emptyRecord<Message.Headers[string]>()
  const own = readable(() => message.headers)
  for (const name in own) {
    if (!name.startsWith(retryHeaderPrefix)) headers[name] = own[name]!
  }
  return headers
}
