/**
 * For authors of broker layers: what a layer for another message broker is built
 * with, beside the ports `Broker` and `Subscriber`, `Settings` for its options,
 * and `testing/BrokerSuite`, which tests that it keeps their promises. Programs
 * do not need it.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as ConsumerPolicy from "./ConsumerPolicy.ts"
import * as Bare from "./internal/bare.ts"
import { type Headers, type HeaderValue, headerValues, type Message } from "./Message.ts"

/**
 * Fibers that wait for something to change; each looks again when it is woken.
 *
 * **When to use**
 *
 * Use when callbacks of a client change plain state, such as a queue of
 * deliveries, and effects wait for that state: `take` of a subscription, a
 * publish that needs room.
 *
 * **Details**
 *
 * A fiber may yield between any two effects. So a fiber that looks and then
 * registers in two steps misses a change in between, and sleeps until the next
 * one. `until` looks again in the step in which it registers.
 *
 * **Example** (A queue)
 *
 * ```ts
 * import { BrokerLayer } from "@event-flow/core"
 * import { Effect } from "effect"
 *
 * const waiters = new BrokerLayer.Waiters()
 * const queue: Array<string> = []
 *
 * // A callback of the client
 * export const onMessage = (message: string): void => {
 *   queue.push(message)
 *   waiters.wakeAll()
 * }
 *
 * export const take = waiters.until(() =>
 *   queue.length === 0 ? undefined : Effect.succeed(queue.splice(0))
 * )
 * ```
 *
 * @stability unstable
 * @category waiting
 * @since 0.1.0
 */
export class Waiters {
  #wakes = new Set<() => void>()
  #changes = 0

  /** Whether nobody waits. */
  get isEmpty(): boolean {
    return this.#wakes.size === 0
  }

