/** Our reader of fetches against the client's own. */
import { assert, describe, it } from "@effect/vitest"
import { BrokerLayer, Message } from "@event-flow/core"
import type { RecordsBatch } from "@platformatic/kafka"
import {
  fetchV12,
  fetchV13,
  fetchV16,
  fetchV17,
  Reader,
  readRecordsBatches,
  ResponseError,
  Writer
} from "@platformatic/kafka"
import { Effect, Schema } from "effect"
import { parseFetch } from "../../src/internal/consume/fetchConnections.ts"
import type { RecordBatch } from "../../src/internal/consume/recordReader.ts"
import { FetchedRecord, HeaderWalker, readBatches } from "../../src/internal/consume/recordReader.ts"
import { KafkaMessage } from "../../src/internal/message.ts"
import { encodeBatch, encodeRecord } from "../../src/internal/publish/recordBatch.ts"

const headersOf = (record: FetchedRecord) => {
  const { buffer } = record
  const walker = new HeaderWalker(record)
  const headers: Array<readonly [Buffer | null, Buffer | null]> = []
  const bytes = (start: number, end: number) => end < 0 ? null : buffer.subarray(start, end)
  while (walker.next()) {
    headers.push([bytes(walker.nameStart, walker.nameEnd), bytes(walker.valueStart, walker.valueEnd)])
  }
  return headers
}

/** What our reader says, and what the client's says of the same. */
const plainBatches = (batches: ReadonlyArray<RecordBatch | RecordsBatch>) =>
  batches.map(({ attributes, firstOffset, lastOffsetDelta, producerId, records }) => ({
    attributes,
    firstOffset: Number(firstOffset),
    lastOffsetDelta,
    producerId,
    records: records.map((record) => ({
      offsetDelta: record.offsetDelta,
      key: record.key,
      value: record.value,
      headers: record instanceof FetchedRecord ? headersOf(record) : record.headers
    }))
  }))

const theirs = (bytes: Buffer) => plainBatches(readRecordsBatches(Reader.from(bytes)))

/** Bytes as text where they are, as the binding has it. */
const textOr = (bytes: Uint8Array | null): string | Uint8Array | null => {
  if (bytes === null) return null
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  } catch {
    return bytes
  }
}

type Header = readonly [name: Uint8Array, value: Uint8Array | null]

/** A record as a foreign client may write it: without a value, with headers of any bytes. */
const foreignBatch = (
  records: ReadonlyArray<{
    readonly key: Uint8Array | null
    readonly value: Uint8Array | null
    readonly headers: ReadonlyArray<Header>
    readonly delay?: bigint
  }>
): Buffer => {
  const bytes = (data: Uint8Array | null) => data === null ? null : Buffer.from(data)
  const body = Buffer.concat(records.map(({ delay, headers, key, value }, i) => {
    const writer = Writer.create().appendInt8(0).appendVarInt64(delay ?? 0n).appendVarInt(i)
      .appendVarIntBytes(bytes(key)).appendVarIntBytes(bytes(value))
      .appendVarIntArray([...headers], (writer, [name, value]) => {
        writer.appendVarIntBytes(bytes(name)).appendVarIntBytes(bytes(value))
      })
    return writer.prependVarIntLength().buffer
  }))
  const head = Buffer.alloc(61)
  head.writeBigInt64BE(7n, 0)
  head.writeInt32BE(head.length + body.length - 12, 8)
  head.writeInt8(2, 16)
  head.writeInt32BE(records.length - 1, 23)
  head.writeInt32BE(records.length, 57)
  return Buffer.concat([head, body])
}

const ours = (count: number, compression: "none" | "gzip" | "snappy" | "lz4" | "zstd") =>
  Buffer.from(encodeBatch(
    Array.from({ length: count }, (_, i) =>
      encodeRecord(
        Message.make({
          topic: "t",
          key: i % 3 === 0 ? undefined : `key-${i}`,
          attributes: { id: String(i), type: "A.v1" },
          headers: { plain: "ü" },
          body: new Uint8Array(i * 5).fill(i)
        }),
        1_700_000_000_000 + i * 1_000_000_000
      )),
    { compression, producerId: 7n, producerEpoch: 3, firstSequence: 11 }
  ))

