/**
 * What a dead letter says about itself: where it comes from, which handler failed
 * with which error, how often and when, and which handlers are still to run.
 *
 * `EventConsumer` writes it as headers, beside the message as it came. A program
 * that looks at dead letters reads them with `decode`. A consumer of the same
 * group that gets the message again, with these headers, runs the handlers that
 * are still to run.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { decodeRetry, emptyRecord } from "./BrokerLayer.ts"
import { type Headers, headerValues, type Message } from "./Message.ts"

/**
 * What the headers of a dead letter say. Each field is a header
 * `dead-letter-<name>`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface DeadLetter {
  /** The tag of the last failure: `Undecodable`, `HandlerFailed` or `HandlerDied`. Header `reason`. */
  readonly reason: string
  /** The last failure in words. Header `error`. */
  readonly error: string
  /** The handler that failed last, as far as it is known. Header `handler`. */
  readonly handler: string | undefined
  /** The tag, or else the name, of the error behind the last failure. Header `error-tag`. */
  readonly errorTag: string | undefined
  /** The fields of that error as a JSON object; long ones are shortened or left out. Header `error-fields`. */
  readonly errorFields: string | undefined
  /** The cause of the last failure with its stack, shortened. Header `cause`. */
  readonly cause: string | undefined
  /** How often handling failed in each way, by the tag of the failure. Header `failures`, a JSON object. */
  readonly failures: Readonly<Record<string, number>>
  /** How often the message was tried, delayed retries included. Header `attempts`. */
  readonly attempts: number
  /** When the message failed first, in milliseconds since 1970. Header `first-failed`, in ISO 8601. */
  readonly firstFailed: number | undefined
  /** When it failed last. Header `last-failed`. */
  readonly lastFailed: number | undefined
  /** The handlers that are still to run; undefined: all. Header `handlers`, a JSON array. */
  readonly handlers: ReadonlyArray<string> | undefined
  /** The topic that the message was published to. Header `topic`. */
  readonly topic: string
  /** The group that could not handle it. Header `group`. */
  readonly group: string
  /** Its place in the topic, in terms of the broker, such as `partition` and `offset`; each is a header of that name. */
  readonly origin: Readonly<Record<string, string>>
}

/**
 * The prefix of the headers of a dead letter.
 *
 * @stability unstable
 * @category headers
 * @since 0.1.0
 */
export const headerPrefix = "dead-letter-"

/**
 * Writes a dead letter as headers. All of them together take about 8,000 bytes at
 * most: texts are shortened, the stack first.
 *
 * @stability unstable
 * @category headers
 * @since 0.1.0
 */
export const encode = (letter: DeadLetter): Headers => {
  const headers = emptyRecord<string>()
  let left = maxBytes
  const write = (name: string, value: string | undefined, most = maxField): void => {
    if (value === undefined) return
    const text = shortened(value, Math.min(most, left))
    left -= byteLength(text)
    headers[headerPrefix + name] = text
  }
  write("reason", letter.reason)
  write("error", letter.error)
  write("topic", letter.topic)
  write("group", letter.group)
  write("attempts", String(letter.attempts))
  for (const name in letter.origin) if (!names.has(name)) write(name, letter.origin[name])
  write("handler", letter.handler)
  write("error-tag", letter.errorTag)
  write("failures", JSON.stringify(letter.failures))
  write("first-failed", isoOf(letter.firstFailed))
  write("last-failed", isoOf(letter.lastFailed))
  // Half a list would have handlers left out
  const handlers = letter.handlers === undefined ? undefined : JSON.stringify(letter.handlers)
  if (handlers !== undefined && byteLength(handlers) <= left) write("handlers", handlers, maxBytes)
  // Half an object is no JSON
  if (letter.errorFields !== undefined && byteLength(letter.errorFields) <= left) {
    write("error-fields", letter.errorFields, maxBytes)
  }
  write("cause", letter.cause, maxBytes)
  return headers
}

