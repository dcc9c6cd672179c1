/** The answer to a fetch, and the records that it has for a partition. */
import type { Consumer } from "@platformatic/kafka"
import type { AssignedPartition } from "./assignedPartition.ts"
import type { RecordBatch } from "./recordReader.ts"

type ClientResponse = Awaited<ReturnType<Consumer["fetch"]>>
type ClientTopic = ClientResponse["responses"][number]

/** What the client makes of an answer, with records in our form. */
export interface FetchResponse extends Omit<ClientResponse, "responses"> {
  readonly responses: ReadonlyArray<TopicResponse>
}

export interface TopicResponse extends Omit<ClientTopic, "partitions"> {
  readonly partitions: ReadonlyArray<PartitionResponse>
}

export interface PartitionResponse extends Omit<ClientTopic["partitions"][number], "records"> {
  readonly records: ReadonlyArray<RecordBatch>
}

/**
 * Appends the records from the partition's position on, without control records
 * and those of aborted transactions, and moves the position past them.
 */
export const appendFetched = (partition: AssignedPartition, response: PartitionResponse): number => {
  partition.highWatermark = Number(response.highWatermark)
  const aborted = [...response.abortedTransactions ?? []].sort((a, b) => a.firstOffset < b.firstOffset ? -1 : 1)
  const abortedProducers = new Set<bigint>()
  let count = 0
  for (const batch of response.records) {
    const first = batch.firstOffset
    const last = first + batch.lastOffsetDelta
    while (aborted.length > 0 && Number(aborted[0]!.firstOffset) <= last) {
      abortedProducers.add(aborted.shift()!.producerId)
    }
    if ((batch.attributes & isControl) !== 0) {
      if (isAbortMarker(batch)) abortedProducers.delete(batch.producerId)
    } else if ((batch.attributes & isTransactional) === 0 || !abortedProducers.has(batch.producerId)) {
      for (const record of batch.records) {
        const offset = first + record.offsetDelta
        // A batch may begin before the offset that was asked for
        if (offset < partition.position) continue
        partition.append(offset, record)
        count++
      }
    }
    if (last >= partition.position) partition.position = last + 1
  }
  return count
}

// --- internal ---

const isTransactional = 0x10
const isControl = 0x20

const isAbortMarker = (batch: RecordBatch): boolean => {
  const key = batch.records[0]?.key
  return key !== null && key !== undefined && key.length >= 4 && key.readInt16BE(2) === 0
}
