/** The socket below amqplib's connection, for which it has no methods. */
import type { ChannelModel } from "amqplib"
import type { Duplex } from "node:stream"

const socketOf = (model: ChannelModel): Duplex => (model.connection as unknown as { readonly stream: Duplex }).stream

/** Ends the socket at once. amqplib ends it in good order, which a peer that is silent never completes. */
export const destroy = (model: ChannelModel): void => {
  socketOf(model).destroy()
}

/**
 * Makes `gather`, which holds back what is written until the next turn of the event
 * loop. amqplib writes frame by frame: a system call and a packet for every
 * message, at both ends.
 */
export const gathering = (model: ChannelModel): () => void => {
  const socket = socketOf(model)
  let isGathering = false
  const release = () => {
    isGathering = false
    socket.uncork()
  }
  const gather = () => {
    if (isGathering) return
    isGathering = true
    socket.cork()
    // amqplib itself writes in the next turn
    setImmediate(() => setImmediate(release))
  }
  // Before amqplib, which then writes what it has kept back
  socket.prependListener("drain", gather)
  return gather
}