/**
 * Reads what the headers of a message say. Undefined if it is no dead letter.
 *
 * **Example** (What failed, by handler and error)
 *
 * ```ts
 * import { DeadLetter, type Message } from "@event-flow/core"
 *
 * export const counts = (messages: ReadonlyArray<Message.Message>): Map<string, number> => {
 *   const counts = new Map<string, number>()
 *   for (const message of messages) {
 *     const letter = DeadLetter.decode(message)
 *     const key = `${letter?.handler ?? "no handler"}: ${letter?.errorTag ?? letter?.reason}`
 *     counts.set(key, (counts.get(key) ?? 0) + 1)
 *   }
 *   return counts
 * }
 * ```
 *
 * @stability unstable
 * @category headers
 * @since 0.1.0
 */
export const decode = (message: Message): DeadLetter | undefined => {
  const text = (name: string): string | undefined => {
    const value = headerValues(message, headerPrefix + name).at(-1)
    return typeof value === "string" ? value : undefined
  }
  const reason = text("reason")
  const topic = text("topic")
  const group = text("group")
  if (reason === undefined || topic === undefined || group === undefined) return undefined
  const origin = emptyRecord<string>()
  for (const header in message.headers) {
    const name = header.startsWith(headerPrefix) ? header.slice(headerPrefix.length) : undefined
    const value = name === undefined || names.has(name) ? undefined : text(name)
    if (value !== undefined) origin[name!] = value
  }
  return {
    reason,
    error: text("error") ?? "",
    handler: text("handler"),
    errorTag: text("error-tag"),
    errorFields: text("error-fields"),
    cause: text("cause"),
    failures: Option.getOrElse(decodeCounts(text("failures")), () => ({})),
    attempts: Number(text("attempts")) || 0,
    firstFailed: millisOf(text("first-failed")),
    lastFailed: millisOf(text("last-failed")),
    handlers: Option.getOrUndefined(decodeNames(text("handlers"))),
    topic,
    group,
    origin
  }
}

/**
 * The handlers that a message is for when it comes to a group again: of a dead
 * letter that was published again, or of a delayed retry. Undefined: all.
 *
 * @stability unstable
 * @category headers
 * @since 0.1.0
 */
export const handlersToRun = (message: Message, group: string): ReadonlyArray<string> | undefined => {
  try {
    const retry = decodeRetry(message, group)
    if (retry !== undefined) return retry.handlers
    const letter = decode(message)
    return letter?.group === group ? letter.handlers : undefined
  } catch {
    // Headers that a broker's layer fails to read must not end the consumer
    return undefined
  }
}

// --- internal ---

/** In all: a message that is too large is stuck. */
const maxBytes = 8_000
const maxField = 1_000

const names: ReadonlySet<string> = new Set([
  "reason",
  "error",
  "handler",
  "error-tag",
  "error-fields",
  "cause",
  "failures",
  "attempts",
  "first-failed",
  "last-failed",
  "handlers",
  "topic",
  "group",
  "without"
])

const encoder = new TextEncoder()

const byteLength = (text: string): number => encoder.encode(text).length

/** By its bytes, and not in the middle of a character. */
const shortened = (text: string, most: number): string => {
  const bytes = encoder.encode(text)
  if (bytes.length <= most) return text
  // Three bytes for the sign that says so
  let end = Math.max(0, most - 3)
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--
  return `${new TextDecoder().decode(bytes.subarray(0, end))}…`
}

const isoOf = (millis: number | undefined): string | undefined =>
  millis === undefined ? undefined : new Date(millis).toISOString()

const millisOf = (text: string | undefined): number | undefined => {
  const millis = text === undefined ? Number.NaN : Date.parse(text)
  return Number.isNaN(millis) ? undefined : millis
}

const decodeCounts = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Number)))

const decodeNames = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Array(Schema.String)))
