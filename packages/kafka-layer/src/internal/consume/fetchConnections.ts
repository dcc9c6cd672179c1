/** The connections of a fetcher. Answers are read by this layer's own reader of records. */
import { ConnectionPool, ResponseError } from "@platformatic/kafka"
import type { Broker, CallbackWithPromise, Connection, Reader } from "@platformatic/kafka"
import type { FetchResponse, PartitionResponse } from "./fetchResponse.ts"
import { readBatches } from "./recordReader.ts"

/**
 * The client decides what to fetch from which broker (sessions, replicas, leaders).
 * Its connections come from here, and differ only in how they read a fetch.
 */
export class FetchConnections extends ConnectionPool {
  override get(broker: Broker): Promise<Connection>
  override get(broker: Broker, callback: CallbackWithPromise<Connection>): void
  override get(broker: Broker, callback?: CallbackWithPromise<Connection>): Promise<Connection> | void {
    if (callback === undefined) return super.get(broker)
    super.get(
      broker,
      (error, connection) => callback(error, connection === undefined ? connection : reading(connection))
    )
  }
}

// --- internal ---

const fetchKey = 1
/** The versions whose answers have the form below; that of Kafka 2.7 is the first. */
const oldest = 12
const newest = 17

/** A connection with all that a request uses of it. */
const reading = (connection: Connection): Connection => {
  const send: Connection["send"] = (apiKey, version, createPayload, parse, requestTags, responseTags, callback) =>
    connection.send(
      apiKey,
      version,
      createPayload,
      // It gives what the client's own parser gives, but for the records, which the client does not look at
      apiKey === fetchKey ? parseFetch as unknown as typeof parse : parse,
      requestTags,
      responseTags,
      callback
    )
  return { send } as Connection
}

export const parseFetch = (
  _correlationId: number,
  apiKey: number,
  apiVersion: number,
  reader: Reader
): FetchResponse => {
  if (apiVersion < oldest || apiVersion > newest) throw new Error(`version ${apiVersion} of a fetch has another form`)
  const errors: Array<[string, [number, null]]> = []
  const throttleTimeMs = reader.readInt32()
  const errorCode = reader.readInt16()
  if (errorCode !== 0) errors.push(["", [errorCode, null]])
  const response: FetchResponse = {
    throttleTimeMs,
    errorCode,
    sessionId: reader.readInt32(),
    responses: reader.readArray((topic, i) => ({
      topicId: apiVersion > 12 ? topic.readUUID() : topic.readString(),
      partitions: topic.readArray((partition, j) => {
        const parsed = parsePartition(partition)
        if (parsed.errorCode !== 0) errors.push([`/responses/${i}/partitions/${j}`, [parsed.errorCode, null]])
        return parsed
      })
    }))
  }
  if (errors.length > 0) throw new ResponseError(apiKey, apiVersion, Object.fromEntries(errors), response)
  return response
}

const parsePartition = (reader: Reader): PartitionResponse => {
  const partition = {
    partitionIndex: reader.readInt32(),
    errorCode: reader.readInt16(),
    highWatermark: reader.readInt64(),
    lastStableOffset: reader.readInt64(),
    logStartOffset: reader.readInt64(),
    abortedTransactions: reader.readNullableArray((reader) => ({
      producerId: reader.readInt64(),
      firstOffset: reader.readInt64()
    })),
    preferredReadReplica: reader.readInt32()
  }
  const records = reader.readNullableBytes()
  return { ...partition, records: records === null ? [] : readBatches(records) }
}
