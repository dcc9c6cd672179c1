/** A TCP proxy that can stop forwarding without closing anything. */
import { connect, createServer } from "node:net"
import type { Server, Socket } from "node:net"

export interface Proxy {
  readonly port: number
  /** Where it forwards to; may be set after it was started. */
  target: number
  /** Bytes are accepted and go nowhere. */
  stall(): void
  resume(): void
  close(): Promise<void>
}

export const startProxy = async (): Promise<Proxy> => {
  const sockets = new Set<Socket>()
  let isStalled = false
  let target = 0
  const server: Server = createServer((client) => {
    const upstream = connect(target, "127.0.0.1")
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on("close", () => sockets.delete(socket))
    }
    const link = (from: Socket, to: Socket) => {
      from.on("data", (data) => to.write(data))
      from.on("close", () => to.destroy())
      from.on("error", () => to.destroy())
    }
    link(client, upstream)
    link(upstream, client)
    if (isStalled) {
      client.pause()
      upstream.pause()
    }
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  return {
    port,
    get target() {
      return target
    },
    set target(value) {
      target = value
    },
    stall: () => {
      isStalled = true
      for (const socket of sockets) socket.pause()
    },
    resume: () => {
      isStalled = false
      for (const socket of sockets) socket.resume()
    },
    close: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    }
  }
}
