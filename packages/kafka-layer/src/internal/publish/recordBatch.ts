/**
 * Records and their batches (format version 2), written straight into one
 * buffer: this runs for each message that is published.
 */
import type * as Message from "@event-flow/core/Message"
import { compressionsAlgorithms, crc32c } from "@platformatic/kafka"
import type { CompressionAlgorithmValue } from "@platformatic/kafka"
import { headerPrefix } from "../message.ts"

/** A message as it is sent, without its place in a batch. */
export interface EncodedRecord {
  readonly key: Uint8Array | undefined
  /** Null: a tombstone. */
  readonly value: Uint8Array | null
  readonly headers: Uint8Array
  readonly timestamp: number
  /** An upper bound of its bytes in a batch. */
  readonly size: number
}

export const encodeRecord = (message: Message.Message, timestamp: number): EncodedRecord => {
  const key = typeof message.key === "string" ? Buffer.from(message.key) : message.key
  const value = message.body
  const headers = encodeHeaders(message)
  return { key, value, headers, timestamp, size: 30 + (key?.length ?? 0) + (value?.length ?? 0) + headers.length }
}

export interface BatchOptions {
  readonly compression: CompressionAlgorithmValue
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly firstSequence: number
}

export const encodeBatch = (records: ReadonlyArray<EncodedRecord>, options: BatchOptions): Uint8Array => {
  let size = 0
  let firstTimestamp = Number.POSITIVE_INFINITY
  let maxTimestamp = 0
  for (const record of records) {
    size += record.size
    if (record.timestamp < firstTimestamp) firstTimestamp = record.timestamp
    if (record.timestamp > maxTimestamp) maxTimestamp = record.timestamp
  }
  const buffer = Buffer.allocUnsafe(batchHead + size)
  let position = batchHead
  for (let i = 0; i < records.length; i++) {
    position = writeRecord(buffer, position, records[i]!, i, records[i]!.timestamp - firstTimestamp)
  }
  let batch = buffer.subarray(0, position)
  let attributes = 0
  if (options.compression !== "none") {
    const algorithm = compressionsAlgorithms[options.compression]
    const compressed = algorithm.compressSync(buffer.subarray(batchHead, position))
    batch = Buffer.allocUnsafe(batchHead + compressed.length)
    batch.set(compressed, batchHead)
    attributes = algorithm.bitmask
  }
  batch.writeBigInt64BE(0n, 0) // base offset
  batch.writeInt32BE(batch.length - 12, 8) // length of what follows
  batch.writeInt32BE(-1, 12) // partition leader epoch
  batch.writeInt8(2, 16) // magic
  batch.writeInt16BE(attributes, 21)
  batch.writeInt32BE(records.length - 1, 23) // last offset delta
  batch.writeBigInt64BE(BigInt(firstTimestamp), 27)
  batch.writeBigInt64BE(BigInt(maxTimestamp), 35)
  batch.writeBigInt64BE(options.producerId, 43)
  batch.writeInt16BE(options.producerEpoch, 51)
  batch.writeInt32BE(options.firstSequence, 53)
  batch.writeInt32BE(records.length, 57)
  batch.writeUInt32BE(crc32c(batch.subarray(21)) >>> 0, 17)
  return batch
}

// --- internal ---

const batchHead = 61

const writeRecord = (
  buffer: Buffer,
  start: number,
  record: EncodedRecord,
  offsetDelta: number,
  timestampDelta: number
): number => {
  const { headers, key, value } = record
  const length = 1 + varIntSize(timestampDelta) + varIntSize(offsetDelta) +
    (key === undefined ? 1 : varIntSize(key.length) + key.length) +
    (value === null ? 1 : varIntSize(value.length) + value.length) + headers.length
  let position = writeVarInt(buffer, start, length)
  buffer[position++] = 0
  position = writeVarInt(buffer, position, timestampDelta)
  position = writeVarInt(buffer, position, offsetDelta)
  if (key === undefined) {
    buffer[position++] = 1 // -1: no key
  } else {
    position = writeVarInt(buffer, position, key.length)
    buffer.set(key, position)
    position += key.length
  }
  position = writeVarInt(buffer, position, value === null ? -1 : value.length)
  if (value !== null) {
    buffer.set(value, position)
    position += value.length
  }
  buffer.set(headers, position)
  return position + headers.length
}

/** Signed varint with zigzag, for numbers below 2^31. */
const writeVarInt = (buffer: Uint8Array, position: number, value: number): number => {
  let rest = ((value << 1) ^ (value >> 31)) >>> 0
  while (rest > 0x7f) {
    buffer[position++] = rest & 0x7f | 0x80
    rest >>>= 7
  }
  buffer[position++] = rest
  return position
}

const varIntSize = (value: number): number => {
  const zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  return zigzag < 0x80 ? 1 : zigzag < 0x4000 ? 2 : zigzag < 0x200000 ? 3 : zigzag < 0x10000000 ? 4 : 5
}

// One scratch for all: encoding is synchronous
let scratch = Buffer.allocUnsafeSlow(16 * 1024)

const reserve = (position: number, more: number): void => {
  if (position + more <= scratch.length) return
  const larger = Buffer.allocUnsafeSlow(Math.max(scratch.length * 2, position + more))
  larger.set(scratch.subarray(0, position))
  scratch = larger
}

const encodeHeaders = (message: Message.Message): Uint8Array => {
  const { attributes, headers } = message
  let count = 0
  // The count is at most three bytes and is written last, in front
  let position = 3
  for (const name in attributes) {
    position = writeHeader(
      position,
      name === "datacontenttype" ? "content-type" : headerPrefix + name,
      attributes[name]!
    )
    count++
  }
  for (const name in headers) {
    const header = headers[name]!
    if (!Array.isArray(header)) {
      position = writeHeader(position, name, header as Message.HeaderValue)
      count++
      continue
    }
    for (const value of header) position = writeHeader(position, name, value)
    count += header.length
  }
  const start = 3 - varIntSize(count)
  writeVarInt(scratch, start, count)
  const encoded = Buffer.allocUnsafe(position - start)
  scratch.copy(encoded, 0, start, position)
  return encoded
}

const writeHeader = (start: number, name: string, value: Message.HeaderValue): number => {
  const valueLength = value === null ? 0 : typeof value === "string" ? Buffer.byteLength(value) : value.length
  reserve(start, name.length * 3 + valueLength + 10)
  let position = writeVarInt(scratch, start, Buffer.byteLength(name))
  position += scratch.write(name, position)
  // A length of -1: there is no value
  position = writeVarInt(scratch, position, value === null ? -1 : valueLength)
  if (typeof value === "string") scratch.write(value, position)
  else if (value !== null) scratch.set(value, position)
  return position + valueLength
}
