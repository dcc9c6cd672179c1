/**
 * The records of a fetch, as places in its buffer: a record is read on demand. The
 * client's own reader makes a dozen buffers of a record with five headers, which
 * takes longer than all the rest of a delivery.
 */
import { compressionsAlgorithmsByBitmask } from "@platformatic/kafka"

/** A record in the buffer of its batch. An end of -1: there is no such value. */
export class FetchedRecord {
  readonly buffer: Buffer
  readonly offsetDelta: number
  readonly keyStart: number
  readonly keyEnd: number
  readonly valueStart: number
  readonly valueEnd: number
  readonly headersStart: number
  readonly end: number

  constructor(
    buffer: Buffer,
    offsetDelta: number,
    keyStart: number,
    keyEnd: number,
    valueStart: number,
    valueEnd: number,
    headersStart: number,
    end: number
  ) {
    this.buffer = buffer
    this.offsetDelta = offsetDelta
    this.keyStart = keyStart
    this.keyEnd = keyEnd
    this.valueStart = valueStart
    this.valueEnd = valueEnd
    this.headersStart = headersStart
    this.end = end
  }

  get key(): Buffer | null {
    return this.keyEnd < 0 ? null : this.buffer.subarray(this.keyStart, this.keyEnd)
  }

  get value(): Buffer | null {
    return this.valueEnd < 0 ? null : this.buffer.subarray(this.valueStart, this.valueEnd)
  }
}

/** Records that were written together. */
export interface RecordBatch {
  readonly firstOffset: number
  readonly lastOffsetDelta: number
  readonly attributes: number
  readonly producerId: bigint
  readonly records: ReadonlyArray<FetchedRecord>
}

/** Reads the batches of a partition in a response, without the last one where it is cut off. */
export const readBatches = (buffer: Buffer): ReadonlyArray<RecordBatch> => {
  const batches: Array<RecordBatch> = []
  for (let start = 0; start + lengthEnd <= buffer.length;) {
    const end = start + lengthEnd + buffer.readInt32BE(start + 8)
    if (end > buffer.length) break
    batches.push(readBatch(buffer, start, end))
    start = end
  }
  return batches
}

/**
 * Goes from one header of a record to the next: `while (walker.next()) …`. It
 * holds places in the record's buffer; an end of -1: there is no such value.
 */
export class HeaderWalker {
  readonly #cursor: Cursor
  readonly #end: number
  #left: number
  nameStart = 0
  nameEnd = 0
  valueStart = 0
  valueEnd = 0
  /** A header leads out of the record: it is the end of what can be read. */
  isBroken = false

  constructor({ buffer, end, headersStart }: FetchedRecord) {
    this.#cursor = new Cursor(buffer, headersStart)
    this.#left = this.#cursor.varInt()
    this.#end = end
  }

  next(): boolean {
    const cursor = this.#cursor
    if (this.#left-- <= 0 || this.isBroken) return false
    const nameLength = cursor.varInt()
    this.nameStart = cursor.position
    this.nameEnd = nameLength < 0 ? -1 : cursor.position += nameLength
    const valueLength = cursor.varInt()
    this.valueStart = cursor.position
    this.valueEnd = valueLength < 0 ? -1 : cursor.position += valueLength
    this.isBroken = cursor.position > this.#end
    return !this.isBroken
  }
}

// --- internal ---

/** Where the length of a batch ends; it counts from here. */
const lengthEnd = 12
const recordsStart = 61
const compressionMask = 0x7

const readBatch = (buffer: Buffer, start: number, end: number): RecordBatch => {
  if (end < start + recordsStart) throw new RangeError("a record batch is shorter than its head")
  const attributes = buffer.readInt16BE(start + 21)
  const count = buffer.readInt32BE(start + 57)
  const compression = attributes & compressionMask
  return {
    firstOffset: Number(buffer.readBigInt64BE(start)),
    lastOffsetDelta: buffer.readInt32BE(start + 23),
    attributes,
    producerId: buffer.readBigInt64BE(start + 43),
    records: compression === 0
      ? readRecords(buffer, start + recordsStart, end, count)
      : readCompressed(decompress(buffer.subarray(start + recordsStart, end), compression), count)
  }
}

const readCompressed = (buffer: Buffer, count: number): Array<FetchedRecord> =>
  readRecords(buffer, 0, buffer.length, count)

const decompress = (data: Buffer, bitmask: number): Buffer => {
  const algorithm = compressionsAlgorithmsByBitmask[bitmask]
  if (algorithm === undefined) throw new Error(`a record batch has the unknown compression ${bitmask}`)
  return algorithm.decompressSync(data)
}

const readRecords = (buffer: Buffer, start: number, batchEnd: number, count: number): Array<FetchedRecord> => {
  const records: Array<FetchedRecord> = []
  const cursor = new Cursor(buffer, start)
  for (let i = 0; i < count; i++) {
    const length = cursor.varInt()
    const end = cursor.position + length
    // Also ends the loop where the count is wrong
    if (length < 1 || end > batchEnd) throw new RangeError("a record ends outside of its batch")
    cursor.position++ // attributes
    cursor.skipVarInt() // timestamp
    const offsetDelta = cursor.varInt()
    const keyLength = cursor.varInt()
    const keyStart = cursor.position
    if (keyLength > 0) cursor.position += keyLength
    const valueLength = cursor.varInt()
    const valueStart = cursor.position
    if (valueLength > 0) cursor.position += valueLength
    if (cursor.position > end) throw new RangeError("a field of a record ends outside of it")
    records.push(
      new FetchedRecord(
        buffer,
        offsetDelta,
        keyStart,
        keyLength < 0 ? -1 : keyStart + keyLength,
        valueStart,
        valueLength < 0 ? -1 : valueStart + valueLength,
        cursor.position,
        end
      )
    )
    cursor.position = end
  }
  return records
}

/** Reads zigzag varints. */
class Cursor {
  readonly #buffer: Buffer
  position: number

  constructor(buffer: Buffer, position: number) {
    this.#buffer = buffer
    this.position = position
  }

  varInt(): number {
    const buffer = this.#buffer
    let byte = buffer[this.position++]!
    let value = byte & 0x7f
    for (let shift = 7; byte > 0x7f && shift < 35; shift += 7) {
      byte = buffer[this.position++]!
      value |= (byte & 0x7f) << shift
    }
    return (value >>> 1) ^ -(value & 1)
  }

  skipVarInt(): void {
    while (this.#buffer[this.position++]! > 0x7f);
  }
}
