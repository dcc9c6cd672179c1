/** The frames that amqplib reads. It has no method to read one that its decoder fails at. */
import type { ChannelModel } from "amqplib"

/** What is used of amqplib's connection. */
interface Receiving {
  /** What was received and not read. */
  readonly rest: Buffer
  recvFrame: () => unknown
}

/** A header of our own, of a message whose properties cannot be read: why not. */
export const unreadableHeader = "event-flow-unreadable"

/**
 * Reads a message whose properties amqplib cannot decode as one without properties,
 * such as one with tables in tables, 5,000 deep. By itself amqplib closes the
 * connection, and the next one at the same message.
 */
export const readUnreadable = (model: ChannelModel): void => {
  const connection = model.connection as unknown as Receiving
  const receive = connection.recvFrame
  connection.recvFrame = () => {
    const before = connection.rest
    try {
      return receive.call(connection)
    } catch (error) {
      // Nothing was taken: not a frame at all
      if (connection.rest === before || before[0] !== headerFrame) throw error
      return {
        channel: before.readUInt16BE(1),
        id: before.readUInt16BE(7),
        size: Number(before.readBigUInt64BE(11)),
        fields: { headers: { [unreadableHeader]: String(error) } }
      }
    }
  }
}

// --- internal ---

const headerFrame = 2
