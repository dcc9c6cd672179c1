import { connect, createServer, type Socket } from "node:net"

export interface Proxy {
  /** The server's, with the proxy's address. */
  readonly url: string
  /** Stops forwarding, both ways, without a sign: as a cable that is pulled. New connections hang, too. */
  readonly stall: () => void
  /** Forwards again, for new connections; the old ones stay silent. */
  readonly resume: () => void
  /** Breaks all connections; new ones are forwarded. */
  readonly cut: () => void
  readonly close: () => Promise<void>
}

/** A TCP proxy before a server. */
export const startProxy = async (target: string): Promise<Proxy> => {
  const url = new URL(target)
  const { hostname, port } = url
  const sockets = new Set<Socket>()
  const stalled = new WeakSet<Socket>()
  let isStalled = false
  const keep = (socket: Socket, other?: Socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
    socket.on("close", () => {
      sockets.delete(socket)
      // What one side is told, the other is, too
      if (!stalled.has(socket)) other?.destroy()
    })
  }
  const server = createServer((client) => {
    if (isStalled) {
      keep(client)
      stalled.add(client)
      return
    }
    const upstream = connect(Number(port === "" ? "5432" : port), hostname)
    keep(client, upstream)
    keep(upstream, client)
    client.pipe(upstream).pipe(client)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  url.hostname = "127.0.0.1"
  url.port = String((server.address() as { readonly port: number }).port)
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    url: url.href,
    stall: () => {
      isStalled = true
      for (const socket of sockets) {
        stalled.add(socket)
        socket.unpipe().pause()
      }
    },
    resume: () => {
      isStalled = false
    },
    cut,
    close: async () => {
      cut()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}