describe("record batches are read as the client reads them", () => {
  for (const compression of ["none", "gzip", "snappy", "lz4", "zstd"] as const) {
    it(`compression: ${compression}`, () => {
      const bytes = Buffer.concat([ours(1, compression), ours(200, compression)])
      const read = readBatches(bytes)
      assert.deepStrictEqual(plainBatches(read), theirs(bytes))
    })
  }

  it("a batch that was cut off at the end is left for the next fetch", () => {
    const bytes = Buffer.concat([ours(3, "none"), ours(3, "gzip")])
    for (let length = 0; length <= bytes.length; length++) {
      const part = bytes.subarray(0, length)
      assert.deepStrictEqual(plainBatches(readBatches(part)), theirs(part))
    }
  })

  it("a batch that lies fails, and does not run on", () => {
    const tooMany = ours(3, "none")
    tooMany.writeInt32BE(2 ** 31 - 1, 57)
    assert.throws(() => readBatches(tooMany), RangeError)
    // The records of the next batch are not those of this one
    assert.throws(() => readBatches(Buffer.concat([tooMany, ours(3, "none")])), RangeError)
    const tooLong = ours(1, "none")
    tooLong[61] = 0x7e
    assert.throws(() => readBatches(tooLong), RangeError)
    assert.throws(() => readBatches(Buffer.concat([tooLong, ours(3, "none")])), RangeError)
    const tooShort = Buffer.alloc(20)
    tooShort.writeInt32BE(8, 8)
    assert.throws(() => readBatches(tooShort), RangeError)
    const unknown = ours(1, "none")
    unknown.writeInt16BE(7, 21)
    assert.throws(() => readBatches(unknown), /compression 7/)
  })
})

const Bytes = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 })))
const Value = Schema.NullOr(Schema.Union([Schema.String, Bytes]))
const asBytes = (value: string | ReadonlyArray<number> | null): Uint8Array | null =>
  value === null ? null : typeof value === "string" ? Buffer.from(value) : Uint8Array.from(value)
const HeaderName = Schema.Union([
  Schema.Literals([
    "ce_id",
    "CE_ID",
    "ce_type",
    "cE_tYpE",
    "ce_",
    "ce_ID2",
    "ce_correlationid",
    "content-type",
    "ceid"
  ]),
  Schema.Literals(["ce_datacontenttype", "Content-Type", "id", "type", "ce_ıd"]),
  Schema.String
])
const Foreign = Schema.Struct({
  key: Value,
  value: Value,
  headers: Schema.Array(Schema.Struct({ name: HeaderName, value: Value }))
})

describe("a record's message", () => {
  it.effect.prop(
    "says the same whether it is read at once or when asked for",
    [Schema.Array(Foreign), Schema.BigInt.check(Schema.isBetweenBigInt({ minimum: -(2n ** 62n), maximum: 2n ** 62n }))],
    ([foreign, delay]) =>
      Effect.sync(() => {
        const bytes = foreignBatch(foreign.map(({ headers, key, value }) => ({
          key: asBytes(key),
          value: asBytes(value),
          headers: headers.map(({ name, value }): Header => [Buffer.from(name), asBytes(value)]),
          delay
        })))
        const expected = theirs(bytes)
        const read = readBatches(bytes)
        assert.deepStrictEqual(plainBatches(read), expected)
        for (const [i, record] of read[0]!.records.entries()) {
          const { headers, key, value } = expected[0]!.records[i]!
          const reference = {
            ...BrokerLayer.fromHeaders(headers.map(([name, value]) => [String(textOr(name) ?? ""), textOr(value)]), [
              "ce_"
            ]),
            key: textOr(key) ?? undefined,
            body: value
          }
          const names = [...Object.keys(reference.attributes), "id", "type", "correlationid", "", "datacontenttype"]
          // A message of its own for each: what was read once is kept
          for (const name of names) {
            const value = reference.attributes[name]
            assert.strictEqual(Message.attribute(new KafkaMessage("t", record), name), value, name)
          }
          const message = new KafkaMessage("t", record)
          const text = message.readText()
          const valid = (() => {
            try {
              return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(message.body!)
            } catch {
              return undefined
            }
          })()
          if (text !== undefined) assert.strictEqual(text, valid)
          else assert.isTrue(valid === undefined || valid.includes("\ufffd") || record.value === null)
          assert.deepStrictEqual(message.attributes, reference.attributes)
          assert.deepStrictEqual(message.headers, reference.headers)
          assert.deepStrictEqual([message.key, message.body], [reference.key, reference.body])
          for (const name of names) assert.strictEqual(Message.attribute(message, name), reference.attributes[name])
        }
      }),
    { arbitrary: { runs: 500, size: 5 } }
  )

  it("the last header of a name that is text counts, as when all are read", () => {
    const name = Buffer.from("ce_id")
    const of = (...values: ReadonlyArray<Uint8Array | null>) => {
      const headers = values.map((value): Header => [name, value])
      const [batch] = readBatches(foreignBatch([{ key: null, value: null, headers }]))
      return Message.attribute(new KafkaMessage("t", batch!.records[0]!), "id")
    }
    assert.strictEqual(of(Buffer.from("1"), Buffer.from("2")), "2")
    assert.strictEqual(of(Buffer.from("1"), Buffer.from([0xff])), "1")
    assert.strictEqual(of(Buffer.from("1"), null), "1")
    assert.strictEqual(of(Buffer.from("ü".repeat(200))), "ü".repeat(200))
    assert.isUndefined(of(Buffer.from([0xff])))
    assert.isUndefined(of())
  })
})

