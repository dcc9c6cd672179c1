/**
 * What travels through a broker: CloudEvents attributes, a key, a body of
 * bytes. How attributes become headers is the binding of each broker layer
 * (CloudEvents Kafka binding, AMQP binding); no broker changes their values.
 *
 * @stability unstable
 * @since 0.1.0
 */

/**
 * A header value. Foreign messages may carry bytes that are no text; they are
 * kept as they are.
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
   * extensions `traceparent`, `correlationid` and `causationid`.
   *
   * On a message made here they are computed when first read; `time` is that of
   * the publish all the same. A message from a foreign producer may lack any of
   * them.
   */
  readonly attributes: Readonly<Record<string, string>>
  /** Everything else: headers that are not CloudEvents attributes. */
  readonly headers: Readonly<Record<string, HeaderValue>>
  readonly body: Uint8Array
  /** One of `attributes` without the others, where a layer reads them when asked: see `attribute`. */
  readonly [quickAttribute]?: ((name: string) => string | undefined) | undefined
  /** `body` as text, where a layer reads it quicker than by decoding bytes; undefined: decode them. */
  readonly [quickText]?: (() => string | undefined) | undefined
}

/**
 * The key under which a message of a layer has a function that reads one
 * attribute by its name, as `attributes` would give it.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const quickAttribute: unique symbol = Symbol("@event-flow/core/Message/quickAttribute")

/**
 * The key under which a message of a layer has a function that gives its body
 * as text, if that is what it certainly is.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const quickText: unique symbol = Symbol("@event-flow/core/Message/quickText")

/**
 * One attribute. The same as to read it from `attributes`, and less work on a
 * message from a broker, all of whose headers are then parsed.
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
 * Not by spread: `attributes` may be a getter, which a spread leaves out. The
 * brokers refuse such a message with a defect rather than send it without them.
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
 * Dies for a message that lost its attributes in a copy by spread. For layers of
 * brokers, before they take a message.
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
 * The id of a message, `"(no id)"` for a foreign message without one: for logs
 * and errors.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const describeId = (message: Message): string => message.attributes["id"] ?? "(no id)"

/**
 * The key as text, for maps and logs. A key of bytes, text or not, is in its
 * hexadecimal form: `"0x6b6579"`. Two keys of one kind have different texts; a
 * key of text that begins with `0x` may read like one of bytes.
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
 * Splits transport headers into CloudEvents attributes (those with `prefix`,
 * which is taken off; `content-type` is `datacontenttype`) and the rest.
 *
 * **Details**
 *
 * The prefix is `ce_` in the Kafka protocol binding, `cloudEvents:` or
 * `cloudEvents_` in the AMQP protocol binding (CloudEvents 1.0). Header names
 * are compared without regard to case, as both bindings ask.
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
 * Joins attributes and headers into transport headers, the inverse of
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
