/** A record as a message. Attributes and headers are read on demand. */
import { addHeader, emptyRecord } from "@event-flow/core/BrokerLayer"
import type * as Message from "@event-flow/core/Message"
import { HeaderWalker } from "./consume/recordReader.ts"
import type { FetchedRecord } from "./consume/recordReader.ts"
import { latin1, textAt, utf8 } from "./text.ts"

/** CloudEvents Kafka protocol binding, binary content mode. */
export const headerPrefix = "ce_"

export class KafkaMessage implements Message.Message {
  readonly topic: string
  readonly #record: FetchedRecord
  #kind: Kind | undefined = undefined
  #parsed: Pick<Message.Message, "attributes" | "headers"> | undefined = undefined

  constructor(topic: string, record: FetchedRecord) {
    this.topic = topic
    this.#record = record
  }

  get key(): string | Uint8Array | undefined {
    const { buffer, key, keyEnd, keyStart } = this.#record
    return key === null ? undefined : textAt(buffer, keyStart, keyEnd) ?? key
  }

  get body(): Uint8Array | null {
    return this.#record.value
  }

  get attributes(): Message.Message["attributes"] {
    return (this.#parsed ??= parse(this.#record)).attributes
  }

  get headers(): Message.Message["headers"] {
    return (this.#parsed ??= parse(this.#record)).headers
  }

  readAttribute(name: string): string | undefined {
    if (this.#parsed !== undefined) return this.#parsed.attributes[name]
    // Asked of every message, of which one look at its headers tells both
    if (name === "type") return (this.#kind ??= findKind(this.#record)).type
    if (name === "datacontenttype") return (this.#kind ??= findKind(this.#record)).contentType
    return findAttribute(this.#record, name)
  }

  readText(): string | undefined {
    const { buffer, valueEnd, valueStart } = this.#record
    if (valueEnd < 0) return undefined
    const content = utf8(buffer, valueStart, valueEnd)
    // It may stand for bytes that are not text
    return content.includes("\ufffd") ? undefined : content
  }
}

// --- internal ---

interface HeaderName {
  readonly name: string
  /** The CloudEvents attribute that it is, if it is one. */
  readonly attribute: string | undefined
}

// A program sees the same few names again and again; foreign names must not fill the memory
const names = new Map<string, HeaderName>()
const maxNames = 1_000
const noName: HeaderName = { name: "", attribute: undefined }

const headerName = (buffer: Buffer, start: number, end: number): HeaderName => {
  if (end < 0) return noName
  const key = latin1(buffer, start, end)
  let found = names.get(key)
  if (found === undefined) {
    const name = textAt(buffer, start, end) ?? key
    const lower = name.toLowerCase()
    found = {
      name,
      attribute: lower.startsWith(headerPrefix)
        ? lower.slice(headerPrefix.length)
        : lower === "content-type"
        ? "datacontenttype"
        : undefined
    }
    if (names.size < maxNames) names.set(key, found)
  }
  return found
}

/** The same as `BrokerLayer.fromHeaders` with the prefix of the Kafka binding, on buffers. */
const parse = (record: FetchedRecord): Pick<Message.Message, "attributes" | "headers"> => {
  const attributes = emptyRecord<string>()
  const headers = emptyRecord<Message.Headers[string]>()
  const { buffer } = record
  const header = new HeaderWalker(record)
  while (header.next()) {
    const { attribute, name } = headerName(buffer, header.nameStart, header.nameEnd)
    const { valueEnd, valueStart } = header
    const content = valueEnd < 0 ? null : textAt(buffer, valueStart, valueEnd)
    if (attribute !== undefined && typeof content === "string") attributes[attribute] = content
    else addHeader(headers, name, content === undefined ? buffer.subarray(valueStart, valueEnd) : content)
  }
  // Of a record that cannot be read nothing is known for sure: without a type it follows the consumer's policy
  return { attributes: header.isBroken ? emptyRecord() : attributes, headers }
}

/** One attribute as `parse` finds it, without reading the other headers: the last one whose value is text. */
const findAttribute = (record: FetchedRecord, name: string): string | undefined => {
  const wanted = attributeHeader(name)
  const { buffer } = record
  const header = new HeaderWalker(record)
  let found: string | undefined
  while (header.next()) {
    const { nameEnd, nameStart, valueEnd, valueStart } = header
    if (nameEnd - nameStart !== wanted.length || !isHeader(buffer, nameStart, wanted)) continue
    if (valueEnd >= 0) found = textAt(buffer, valueStart, valueEnd) ?? found
  }
  return header.isBroken ? undefined : found
}

/** What a message is. */
interface Kind {
  readonly type: string | undefined
  readonly contentType: string | undefined
}

const typeHeader = Buffer.from(`${headerPrefix}type`)
const contentTypeHeader = Buffer.from("content-type")
const otherContentTypeHeader = Buffer.from(`${headerPrefix}datacontenttype`)

/** The type and the content type as `parse` finds them, without reading the other headers. */
const findKind = (record: FetchedRecord): Kind => {
  const { buffer } = record
  const header = new HeaderWalker(record)
  let type: string | undefined
  let contentType: string | undefined
  while (header.next()) {
    const { nameEnd, nameStart, valueEnd, valueStart } = header
    if (valueEnd < 0) continue
    const length = nameEnd - nameStart
    if (length === typeHeader.length) {
      if (isHeader(buffer, nameStart, typeHeader)) type = textAt(buffer, valueStart, valueEnd) ?? type
    } else if (
      (length === contentTypeHeader.length && isHeader(buffer, nameStart, contentTypeHeader)) ||
      (length === otherContentTypeHeader.length && isHeader(buffer, nameStart, otherContentTypeHeader))
    ) {
      contentType = textAt(buffer, valueStart, valueEnd) ?? contentType
    }
  }
  return header.isBroken ? { type: undefined, contentType: undefined } : { type, contentType }
}

/** Whether this is the name of the header, in upper or lower case. */
const isHeader = (buffer: Buffer, start: number, wanted: Buffer): boolean => {
  for (let i = 0; i < wanted.length; i++) {
    const byte = buffer[start + i]!
    if (byte !== wanted[i] && (byte < 0x41 || byte > 0x5a || byte + 0x20 !== wanted[i])) return false
  }
  return true
}

const attributeHeaders = new Map<string, Buffer>()

const attributeHeader = (name: string): Buffer => {
  let header = attributeHeaders.get(name)
  if (header === undefined) {
    header = Buffer.from(headerPrefix + name)
    if (attributeHeaders.size < maxNames) attributeHeaders.set(name, header)
  }
  return header
}
