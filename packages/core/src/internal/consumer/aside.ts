/** The messages that are put aside for one that could not be handled. */
import * as Cause from "effect/Cause"
import { decodeRetry, emptyRecord, encodeRetry, retryHeaderPrefix, type RetryHeaders } from "../../BrokerLayer.ts"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import * as DeadLetter from "../../DeadLetter.ts"
import { EventHandlerError, EventsFailed } from "../../EventFlowError.ts"
import * as Message from "../../Message.ts"
import type * as Subscriber from "../../Subscriber.ts"
import { describe, fieldsOf } from "../describe.ts"
import type { HandlerMemory } from "./handlerMemory.ts"
import type { History } from "./history.ts"
import { causeOf, tagOf, underlying } from "./reasons.ts"

/** Bounded: the text of a schema's error has the whole value in it, and a message that is too large is stuck. */
const maxErrorLength = 1000

const shortened = (text: string): string =>
  text.length <= maxErrorLength
    ? text
    // Not in the middle of a surrogate pair
    : `${text.slice(0, maxErrorLength - 1).replace(/[\ud800-\udbff]$/, "")}…`

/** What is known of a delivery that is put aside. */
export interface Aside {
  readonly delivery: Subscriber.Delivery
  readonly failure: ConsumerPolicy.Failure
  readonly history: History
  readonly memory: HandlerMemory
  readonly attempts: number
  readonly group: string
  readonly topic: string
}

/**
 * The message as it came, under another topic, with headers that say why.
 */
export const toDeadLetter = (
  { attempts, delivery, failure, group, history, memory, topic }: Aside
): Message.Message => {
  const { message, origin } = delivery
  const before = retryOf(message, group)
  const error = errorOf(failure)
  const { topic: _, ...place } = origin
  return asRead(
    message,
    topic,
    Object.assign(
      withoutOurs(message),
      DeadLetter.encode({
        reason: failure._tag,
        error: describe(underlying(failure)),
        handler: handlerOf(failure, memory),
        errorTag: tagOf(error),
        errorFields: fieldsOf(error),
        cause: failure._tag === "Undecodable" && failure.error.cause === undefined
          ? undefined
          : readable(() => Cause.pretty(causeOf(failure))),
        failures: sum(before?.failures, history.failures),
        attempts: attempts + (before?.attempts ?? 0),
        firstFailed: before?.since ?? history.firstFailed,
        lastFailed: history.lastFailed,
        handlers: failure._tag === "Undecodable" ? undefined : memory.toRun,
        topic: message.topic,
        group,
        origin: place
      })
    )
  )
}

/** The message as it came, under the topic where it waits, with headers that say why and for how long. */
export const toPostponed = (
  { attempts, delivery, failure, group, history, memory, topic }: Aside,
  { due, step }: { readonly due: number; readonly step: number }
): Message.Message => {
  const { message, origin } = delivery
  const before = retryOf(message, group)
  const { topic: _, ...place } = origin
  return asRead(
    message,
    topic,
    Object.assign(
      withoutRetry(message),
      encodeRetry({
        group,
        step,
        due,
        attempts: attempts + (before?.attempts ?? 0),
        topic: message.topic,
        reason: failure._tag,
        error: shortened(describe(underlying(failure))),
        handlers: failure._tag === "Undecodable" ? undefined : memory.toRun,
        failures: sum(before?.failures, history.failures),
        since: before?.since ?? history.firstFailed,
        origin: place
      })
    )
  )
}

/** What failed first: with several failures, the first of them. */
const firstOf = (failure: ConsumerPolicy.Failure): unknown => {
  const error = underlying(failure)
  return error instanceof EventsFailed ? error.failures[0] : error
}

/** The error of a handler, where there is one; else what failed. */
const errorOf = (failure: ConsumerPolicy.Failure): unknown => {
  const first = firstOf(failure)
  return first instanceof EventHandlerError ? first.cause : first
}

const handlerOf = (failure: ConsumerPolicy.Failure, memory: HandlerMemory): string | undefined => {
  const first = firstOf(failure)
  return first instanceof EventHandlerError ? first.handler : memory.failed
}

const sum = (
  a: Readonly<Record<string, number>> | undefined,
  b: ReadonlyMap<string, number>
): Readonly<Record<string, number>> => {
  const counts = { ...a }
  for (const [name, count] of b) counts[name] = (counts[name] ?? 0) + count
  return counts
}

/** The message as it came, under another topic, without the reason, which does not fit. */
export const toCopy = ({ message }: Subscriber.Delivery, topic: string): Message.Message =>
  asRead(message, topic, Object.assign(emptyRecord<Message.Headers[string]>(), readable(() => message.headers)))

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
    const isOurs = name.startsWith(DeadLetter.headerPrefix) || name.startsWith(retryHeaderPrefix)
    if (isOurs && typeof value === "string" && value.length <= maxErrorLength) headers[name] = value
    else dropped.push(name)
  }
  for (const name in aside.attributes) {
    const value = aside.attributes[name]!
    if (value.length <= maxErrorLength) attributes[name] = value
    else dropped.push(name)
  }
  if (dropped.length === 0) return undefined
  headers[`${DeadLetter.headerPrefix}without`] = shortened(dropped.join(", "))
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

const retryOf = (message: Message.Message, group: string): RetryHeaders | undefined =>
  readable(() => decodeRetry(message, group))

/** The headers of a message without those that say why it was put aside before. */
const withoutOurs = (message: Message.Message): Record<string, Message.Headers[string]> => {
  const headers = withoutRetry(message)
  if (readable(() => DeadLetter.decode(message)) === undefined) return headers
  for (const name in headers) {
    if (name.startsWith(DeadLetter.headerPrefix)) delete headers[name]
  }
  return headers
}

/** The headers of a message without those of its retries. */
const withoutRetry = (message: Message.Message): Record<string, Message.Headers[string]> => {
  const headers = emptyRecord<Message.Headers[string]>()
  const own = readable(() => message.headers)
  for (const name in own) {
    if (!name.startsWith(retryHeaderPrefix)) headers[name] = own[name]!
  }
  return headers
}
