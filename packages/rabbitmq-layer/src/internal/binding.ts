/**
 * Messages in AMQP 0-9-1, after the CloudEvents AMQP binding in binary mode:
 * attributes are headers with the prefix `cloudEvents:` (`cloudEvents_` is read
 * too), `datacontenttype` is the property content-type.
 */
import { assertWhole, emptyRecord } from "@event-flow/core/BrokerLayer"
import type * as Message from "@event-flow/core/Message"
import type { ConsumeMessage, Options } from "amqplib"
import { unreadableHeader } from "./frames.ts"

/** A header of our own: the message has no body, which AMQP cannot say. */
const tombstoneHeader = "event-flow-tombstone"

/** A header of our own; `null` says that there is no key although there is a `subject`. */
const keyHeader = "event-flow-key"

const prefix = "cloudEvents:"
const otherPrefix = "cloudevents_"

/** Why the server dead-lettered the message. Sent along, it would be taken for the server's own account. */
const isDeathHeader = (name: string): boolean =>
  name === "x-death" || name.startsWith("x-first-death-") || name.startsWith("x-last-death-")

/**
 * Headers by which the server sends a message to further queues. A dead letter must not go there again, so we write
 * them under other names.
 */
const routingHeaders = new Map([["CC", "event-flow-CC"], ["BCC", "event-flow-BCC"]])
const routingHeaderOf = new Map(Array.from(routingHeaders, ([name, other]) => [other, name]))

/** How often the server has delivered it, which is the attempt of a delivery. */
const isCountHeader = (name: string): boolean => name === "x-delivery-count" || name === "x-acquired-count"

export const toContent = ({ body }: Message.Message): Buffer => body === null ? Buffer.alloc(0) : toBuffer(body)

export const toOptions = (message: Message.Message, mandatory: boolean): Options.Publish => {
  assertWhole(message)
  const headers = emptyRecord<unknown>()
  const attributes = message.attributes
  for (const name in attributes) {
    // Joined names are new strings every time, which are dear as keys
    if (name !== "datacontenttype" || !isShort(attributes[name]!)) {
      headers[headerNames.get(name) ?? prefix + name] = attributes[name]
    }
  }
  for (const name in message.headers) {
    if (!isDeathHeader(name)) headers[routingHeaders.get(name) ?? name] = toField(name, message.headers[name]!)
  }
  const key = message.key
  const subject = attributes["subject"]
  // The subject is the key unless something else is said
  if (key !== subject) headers[keyHeader] = key === undefined ? null : toFieldValue(key)
  if (message.body === null) headers[tombstoneHeader] = true
  const options: Options.Publish = { headers, persistent: true, mandatory }
  const { datacontenttype, id } = attributes
  if (datacontenttype !== undefined && isShort(datacontenttype)) options.contentType = datacontenttype
  if (id !== undefined && isShort(id)) options.messageId = id
  return options
}

/** Never throws: that would end the connection of the client, and the next one at the same message. */
export const fromDelivery = (topic: string, message: ConsumeMessage): Message.Message => {
  try {
    return read(topic, message)
  } catch (error) {
    return read(topic, unreadable(message, error))
  }
}

/** Without its properties, which cannot be read; it follows the policy of the consumer. */
const unreadable = ({ content, fields, properties }: ConsumeMessage, error: unknown): ConsumeMessage => ({
  content,
  fields,
  properties: {
    ...properties,
    contentType: undefined,
    messageId: undefined,
    headers: { [unreadableHeader]: String(error) }
  }
})

const read = (topic: string, { content, properties }: ConsumeMessage): Message.Message => {
  const attributes = emptyRecord<string>()
  const headers = emptyRecord<Message.Headers[string]>()
  const raw: object = properties.headers ?? {}
  let key: string | Uint8Array | null | undefined
  let isTombstone = false
  const add = (name: string, value: unknown): void => {
    const attribute = attributeOf(name)
    const text = attribute === undefined ? undefined : attributeText(value)
    if (text !== undefined) attributes[attribute!] = text
    else if (name === tombstoneHeader) isTombstone = content.length === 0
    else if (name === keyHeader) key = isKey(value) ? value : undefined
    else if (!isCountHeader(name)) {
      headers[routingHeaderOf.get(name) ?? name] = Array.isArray(value)
        ? fromList(value)
        : fromFieldValue(value)
    }
  }
  for (const name of Object.keys(raw)) add(name, (raw as Record<string, unknown>)[name])
  const hidden = hiddenField(raw)
  if (hidden !== undefined) add("__proto__", hidden)
  if (typeof properties.contentType === "string") attributes["datacontenttype"] = properties.contentType
  // A foreign message without attributes is deduplicated by what AMQP calls its id
  if (typeof properties.messageId === "string") attributes["id"] ||= properties.messageId
  return {
    topic,
    key: key === undefined ? attributes["subject"] : key ?? undefined,
    attributes,
    headers,
    body: isTombstone ? null : content
  }
}

