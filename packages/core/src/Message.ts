/**
 * A message of a broker: CloudEvents attributes, a key and a body of bytes.
 * Each broker layer turns attributes into headers by the CloudEvents binding of
 * its protocol (Kafka, AMQP). No broker changes their values.
 *
 * @stability unstable
 * @since 0.1.0
 */

/**
 * One value of a header. A message of another program may carry bytes that are
 * not text, or no value at all (null). They are kept unchanged.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type HeaderValue = string | Uint8Array | null

/**
 * The headers of a message by name. A name that occurs more than once has a list
 * of its values, in their order; a list of one value is that value.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Headers = Readonly<Record<string, HeaderValue | ReadonlyArray<HeaderValue>>>

/**
 * A message on its way to or from a broker.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Message {
  readonly topic: string
  /** Messages of one key keep their order. */
  readonly key: string | Uint8Array | undefined
  /**
   * CloudEvents attributes by their names in the specification: `specversion`,
   * `id` (UUID v7), `type` (tag and version, `"MeetingAnnounced.v1"`), `source`,
   * `subject` (the key, unless it is empty), `time` (RFC 3339), `datacontenttype`, and the
   * extensions `traceparent`, `tracestate`, `correlationid` and `causationid`.
   *
   * A message that this program made computes them when they are first read;
   * `time` is the time of the publish nevertheless. A message of another
   * program may lack any of them.
   */
  readonly attributes: Readonly<Record<string, string>>
  /** Everything else: headers that are not CloudEvents attributes. */
  readonly headers: Headers
  /** Null for a tombstone, which removes its key from a compacted topic of Kafka; other brokers keep it as well. */
  readonly body: Uint8Array | null
  /**
   * For authors of broker layers: reads one of `attributes` by its name, without
   * reading the others. `Message.attribute` calls it where a message has it. The
   * result is that of `attributes`.
   */
  readAttribute?(name: string): string | undefined
  /**
   * For authors of broker layers: reads `body` as text, quicker than a
   * `TextDecoder` does. Decoding calls it where a message has it. It returns
   * undefined where the body may not be UTF-8; the bytes are decoded then.
   */
  readText?(): string | undefined
}

/**
 * Reads one attribute, such as `"type"` or `"correlationid"`. The result is that
 * of `attributes`, but a message of a broker need not parse all of its headers
 * for it.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const attribute = (message: Message, name: string): string | undefined =>
  message.readAttribute === undefined ? message.attributes[name] : message.readAttribute(name)

/**
 * The values of one header, in their order; none if the message does not have it.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const headerValues = (message: Message, name: string): ReadonlyArray<HeaderValue> => {
  // Names of other programs: "constructor" may be one, and is in every plain object
  const header = Object.hasOwn(message.headers, name) ? message.headers[name] : undefined
  return header === undefined ? [] : isList(header) ? header : [header]
}

/**
 * Makes a message from its parts.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly topic: string
  readonly key?: string | Uint8Array | undefined
  readonly attributes?: Readonly<Record<string, string>> | undefined
  readonly headers?: Headers | undefined
  readonly body: Uint8Array | null
}): Message => ({
  topic: options.topic,
  key: options.key,
  attributes: options.attributes ?? {},
  headers: options.headers ?? {},
  body: options.body
})

/**
 * A copy of a message with some of its parts replaced.
 *
 * **Gotchas**
 *
 * Do not copy a message by spread: `attributes` may be a getter, which a spread
 * leaves out. Publishing such a message is a defect.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const copy = (
  message: Message,
  changes: Partial<Pick<Message, "topic" | "key" | "attributes" | "headers" | "body">>
): Message => ({
  topic: changes.topic ?? message.topic,
  key: "key" in changes ? changes.key : message.key,
  attributes: changes.attributes ?? message.attributes,
  headers: changes.headers ?? message.headers,
  body: changes.body === undefined ? message.body : changes.body
})

/**
 * The key as text, for maps and logs. A key of bytes is written in hexadecimal:
 * `"0x6b6579"`. Different keys of one kind have different texts; a key of text
 * that begins with `0x` may look like a key of bytes.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const keyString = (message: Message): string | undefined => {
  const key = message.key
  if (key === undefined || typeof key === "string") return key
  return `0x${Array.from(key, (byte) => byte.toString(16).padStart(2, "0")).join("")}`
}

// --- internal ---

// `Array.isArray` does not take a read-only array out of a union
const isList = (header: Headers[string]): header is ReadonlyArray<HeaderValue> => Array.isArray(header)
