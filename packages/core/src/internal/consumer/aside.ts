/** The messages that are put aside for one that could not be handled. */
import { decodeRetry, encodeRetry, retryHeaderPrefix } from "../../BrokerLayer.ts"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import * as Message from "../../Message.ts"
import type * as Subscriber from "../../Subscriber.ts"
import { describe } from "../describe.ts"
import { underlying } from "./reasons.ts"

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
  const headers: Record<string, Message.HeaderValue> = {
    ...withoutRetry(message),
    "dead-letter-reason": failure._tag,
    "dead-letter-error": shortened(describe(underlying(failure))),
    "dead-letter-topic": message.topic,
    "dead-letter-group": group,
    "dead-letter-attempts": String(attempts + attemptsBefore(message, group))
  }
  for (const name in origin) {
    if (name !== "topic") headers[`dead-letter-${name}`] = origin[name]!
  }
  return Message.make({ topic, key: message.key, attributes: message.attributes, headers, body: message.body })
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
  return Message.copy(message, {
    topic: decision.topic,
    headers: {
      ...withoutRetry(message),
      ...encodeRetry({
        group,
        step: decision.step,
        due,
        attempts: attempts + attemptsBefore(message, group),
        topic: message.topic,
        reason: failure._tag,
        error: shortened(describe(underlying(failure))),
        origin: place
      })
    }
  })
}

const attemptsBefore = (message: Message.Message, group: string): number => decodeRetry(message, group)?.attempts ?? 0

/** The headers of a message without those of its retries. */
const withoutRetry = (message: Message.Message): Message.Message["headers"] => {
  const headers: Record<string, Message.HeaderValue> = {}
  for (const name in message.headers) {
    if (!name.startsWith(retryHeaderPrefix)) headers[name] = message.headers[name]!
  }
  return headers
}
