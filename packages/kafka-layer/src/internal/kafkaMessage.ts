/** A record as a message; attributes and headers are read when somebody asks. */
import type * as Message from "@event-flow/core/Message"
import type { KafkaRecord } from "@platformatic/kafka"
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
}

// --- internal ---

const empty = new Uint8Array(0)
const decoder = new TextDecoder("utf-8", { fatal: true })

/** What bytes say in UTF-8; undefined when they are no text. */
const text = (bytes: Buffer): string | undefined => {
  const length = bytes.length
  // Most is ASCII, for which there is a fast way
  if (length <= 128) {
    let i = 0
    while (i < length && bytes[i]! < 0x80) i++
    if (i === length) return bytes.toString("latin1")
  }
  try {
    return decoder.decode(bytes)
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
