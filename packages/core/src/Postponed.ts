/**
 * The headers of a message that waits for a delayed retry. The `EventConsumer`
 * writes them when a policy decides `Postpone`. The layer of the broker reads
 * them, and delivers the message when it is due.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Message from "./Message.ts"

/**
 * The prefix of the retry headers.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export const headerPrefix = "event-flow-retry-"

/**
 * The data of the retry headers. Each field is a header
 * `event-flow-retry-<field>`; each entry of `origin` is one too, such as
 * `event-flow-retry-partition`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Postponed {
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
  /** Its place in the first topic, in terms of the broker (`Delivery.origin`). */
  readonly origin: Readonly<Record<string, string>>
}

/**
 * Encodes a `Postponed` as headers.
 *
 * @stability unstable
 * @category bindings
 * @since 0.1.0
 */
export const toHeaders = (postponed: Postponed): Readonly<Record<string, string>> => {
  const { origin, ...fields } = postponed
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries({ ...origin, ...fields })) headers[headerPrefix + name] = String(value)
  return headers
}

/**
 * Decodes the retry headers of a message. Undefined if the message does not
 * wait for a retry of `group`.
 *
 * @stability unstable
 * @category bindings
 * @since 0.1.0
 */
export const read = (message: Message.Message, group: string): Postponed | undefined => {
  const headers = message.headers
  const text = (name: string): string | undefined => {
    const value = headers[headerPrefix + name]
    return typeof value === "string" ? value : undefined
  }
  const topic = text("topic")
  const step = count(text("step"))
  if (text("group") !== group || topic === undefined || step === undefined || step < 1) return undefined
  const origin: Record<string, string> = {}
  for (const header in headers) {
    const name = header.startsWith(headerPrefix) ? header.slice(headerPrefix.length) : undefined
    const value = name === undefined || fieldNames.has(name) ? undefined : text(name)
    if (value !== undefined) origin[name!] = value
  }
  return {
    group,
    step,
    // Without a time it is due now
    due: count(text("due")) ?? 0,
    attempts: count(text("attempts")) ?? 0,
    topic,
    reason: text("reason") ?? "",
    error: text("error") ?? "",
    origin
  }
}

/**
 * The headers of a message without those of its retries.
 *
 * @stability unstable
 * @category bindings
 * @since 0.1.0
 */
export const withoutHeaders = (message: Message.Message): Message.Message["headers"] => {
  const headers: Record<string, Message.HeaderValue> = {}
  for (const name in message.headers) {
    if (!name.startsWith(headerPrefix)) headers[name] = message.headers[name]!
  }
  return headers
}

// --- internal ---

const fieldNames: ReadonlySet<string> = new Set<Exclude<keyof Postponed, "origin">>([
  "group",
  "step",
  "due",
  "attempts",
  "topic",
  "reason",
  "error"
])

const count = (text: string | undefined): number | undefined => {
  const value = text === undefined || text === "" ? Number.NaN : Number(text)
  return Number.isSafeInteger(value) && value >= 0 ? value : undefined
}