describe("a record whose headers lead out of it", () => {
  const Damage = Schema.Array(Schema.Tuple([
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 })),
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))
  ])).check(Schema.isMinLength(1), Schema.isMaxLength(4))

  it.effect.prop(
    "is read as far as that goes, says the same in every way, and never throws",
    [Damage],
    ([damage]) =>
      Effect.sync(() => {
        const headers = ["ce_type", "ce_id", "x"].map((name): Header => [Buffer.from(name), Buffer.from("value")])
        // Another record behind it, of which nothing may show
        const next = { key: null, value: null, headers: [[Buffer.from("ce_secret"), Buffer.from("s")]] as const }
        const bytes = foreignBatch([{ key: null, value: null, headers }, next])
        const record = readBatches(bytes)[0]!.records[0]!
        for (const [i, byte] of damage) {
          if (record.headersStart + i < record.end) bytes[record.headersStart + i] = byte
        }
        const read = () => new KafkaMessage("t", record)
        const { attributes, headers: rest } = read()
        for (const name of ["type", "id", "secret"]) {
          assert.strictEqual(Message.attribute(read(), name), attributes[name], name)
        }
        assert.notProperty(rest, "ce_secret")
        for (const name of Object.keys(rest)) assert.isNotEmpty(Message.headerValues(read(), name))
      }),
    { arbitrary: { runs: 2_000 } }
  )

  it("has no attributes, so that it follows the policy", () => {
    const bytes = foreignBatch([{ key: null, value: null, headers: [[Buffer.from("ce_type"), Buffer.from("T.v1")]] }])
    const record = readBatches(bytes)[0]!.records[0]!
    assert.strictEqual(new KafkaMessage("t", record).attributes["type"], "T.v1")
    // The length of the value
    bytes[record.end - 5] = 60
    const message = new KafkaMessage("t", record)
    assert.isUndefined(Message.attribute(message, "type"))
    assert.deepStrictEqual(Object.keys(message.attributes), [])
  })
})

describe("answers to a fetch are read as the client reads them", () => {
  const versions = { 12: fetchV12, 13: fetchV13, 16: fetchV16, 17: fetchV17 }
  const topicId = "01234567-89ab-cdef-0123-456789abcdef"

  const answer = (version: number, errorCode: number, partitionError: number): Writer =>
    Writer.create()
      .appendInt32(5) // throttle time
      .appendInt16(errorCode)
      .appendInt32(99) // session
      .appendArray([0, 1], (writer, topic) => {
        if (version > 12) writer.appendUUID(topicId)
        else writer.appendString(`topic-${topic}`)
        writer.appendArray([0, 1, 2], (writer, partition) => {
          writer.appendInt32(partition).appendInt16(partition === 1 ? partitionError : 0)
            .appendInt64(100n).appendInt64(90n).appendInt64(3n)
          if (partition === 0) writer.appendArray(null, () => undefined)
          else writer.appendArray([1n, 2n], (writer, id) => writer.appendInt64(id).appendInt64(id * 10n))
          writer.appendInt32(-1)
          const records = partition === 0 ? null : partition === 1 ? Buffer.alloc(0) : ours(10, "none")
          writer.appendBytes(records)
        })
      })
      .appendTaggedFields()

  type Parse = typeof fetchV17.parseResponse | typeof parseFetch

  const read = (parse: Parse, version: number, bytes: Buffer) => {
    // As from a socket, in pieces
    const writer = Writer.create()
    for (const piece of [bytes.subarray(0, 100), bytes.subarray(100, 500), bytes.subarray(500)]) writer.append(piece)
    const relevant = (response: ReturnType<Parse>) => ({
      throttleTimeMs: response.throttleTimeMs,
      errorCode: response.errorCode,
      sessionId: response.sessionId,
      responses: response.responses.map(({ partitions, topicId }) => ({
        topicId,
        partitions: partitions.map((partition) => ({
          partitionIndex: partition.partitionIndex,
          errorCode: partition.errorCode,
          highWatermark: partition.highWatermark,
          lastStableOffset: partition.lastStableOffset,
          logStartOffset: partition.logStartOffset,
          abortedTransactions: partition.abortedTransactions,
          preferredReadReplica: partition.preferredReadReplica,
          records: plainBatches(partition.records ?? [])
        }))
      }))
    })
    try {
      return { response: relevant(parse(1, 1, version, Reader.from(writer))) }
    } catch (error) {
      assert.instanceOf(error, ResponseError)
      return {
        codes: error.errors.map((error) => (error as Error & { readonly apiCode: number }).apiCode),
        response: relevant((error as unknown as { readonly response: ReturnType<Parse> }).response)
      }
    }
  }

  for (const [version, { parseResponse }] of Object.entries(versions)) {
    it(`version ${version}`, () => {
      for (const [errorCode, partitionError] of [[0, 0], [0, 3], [70, 0], [70, 6]] as const) {
        const bytes = answer(Number(version), errorCode, partitionError).buffer
        const expected = read(parseResponse as typeof fetchV17.parseResponse, Number(version), bytes)
        assert.deepStrictEqual(read(parseFetch, Number(version), bytes), expected)
        assert.strictEqual("codes" in expected, errorCode !== 0 || partitionError !== 0)
      }
    })
  }
})
