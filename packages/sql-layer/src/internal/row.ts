/** A message as a row of the outbox, and back. */
import { assertWhole, emptyRecord } from "@event-flow/core/BrokerLayer"
import * as Message from "@event-flow/core/Message"
import { isStorable, keyText, slotOf } from "./slot.ts"

/** What is inserted; the database adds id, state and times. */
export interface NewRow {
  readonly slot: number
  readonly topic: string
  readonly key: string | null
  /** The key itself where `key` is not: a key of bytes, or of text that no column takes. */
  readonly keyBytes: Uint8Array | null
  readonly attributes: string
  /** Null for none, which is usual. */
  readonly headers: string | null
  /** Null for a tombstone. */
  readonly body: Uint8Array | null
}

/** What a relay reads. */
export interface PendingRow {
  readonly id: bigint
  readonly slot: number
  readonly topic: string
  readonly key: string | null
  readonly key_bytes: Uint8Array | null
  readonly attributes: Record<string, string>
  readonly headers: Record<string, StoredHeader | ReadonlyArray<StoredHeader>> | null
  readonly body: Uint8Array | null
  readonly attempts: number
  /** Whether it has waited for its time, or for an earlier row of its key. */
  readonly waits: boolean
  /** Whether an earlier row of its key waits: it must not be published. */
  readonly behind: boolean
}

type StoredHeader = string | { readonly base64: string } | null

export const toRow = (message: Message.Message): NewRow => {
  assertWhole(message)
  const key = keyText(message)
  return {
    // Messages without a key have no order: they are spread
    slot: slotOf(message.topic, key ?? message.attributes["id"] ?? ""),
    topic: message.topic,
    key,
    keyBytes: toKeyBytes(message.key),
    attributes: JSON.stringify(message.attributes),
    headers: toHeaders(message.headers),
    body: message.body
  }
}

/** About how many bytes a relay reads for it, which its client bounds. */
export const sizeOf = (row: NewRow): number =>
  (row.body?.length ?? 0) + (row.keyBytes?.length ?? 0) + bytesOf(row.attributes) + bytesOf(row.headers) +
  bytesOf(row.key) +
  bytesOf(row.topic) + columnOverhead

/** Numbers, and the length before each column. */
const columnOverhead = 100

const bytesOf = (text: string | null): number => text === null ? 0 : Buffer.byteLength(text)

export const toMessage = (row: PendingRow): Message.Message =>
  Message.make({
    topic: row.topic,
    key: row.key_bytes === null ? row.key ?? undefined : fromKeyBytes(row.key_bytes),
    attributes: Object.assign(emptyRecord<string>(), row.attributes),
    headers: row.headers === null ? undefined : fromHeaders(row.headers),
    body: row.body
  })

/** The first byte says what follows: a key of bytes, or text in UTF-16. */
const bytesMark = 0
const textMark = 1

const toKeyBytes = (key: Message.Message["key"]): Uint8Array | null => {
  if (key === undefined || (typeof key === "string" && isStorable(key))) return null
  return typeof key === "string"
    ? Buffer.concat([Uint8Array.of(textMark), Buffer.from(key, "utf16le")])
    : Buffer.concat([Uint8Array.of(bytesMark), key])
}

const fromKeyBytes = (bytes: Uint8Array): string | Uint8Array => {
  const rest = bytes.subarray(1)
  return bytes[0] === textMark ? Buffer.from(rest).toString("utf16le") : rest
}

const toHeaders = (headers: Message.Headers): string | null => {
  let stored: Record<string, unknown> | undefined
  for (const name in headers) {
    const header = headers[name]!
    stored ??= emptyRecord()
    stored[name] = Array.isArray(header) ? header.map(toStored) : toStored(header as Message.HeaderValue)
  }
  return stored === undefined ? null : JSON.stringify(stored)
}

const toStored = (value: Message.HeaderValue): StoredHeader =>
  value instanceof Uint8Array ? { base64: Buffer.from(value).toString("base64") } : value

const fromHeaders = (stored: NonNullable<PendingRow["headers"]>): Message.Headers => {
  const headers = emptyRecord<Message.Headers[string]>()
  for (const name in stored) {
    const header = stored[name]!
    headers[name] = Array.isArray(header) ? header.map(fromStored) : fromStored(header as StoredHeader)
  }
  return headers
}

const fromStored = (stored: StoredHeader): Message.HeaderValue =>
  stored === null || typeof stored === "string" ? stored : new Uint8Array(Buffer.from(stored.base64, "base64"))
