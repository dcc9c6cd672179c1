/** A record as a message; attributes and headers are read when somebody asks. */
import * as Message from "@event-flow/core/Message"
import type { KafkaRecord } from "@platformatic/kafka"
import { Cursor, FetchedRecord, latin1, utf8 } from "./fetchedRecord.ts"
import { headerPrefix } from "./recordBatch.ts"

export class KafkaMessage implements Message.Message {
  readonly topic: string
  readonly #record: KafkaRecord
  #parsed: Pick<Message.Message, "attributes" | "headers"> | undefined = undefined

  constructor(topic: string, record: KafkaRecord) {
    this.topic = topic
    this.#record = record
  }

  get key(): string | Uint8Array | undefined {
    const { key } = this.#record
    return key === null ? undefined : text(key) ?? key
  }

  /** A tombstone has an empty body. */
  get body(): Uint8Array {
    return this.#record.value ?? empty
  }

  get attributes(): Message.Message["attributes"] {
    return (this.#parsed ??= parse(this.#record)).attributes
  }

  get headers(): Message.Message["headers"] {
    return (this.#parsed ??= parse(this.#record)).headers
  }

  [Message.quickAttribute](name: string): string | undefined {
    const record = this.#record
    // The one attribute with a header that is not named after it
    return this.#parsed === undefined && record instanceof FetchedRecord && name !== "datacontenttype"
      ? findAttribute(record, name)
      : this.attributes[name]
  }

  [Message.quickText](): string | undefined {
    const record = this.#record
    if (!(record instanceof FetchedRecord) || record.valueEnd < 0) return undefined
    const content = utf8(record.buffer, record.valueStart, record.valueEnd)
    // It may stand for bytes that are no text
    return content.includes("\ufffd") ? undefined : content
  }
}

// --- internal ---

const empty = new Uint8Array(0)
const decoder = new TextDecoder("utf-8", { fatal: true })

/** What bytes say in UTF-8; undefined when they are no text. */
const text = (bytes: Buffer): string | undefined => textAt(bytes, 0, bytes.length)

const textAt = (buffer: Buffer, start: number, end: number): string | undefined => {
  // Most is ASCII, for which there is a fast way
  if (end - start <= 128) {
    let i = start
    while (i < end && buffer[i]! < 0x80) i++
    if (i === end) return latin1(buffer, start, end)
  }
  try {
    return decoder.decode(buffer.subarray(start, end))
  } catch {
    return undefined
  }
}

interface HeaderName {
  readonly name: string
  /** The CloudEvents attribute that it is, if it is one. */
  readonly attribute: string | undefined
}

// A program sees the same few names over and over; foreign ones must not fill the memory
const names = new Map<string, HeaderName>()
const maxNames = 1_000

const headerName = (bytes: Buffer | null): HeaderName => {
  if (bytes === null) return { name: "", attribute: undefined }
  const key = bytes.toString("latin1")
  let found = names.get(key)
  if (found === undefined) {
    const name = text(bytes) ?? key
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

/** The same as `Message.fromHeaders` with the prefix of the Kafka binding, on buffers. */
const parse = (record: KafkaRecord): Pick<Message.Message, "attributes" | "headers"> => {
  const attributes: Record<string, string> = {}
  const headers: Record<string, Message.HeaderValue> = {}
  for (const [nameBytes, value] of record.headers) {
    const { attribute, name } = headerName(nameBytes)
    const content = value === null ? "" : text(value)
    if (attribute !== undefined && content !== undefined) attributes[attribute] = content
    else headers[name] = content ?? value!
  }
  return { attributes, headers }
}

/** What `parse` finds, without reading the other headers: the last of that name whose value is text. */
const findAttribute = (record: FetchedRecord, name: string): string | undefined => {
  const wanted = attributeHeader(name)
  const { buffer, end } = record
  const cursor = new Cursor(buffer, record.headersStart)
  const count = cursor.varInt()
  let found: string | undefined
  for (let i = 0; i < count && cursor.position < end; i++) {
    const nameLength = cursor.varInt()
    const nameStart = cursor.position
    if (nameLength > 0) cursor.position += nameLength
    const valueLength = cursor.varInt()
    const valueStart = cursor.position
    if (valueLength > 0) cursor.position += valueLength
    if (nameLength === wanted.length && isHeader(buffer, nameStart, wanted)) {
      found = textAt(buffer, valueStart, cursor.position) ?? found
    }
  }
  return found
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
