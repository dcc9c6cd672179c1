/**
 * Messages in AMQP 0-9-1, after the CloudEvents AMQP binding in binary mode:
 * attributes are headers with the prefix `cloudEvents:` (`cloudEvents_` is read
 * too), `datacontenttype` is the property content-type.
 */
import { assertWhole } from "@event-flow/core/BrokerLayer"
import type * as Message from "@event-flow/core/Message"
import type { ConsumeMessage, Options } from "amqplib"

/** A header of our own; `null` says that there is no key although there is a `subject`. */
const keyHeader = "event-flow-key"

const prefix = "cloudEvents:"
const otherPrefix = "cloudevents_"

/** Why the server dead-lettered the message. Sent along, it would be taken for the server's own account. */
const isDeathHeader = (name: string): boolean =>
  name === "x-death" || name.startsWith("x-first-death-") || name.startsWith("x-last-death-")

/** How often the server has delivered it, which is the attempt of a delivery. */
const isCountHeader = (name: string): boolean => name === "x-delivery-count" || name === "x-acquired-count"

export const toContent = ({ body }: Message.Message): Buffer =>
  Buffer.from(body.buffer, body.byteOffset, body.byteLength)

export const toOptions = (message: Message.Message, mandatory: boolean): Options.Publish => {
  assertWhole(message)
  const headers: Record<string, unknown> = {}
  const attributes = message.attributes
  for (const name in attributes) {
    // Joined names are new strings every time, which are dear as keys
    if (name !== "datacontenttype") headers[headerNames.get(name) ?? prefix + name] = attributes[name]
  }
  for (const name in message.headers) {
    if (isDeathHeader(name)) continue
    const value = message.headers[name]!
    headers[name] = typeof value === "string" ? value : toBuffer(value)
  }
  const key = message.key
  const subject = attributes["subject"]
  // The subject is the key unless something else is said
  if (key !== subject) headers[keyHeader] = key === undefined ? null : typeof key === "string" ? key : toBuffer(key)
  const options: Options.Publish = { headers, persistent: true, mandatory }
  if (attributes["datacontenttype"] !== undefined) options.contentType = attributes["datacontenttype"]
  if (attributes["id"] !== undefined) options.messageId = attributes["id"]
  return options
}

export const fromDelivery = (topic: string, { content, properties }: ConsumeMessage): Message.Message => {
  const attributes: Record<string, string> = {}
  const headers: Record<string, Message.HeaderValue> = {}
  const raw = properties.headers ?? {}
  let key: string | Uint8Array | null | undefined
  for (const name in raw) {
    const value: unknown = raw[name]
    const attribute = attributeOf(name)
    if (attribute !== undefined && typeof value === "string") attributes[attribute] = value
    else if (name === keyHeader) key = isKey(value) ? value : undefined
    else if (!isCountHeader(name)) headers[name] = toHeaderValue(value)
  }
  if (typeof properties.contentType === "string") attributes["datacontenttype"] = properties.contentType
  // A foreign message without attributes is deduplicated by what AMQP calls its id
  if (typeof properties.messageId === "string") attributes["id"] ??= properties.messageId
  return {
    topic,
    key: key === undefined ? attributes["subject"] : key ?? undefined,
    attributes,
    headers,
    body: content
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
  value === null || typeof value === "string" || value instanceof Uint8Array

const toBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const toHeaderValue = (value: unknown): Message.HeaderValue => {
  if (typeof value === "string" || value instanceof Uint8Array) return value
  // Numbers, booleans, and the lists and tables of the server, such as x-death
  return typeof value === "object" ? JSON.stringify(value) : String(value)
}
