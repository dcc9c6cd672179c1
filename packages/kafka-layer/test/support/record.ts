import { Message } from "@event-flow/core"
import type { Start } from "../../src/internal/consume/assignedPartition.ts"
import type { FetchedRecord } from "../../src/internal/consume/recordReader.ts"
import { readBatches } from "../../src/internal/consume/recordReader.ts"
import { encodeBatch, encodeRecord } from "../../src/internal/publish/recordBatch.ts"

/** A record as a fetch gives it. */
export const recordOf = (options: {
  readonly key?: string | undefined
  readonly headers?: Readonly<Record<string, string>>
}): FetchedRecord => {
  const record = encodeRecord(Message.make({ topic: "t", body: new Uint8Array(0), ...options }), 0)
  const bytes = encodeBatch([record], { compression: "none", producerId: -1n, producerEpoch: -1, firstSequence: -1 })
  return readBatches(Buffer.from(bytes))[0]!.records[0]!
}

/** The start of a partition that nobody has committed. */
export const startAt = (position: number): Start => ({
  position,
  committed: -1,
  epoch: -1,
  topicId: "topic",
  commitMetadata: ""
})