  /**
   * Looks until there is something. `look` is called in one step with what
   * depends on it, so it may take what it finds; it gives undefined to wait until
   * somebody calls `wakeAll`.
   */
  until<A, E, R>(look: () => Effect.Effect<A, E, R> | undefined): Effect.Effect<A, E, R> {
    const wait: Effect.Effect<A, E, R> = Effect.callback((resume) => {
      let seen: number
      do {
        // Looking can itself be a change, and lead others to change more
        seen = this.#changes
        const found = look()
        if (found !== undefined) return resume(found)
      } while (this.#changes !== seen)
      const wake = () => resume(looking)
      this.#wakes.add(wake)
      return Effect.sync(() => {
        this.#wakes.delete(wake)
      })
    })
    const looking: Effect.Effect<A, E, R> = Effect.suspend(() => look() ?? wait)
    return looking
  }

  /** Has all that wait look again. Call it after the change, in the same step. */
  wakeAll(): void {
    this.#changes++
    if (this.isEmpty) return
    const wakes = this.#wakes
    this.#wakes = new Set()
    for (const wake of wakes) wake()
  }
}

/**
 * Throws when a message has lost its attributes in a copy by spread. A broker
 * layer calls it before it accepts a message.
 *
 * @stability unstable
 * @category guards
 * @since 0.1.0
 */
export const assertWhole = (message: Message): void => {
  const { topic } = message
  if (!("attributes" in message)) {
    throw new Error(`A message for topic "${topic}" lost its attributes in a copy by spread: use Message.copy`)
  }
}

/**
 * An empty record for names of other programs, such as headers. It inherits
 * nothing, so that `__proto__` and `constructor` are names like any other.
 *
 * @stability unstable
 * @category headers
 * @since 0.1.0
 */
export const emptyRecord: <A>() => Record<string, A> = Bare.emptyRecord

/**
 * Adds a header to a record of headers. A name that is there already gets one
 * more value.
 *
 * @stability unstable
 * @category headers
 * @since 0.1.0
 */
export const addHeader = (
  headers: Record<string, Headers[string]>,
  name: string,
  value: HeaderValue
): void => {
  const before = headers[name]
  // A list here was made below, of values that came one by one
  if (Array.isArray(before)) before.push(value)
  else headers[name] = before === undefined ? value : [before as HeaderValue, value]
}

/**
 * Splits transport headers into CloudEvents attributes and the rest. A header
 * with one of the prefixes is an attribute, without its prefix; `content-type`
 * is `datacontenttype`.
 *
 * **Details**
 *
 * The prefix is `ce_` in the Kafka protocol binding, `cloudEvents:` or
 * `cloudEvents_` in the AMQP protocol binding (CloudEvents 1.0). Header names
 * are compared case-insensitively, as both bindings require. Of an attribute
 * that comes more than once, the last one counts.
 *
 * @stability unstable
 * @category headers
 * @since 0.1.0
 */
export const fromHeaders = (
  headers: Iterable<readonly [string, HeaderValue]>,
  prefixes: ReadonlyArray<string>
): Pick<Message, "attributes" | "headers"> => {
  const attributes = emptyRecord<string>()
  const rest = emptyRecord<Headers[string]>()
  for (const [name, value] of headers) {
    const lower = name.toLowerCase()
    const prefix = prefixes.find((prefix) => lower.startsWith(prefix.toLowerCase()))
    const attribute = lower === "content-type" ? "datacontenttype" : prefix && lower.slice(prefix.length)
    const text = attribute === undefined ? undefined : headerText(value)
    if (attribute === undefined || text === undefined) addHeader(rest, name, value)
    else attributes[attribute] = text
  }
  return { attributes, headers: rest }
}

/**
 * Joins attributes and headers into transport headers, in their order. It is the
 * inverse of `fromHeaders`.
 *
 * @stability unstable
 * @category headers
 * @since 0.1.0
 */
export const toHeaders = (message: Message, prefix: string): Array<readonly [string, HeaderValue]> => {
  assertWhole(message)
  const headers: Array<readonly [string, HeaderValue]> = []
  const attributes = message.attributes
  for (const name in attributes) {
    headers.push([name === "datacontenttype" ? "content-type" : prefix + name, attributes[name]!])
  }
  for (const name in message.headers) {
    for (const value of headerValues(message, name)) headers.push([name, value])
  }
  return headers
}

/**
 * What the headers of a message say that waits for a delayed retry.
 *
 * **Details**
 *
 * `EventConsumer` writes the headers when its policy decides `Postpone`. A
 * broker layer with delayed retries reads them, and delivers the message when it
 * is due. Each field is a header `event-flow-retry-<field>`; each entry of
 * `origin` is one too, such as `event-flow-retry-partition`.
 *
 * @stability unstable
 * @category delayed retries
 * @since 0.1.0
 */
export interface RetryHeaders {
  /** The consumer group that failed to handle the message, and handles it again. */
  readonly group: string
  /** Which delay it waits for; the first is 1. */
  readonly step: number
  /** When the message is due, in milliseconds since 1970. */
  readonly due: number
  /** How often handling has failed, in all. */
  readonly attempts: number
  /** The topic that the message was first published to. */
  readonly topic: string
  /** The tag of the last failure. */
  readonly reason: string
  /** The last failure in words. */
  readonly error: string
  /** The handlers that are still to run; undefined: all. */
  readonly handlers?: ReadonlyArray<string> | undefined
  /** How often handling failed in each way, by the tag of the failure. */
  readonly failures?: Readonly<Record<string, number>> | undefined
  /** When the message failed first, in milliseconds since 1970. */
  readonly since?: number | undefined
  /** Its place in the first topic, in terms of the broker (`Delivery.origin`). */
  readonly origin: Readonly<Record<string, string>>
}

/**
 * The prefix of the headers of a delayed retry.
 *
 * @stability unstable
 * @category delayed retries
 * @since 0.1.0
 */
export const retryHeaderPrefix = "event-flow-retry-"

/**
 * Encodes the headers of a delayed retry.
 *
 * @stability unstable
 * @category delayed retries
 * @since 0.1.0
 */
export const encodeRetry = (retry: RetryHeaders): Readonly<Record<string, string>> => {
  const { origin, ...fields } = retry
  const headers = emptyRecord<string>()
  for (const [name, value] of Object.entries({ ...origin, ...fields })) {
    if (value !== undefined) {
      headers[retryHeaderPrefix + name] = typeof value === "object"
        ? JSON.stringify(value)
        : String(value)
    }
  }
  return headers
}

/**
 * Decodes the headers of a delayed retry. Undefined if the message does not wait
 * for a retry of `group`.
 *
 * @stability unstable
 * @category delayed retries
 * @since 0.1.0
 */
export const decodeRetry = (message: Message, group: string): RetryHeaders | undefined => {
  const text = (name: string): string | undefined => {
    const value = headerValues(message, retryHeaderPrefix + name).at(-1)
    return typeof value === "string" ? value : undefined
  }
  const topic = text("topic")
  const step = wholeNumber(text("step"))
  if (text("group") !== group || topic === undefined || step === undefined || step < 1) return undefined
  const origin = emptyRecord<string>()
  for (const header in message.headers) {
    const name = header.startsWith(retryHeaderPrefix) ? header.slice(retryHeaderPrefix.length) : undefined
    const value = name === undefined || retryFields.has(name) ? undefined : text(name)
    if (value !== undefined) origin[name!] = value
  }
  return {
    group,
    step,
    // Without a time it is due now
    due: wholeNumber(text("due")) ?? 0,
    attempts: wholeNumber(text("attempts")) ?? 0,
    topic,
    reason: text("reason") ?? "",
    error: text("error") ?? "",
    ...given("handlers", Option.getOrUndefined(decodeNames(text("handlers")))),
    ...given("failures", Option.getOrUndefined(decodeCounts(text("failures")))),
    ...given("since", wholeNumber(text("since"))),
    origin
  }
}

/**
 * Makes the policy of delayed retries: a message whose handler failed with a typed
 * error is postponed by the next of the delays. Undecodable messages and defects
 * are not retried.
 *
 * @stability unstable
 * @category delayed retries
 * @since 0.1.0
 */
export const retryPolicy = (options: {
  readonly group: string
  readonly delays: ReadonlyArray<Duration.Duration>
  /** Retries in place before each delay. Default: none. */
  readonly inPlace: Schedule.Schedule<unknown, ConsumerPolicy.Failure> | undefined
  /**
   * The decision after the last delay, and for failures that are not retried.
   * Default: that of `ConsumerPolicy.defaultPolicy`.
   */
  readonly otherwise: ConsumerPolicy.Final | undefined
  /** Names the topic in which the message waits. Steps start at 1. */
  readonly topicName: (topic: string, step: number, delay: Duration.Duration) => string
}): ConsumerPolicy.ConsumerPolicy => {
  const { delays, group, inPlace, otherwise = ConsumerPolicy.deadLetter(), topicName } = options
  const policy = (failure: ConsumerPolicy.Failure): ConsumerPolicy.Decision => {
    if (failure._tag !== "HandlerFailed") return options.otherwise ?? ConsumerPolicy.defaultPolicy(failure)
    const { message } = failure
    const step = (decodeRetry(message, group)?.step ?? 0) + 1
    const delay = delays[step - 1]
    const last = delay === undefined
      ? otherwise
      : ConsumerPolicy.postpone({ topic: topicName(message.topic, step, delay), step, delay })
    return inPlace === undefined ? last : ConsumerPolicy.retry(inPlace, last)
  }
  return Object.assign(policy, { deadLetterTopics: otherwise._tag === "DeadLetter" ? [otherwise.topic] : [] })
}

// --- internal ---

const decoder = new TextDecoder("utf-8", { fatal: true })

/** Undefined: there is no value, or its bytes are not UTF-8. */
const headerText = (value: HeaderValue): string | undefined => {
  if (typeof value === "string") return value
  if (value === null) return undefined
  try {
    return decoder.decode(value)
  } catch {
    return undefined
  }
}

const retryFields: ReadonlySet<string> = new Set<Exclude<keyof RetryHeaders, "origin">>([
  "group",
  "step",
  "due",
  "attempts",
  "topic",
  "reason",
  "error",
  "handlers",
  "failures",
  "since"
])

const given = <Name extends string, A>(name: Name, value: A | undefined): { readonly [N in Name]?: A } =>
  // The one name of the type
  value === undefined ? {} : { [name]: value } as { readonly [N in Name]?: A }

const decodeCounts = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Number)))

const decodeNames = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Array(Schema.String)))

const wholeNumber = (text: string | undefined): number | undefined => {
  const value = text === undefined || text === "" ? Number.NaN : Number(text)
  return Number.isSafeInteger(value) && value >= 0 ? value : undefined
}
