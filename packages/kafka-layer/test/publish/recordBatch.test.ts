/** Our encoding of records against the client's own decoding. */
import { assert, describe, it } from "@effect/vitest"
import { Message } from "@event-flow/core"
import { Reader, readRecordsBatch } from "@platformatic/kafka"
import { Effect, Schema } from "effect"
import { readBatches } from "../../src/internal/consume/recordReader.ts"
import { KafkaMessage } from "../../src/internal/message.ts"
import { encodeBatch, encodeRecord } from "../../src/internal/publish/recordBatch.ts"

const batchOptions = { compression: "none", producerId: 7n, producerEpoch: 3, firstSequence: 11 } as const

const roundTrip = (
  messages: ReadonlyArray<Message.Message>,
  compression: "none" | "gzip" | "snappy" | "lz4" | "zstd"
) => {
  const records = messages.map((message, i) => encodeRecord(message, 1_700_000_000_000 + i * 1_000))
  const bytes = Buffer.from(encodeBatch(records, { ...batchOptions, compression }))
  const batch = readRecordsBatch(Reader.from(bytes))
  assert.strictEqual(batch.length, bytes.length - 12)
  assert.strictEqual(batch.producerId, 7n)
  assert.strictEqual(batch.producerEpoch, 3)
  assert.strictEqual(batch.firstSequence, 11)
  assert.strictEqual(batch.lastOffsetDelta, messages.length - 1)
  assert.deepStrictEqual(batch.records.map(({ offsetDelta }) => offsetDelta), messages.map((_, i) => i))
  assert.deepStrictEqual(
    batch.records.map(({ timestampDelta }) => timestampDelta),
    messages.map((_, i) => BigInt(i * 1_000))
  )
  return readBatches(bytes)[0]!.records.map((record) => new KafkaMessage("t", record))
}

/** Lone surrogates have no encoding. */
const wellFormed = (text: string): string => Buffer.from(text).toString()

describe("record batches", () => {
  for (const compression of ["none", "gzip", "snappy", "lz4", "zstd"] as const) {
    it(`are read back: ${compression}`, () => {
      const messages = Array.from({ length: 100 }, (_, i) =>
        Message.make({
          topic: "t",
          key: i % 3 === 0 ? undefined : i % 3 === 1 ? `käse-${i}` : new Uint8Array([0xff, i]),
          attributes: { id: String(i), type: "A.v1", datacontenttype: "application/json", subject: "x".repeat(i * 3) },
          headers: { plain: "ü", bytes: new Uint8Array([0xc3, 0x28]) },
          body: new Uint8Array(i * 7).fill(i)
        }))
      const read = roundTrip(messages, compression)
      for (const [i, message] of messages.entries()) {
        const back = read[i]!
        assert.deepStrictEqual(
          typeof back.key === "object" ? [...back.key] : back.key,
          typeof message.key === "object" ? [...message.key] : message.key
        )
        assert.deepStrictEqual({ ...back.attributes }, message.attributes)
        assert.strictEqual(back.headers["plain"], "ü")
        assert.deepStrictEqual([...back.headers["bytes"] as Uint8Array], [0xc3, 0x28])
        assert.deepStrictEqual([...back.body!], [...message.body!])
      }
    })
  }

  it.effect.prop(
    "keep any text",
    [Schema.Array(Schema.Struct({ key: Schema.String, body: Schema.String, header: Schema.String }))],
    ([parts]) =>
      Effect.sync(() => {
        if (parts.length === 0) return
        const messages = parts.map(({ body, header, key }) =>
          Message.make({ topic: "t", key, headers: { header }, body: Buffer.from(body) })
        )
        for (const [i, back] of roundTrip(messages, "none").entries()) {
          const { body, header, key } = parts[i]!
          assert.strictEqual(back.key, wellFormed(key))
          assert.strictEqual(back.headers["header"], wellFormed(header))
          assert.strictEqual(Buffer.from(back.body!).toString(), wellFormed(body))
        }
      }),
    { arbitrary: { runs: 200, seed: 1 } }
  )
})