/** How often this message was delivered before from its queue, as far as the server counts. */
export const deliveriesBefore = ({ fields, properties }: ConsumeMessage): number => {
  const counted: unknown = properties.headers?.["x-delivery-count"]
  return typeof counted === "number" ? counted : fields.redelivered ? 1 : 0
}

// --- internal ---

const attributeNames = [
  "specversion",
  "id",
  "type",
  "source",
  "subject",
  "time",
  "traceparent",
  "correlationid",
  "causationid"
]

const headerNames = new Map(attributeNames.map((name) => [name, prefix + name]))

const known = new Map(attributeNames.map((name) => [prefix + name, name]))

const attributeOf = (name: string): string | undefined => {
  const attribute = known.get(name)
  if (attribute !== undefined) return attribute
  // Compared without regard to case, as the binding asks
  const lower = name.toLowerCase()
  return lower.startsWith("cloudevents:") || lower.startsWith(otherPrefix) ? lower.slice(prefix.length) : undefined
}

const isKey = (value: unknown): value is string | Uint8Array | null =>
  value === null || typeof value === "string" || isBytes(value)

/** Not by `instanceof`: a table may have bytes as its prototype, see `hiddenField`. */
const isBytes = (value: unknown): value is Uint8Array => ArrayBuffer.isView(value)

/** Whether a property takes it; a header takes any. A character is at most three bytes. */
const isShort = (text: string): boolean => text.length <= 85 || Buffer.byteLength(text) <= 255

const toBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** A header with several values is a list. */
const toField = (name: string, header: Message.Headers[string]): unknown => {
  const values = Array.isArray(header) ? header.map(toFieldValue) : undefined
  // A text of this name is lost in the client of whoever reads it, and a list is not; see `hiddenField`
  if (name === "__proto__") return values ?? [toFieldValue(header as Message.HeaderValue)]
  return values ?? toFieldValue(header as Message.HeaderValue)
}

const toFieldValue = (value: Message.HeaderValue): string | Buffer | null =>
  value instanceof Uint8Array ? toBuffer(value) : value

/**
 * The field `__proto__` of a table. The client assigns it to a plain object, which
 * makes it the prototype: a table, a list, bytes and null are found again there; a
 * text, number or boolean is lost.
 */
const hiddenField = (table: object): unknown => {
  const prototype: unknown = Object.getPrototypeOf(table)
  return prototype === Object.prototype ? undefined : prototype
}

const fromList = (values: ReadonlyArray<unknown>): Message.Headers[string] =>
  values.length === 1 ? fromFieldValue(values[0]) : values.map(fromFieldValue)

const fromFieldValue = (value: unknown): Message.HeaderValue => {
  if (typeof value === "string" || isBytes(value) || value === null) return value
  // Numbers, booleans, and the lists and tables of the server, such as x-death
  return typeof value === "object" ? JSON.stringify(plain(value)) : String(value)
}

/** What has a JSON form and nothing of the client's: `JSON.stringify` calls methods of what it is given. */
const plain = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null) return value
  if (isBytes(value)) return { base64: toBuffer(value).toString("base64") }
  if (Array.isArray(value)) return value.map(plain)
  const table = emptyRecord<unknown>()
  for (const [name, field] of Object.entries(value)) table[name] = plain(field)
  const hidden = hiddenField(value)
  if (hidden !== undefined) table["__proto__"] = plain(hidden)
  return table
}

/** The CloudEvents type system in AMQP: texts, numbers, booleans and timestamps in seconds. */
const attributeText = (value: unknown): string | undefined => {
  if (typeof value === "string") return value
  if (typeof value === "number" || typeof value === "boolean") return String(value)
  const seconds = isTimestamp(value) ? value.value : undefined
  return typeof seconds === "number" && seconds <= maxSeconds ? new Date(seconds * 1000).toISOString() : undefined
}

/** What a `Date` can hold. */
const maxSeconds = 8_640_000_000_000

const isTimestamp = (value: unknown): value is { readonly value: unknown } =>
  typeof value === "object" && value !== null && Object.hasOwn(value, "!") &&
  (value as Record<string, unknown>)["!"] === "timestamp"
