/**
 * A message of a broker: CloudEvents attributes, a key and a body of bytes.
 * Each broker layer turns attributes into headers by the CloudEvents binding of
 * its protocol (Kafka, AMQP). No broker changes their values.
 *
 * @stability unstable
 * @since 0.1.0
 */

/**
 * A header value. A message of another program may carry bytes that are not
 * text. They are kept unchanged.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type HeaderValue = string | Uint8Array

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
  readonly headers: Readonly<Record<string, HeaderValue>>
  readonly body: Uint8Array
  /** Reads one of `attributes` without parsing the others; see `attribute`. */
  readonly [quickAttribute]?: ((name: string) => string | undefined) | undefined
  /** Reads `body` as text, quicker than decoding the bytes. When it returns undefined, decode them. */
  readonly [quickText]?: (() => string | undefined) | undefined
}

/**
 * The key of a function on a message that reads one attribute by its name, with
 * the result of `attributes`. Broker layers set it.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const quickAttribute: unique symbol = Symbol("@event-flow/core/Message/quickAttribute")

/**
 * The key of a function on a message that reads the body as text, where the
 * body is certainly text. Broker layers set it.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const quickText: unique symbol = Symbol("@event-flow/core/Message/quickText")

/**
 * Reads one attribute. The result is that of `attributes`, but a message of a
 * broker need not parse all of its headers for it.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const attribute = (message: Message, name: string): string | undefined => {
  const quick = message[quickAttribute]
  return quick === undefined ? message.attributes[name] : quick.call(message, name)
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
  readonly headers?: Readonly<Record<string, HeaderValue>> | undefined
  readonly body: Uint8Array
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
export const copy = (message: Message, changes: Partial<Message>): Message => ({
  topic: changes.topic ?? message.topic,
  key: "key" in changes ? changes.key : message.key,
  attributes: changes.attributes ?? message.attributes,
  headers: changes.headers ?? message.headers,
  body: changes.body ?? message.body
})

/**
 * Throws when a message has lost its attributes in a copy by spread. Broker
 * layers call it before they accept a message.
 *
 * @stability unstable
 * @category guards
 * @since 0.1.0
 */
export const assertWhole = (message: Message): void => {
  if (!("attributes" in message)) {
    throw new Error(
      `A message for topic "${(message as Message).topic}" lost its attributes in a copy by spread: use Message.copy`
    )
  }
}

/**
 * The `type` attribute: tag and version of the event, if there is one.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const typeOf = (message: Message): string | undefined => message.attributes["type"]

/**
 * The `correlationid` attribute, if there is one.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const correlationIdOf = (message: Message): string | undefined => message.attributes["correlationid"]

/**
 * The id of a message for logs and errors, `"(no id)"` when it has none.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const describeId = (message: Message): string => message.attributes["id"] ?? "(no id)"

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

/**
 * Splits transport headers into CloudEvents attributes and the rest. A header
 * with one of the prefixes is an attribute, without its prefix; `content-type`
 * is `datacontenttype`.
 *
 * **Details**
 *
 * The prefix is `ce_` in the Kafka protocol binding, `cloudEvents:` or
 * `cloudEvents_` in the AMQP protocol binding (CloudEvents 1.0). Header names
 * are compared case-insensitively, as both bindings require.
 *
 * @stability unstable
 * @category bindings
 * @since 0.1.0
 */
export const fromHeaders = (
  headers: Iterable<readonly [string, HeaderValue]>,
  prefixes: ReadonlyArray<string>
): Pick<Message, "attributes" | "headers"> => {
  const attributes: Record<string, string> = {}
  const rest: Record<string, HeaderValue> = {}
  for (const [name, value] of headers) {
    const lower = name.toLowerCase()
    const prefix = prefixes.find((prefix) => lower.startsWith(prefix.toLowerCase()))
    const attribute = lower === "content-type" ? "datacontenttype" : prefix && lower.slice(prefix.length)
    const text = attribute === undefined ? undefined : headerText(value)
    if (attribute === undefined || text === undefined) rest[name] = value
    else attributes[attribute] = text
  }
  return { attributes, headers: rest }
}

/**
 * Joins attributes and headers into transport headers. It is the inverse of
 * `fromHeaders`.
 *
 * @stability unstable
 * @category bindings
 * @since 0.1.0
 */
export const toHeaders = (message: Message, prefix: string): Record<string, HeaderValue> => {
  const out: Record<string, HeaderValue> = { ...message.headers }
  assertWhole(message)
  const attributes = message.attributes
  for (const name in attributes) {
    out[name === "datacontenttype" ? "content-type" : prefix + name] = attributes[name]!
  }
  return out
}

// --- internal ---

const decoder = new TextDecoder("utf-8", { fatal: true })

const headerText = (value: HeaderValue): string | undefined => {
  if (typeof value === "string") return value
  try {
    return decoder.decode(value)
  } catch {
    return undefined
  }
}
