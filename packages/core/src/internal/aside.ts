/** What becomes of a message that could not be handled: its failure in other words, and the messages put aside for it. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import type * as ConsumerPolicy from "../ConsumerPolicy.ts"
import * as Message from "../Message.ts"
import * as Postponed from "../Postponed.ts"
import type * as Subscriber from "../Subscriber.ts"
import { describe } from "./describe.ts"

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
  topic: string,
  attempts: number,
  group: string
): Message.Message => {
  const { message, origin } = delivery
  const headers: Record<string, Message.HeaderValue> = {
    ...Postponed.withoutHeaders(message),
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
  attempts: number,
  group: string,
  now: number
): Message.Message => {
  const { message, origin } = delivery
  const { topic: _, ...place } = origin
  return Message.copy(message, {
    topic: decision.topic,
    headers: {
      ...Postponed.withoutHeaders(message),
      ...Postponed.toHeaders({
        group,
        step: decision.step,
        due: now + Math.ceil(Duration.toMillis(decision.delay)),
        attempts: attempts + attemptsBefore(message, group),
        topic: message.topic,
        reason: failure._tag,
        error: shortened(describe(underlying(failure))),
        origin: place
      })
    }
  })
}

const attemptsBefore = (message: Message.Message, group: string): number =>
  Postponed.read(message, group)?.attempts ?? 0
