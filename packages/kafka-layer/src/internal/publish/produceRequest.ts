/** The Produce request, of batches that are encoded already. */
import { createAPI, produceV10, produceV11, produceV9, Writer } from "@platformatic/kafka"
import type { API, produceV11 as ProduceV11 } from "@platformatic/kafka"

export interface PartitionData {
  readonly topic: string
  readonly partition: number
  readonly batch: Uint8Array
}

export type ProduceResponse = ReturnType<typeof ProduceV11.parseResponse>

export type ProduceApi = API<[acks: number, timeout: number, data: ReadonlyArray<PartitionData>], ProduceResponse>

/** The API for a broker that knows versions up to this one; undefined where it is older than Kafka 2.8. */
export const produceApi = (maxVersion: number): ProduceApi | undefined => apis.find((api) => api.version <= maxVersion)

// --- internal ---

/** The request has had this form since version 9; the answers differ. */
const createRequest = (acks: number, timeout: number, data: ReadonlyArray<PartitionData>): Writer => {
  const topics = new Map<string, Array<PartitionData>>()
  for (const partition of data) {
    const partitions = topics.get(partition.topic)
    if (partitions === undefined) topics.set(partition.topic, [partition])
    else partitions.push(partition)
  }
  return Writer.create()
    .appendString(null) // no transaction
    .appendInt16(acks)
    .appendInt32(timeout)
    .appendArray([...topics], (writer, [topic, partitions]) => {
      writer.appendString(topic).appendArray(partitions, (writer, { batch, partition }) => {
        writer.appendInt32(partition).appendUnsignedVarInt(batch.length + 1).append(batch as Buffer)
      })
    })
    .appendTaggedFields()
}

const apis: ReadonlyArray<ProduceApi> = [
  createAPI(0, 11, createRequest, produceV11.parseResponse),
  createAPI(0, 10, createRequest, produceV10.parseResponse),
  createAPI(0, 9, createRequest, produceV9.parseResponse as typeof produceV11.parseResponse)
] as ReadonlyArray<ProduceApi>
