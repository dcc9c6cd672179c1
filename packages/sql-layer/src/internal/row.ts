/** A message as a row of the outbox, and back. */
import { assertWhole } from "@event-flow/core/BrokerLayer"
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
  readonly body: Uint8Array
}

/** What a relay reads. */
export interface PendingRow {
  readonly id: bigint
  readonly topic: string
  readonly key: string | null
  readonly key_bytes: Uint8Array | null
  readonly attributes: Record<string, string>
  readonly headers: Record<string, StoredHeader> | null
  readonly body: Uint8Array
  readonly attempts: number
}

type StoredHeader = string | { readonly base64: string }

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
  row.body.length + (row.keyBytes?.length ?? 0) + bytesOf(row.attributes) + bytesOf(row.headers) + bytesOf(row.key) +
  bytesOf(row.topic) + columnOverhead

/** Numbers, and the length before each column. */
const columnOverhead = 100

const bytesOf = (text: string | null): number => text === null ? 0 : Buffer.byteLength(text)

export const toMessage = (row: PendingRow): Message.Message =>
  Message.make({
    topic: row.topic,
    key: row.key_bytes === null ? row.key ?? undefined : fromKeyBytes(row.key_bytes),
    attributes: row.attributes,
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

const toHeaders = (headers: Message.Message["headers"]): string | null => {
  let stored: Record<string, StoredHeader> | undefined
  for (const name in headers) {
    const value = headers[name]!
    stored ??= {}
    stored[name] = typeof value === "string" ? value : { base64: Buffer.from(value).toString("base64") }
  }
  return stored === undefined ? null : JSON.stringify(stored)
}

const fromHeaders = (stored: Record<string, StoredHeader>): Record<string, Message.HeaderValue> => {
  const headers: Record<string, Message.HeaderValue> = {}
  for (const name in stored) {
    const value = stored[name]!
    headers[name] = typeof value === "string" ? value : new Uint8Array(Buffer.from(value.base64, "base64"))
  }
  return headers
}
