import { connect, createServer, type Socket } from "node:net"

export interface Proxy {
  readonly url: string
  /** Stops forwarding, both ways, without a sign: as a cable that is pulled. New connections hang, too. */
  readonly stall: () => void
  /** Forwards again, for new connections; the old ones stay silent. */
  readonly resume: () => void
  readonly close: () => Promise<void>
}

/** A TCP proxy before a server. */
export const startProxy = async (target: string): Promise<Proxy> => {
  const { hostname, password, port, username } = new URL(target)
  const sockets = new Set<Socket>()
  let isStalled = false
  const server = createServer((client) => {
    client.on("error", () => {})
    sockets.add(client)
    if (isStalled) return
    const upstream = connect(Number(port), hostname)
    upstream.on("error", () => {})
    sockets.add(upstream)
    client.pipe(upstream).pipe(client)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address() as { readonly port: number }
  return {
    url: `amqp://${username}:${password}@127.0.0.1:${address.port}`,
    stall: () => {
      isStalled = true
      for (const socket of sockets) socket.unpipe().pause()
    },
    resume: () => {
      isStalled = false
    },
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}
