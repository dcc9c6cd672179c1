/** A TCP proxy in front of a server. It can go silent, as a pulled cable does, and break its connections. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

export interface Proxy {
  readonly port: number
  /** The address given to `startProxy`, with the proxy's host and port. */
  readonly url: string
  /** The port that connections are forwarded to. Set it later where the server must know the proxy's port first. */
  target: number
  /** Stops forwarding in both directions without a sign. New connections hang as well. */
  readonly stall: () => void
  /** Forwards again, also what has come since. */
  readonly resume: () => void
  /**
   * Goes silent on the open connections for good, as a NAT does that has forgotten them. New ones are forwarded. Gives a
   * function that breaks the server's ends: the clients are not told.
   */
  readonly silence: () => () => void
  /** Breaks all connections. New ones are forwarded. */
  readonly cut: () => void
  readonly close: () => Promise<void>
}

/** Starts a proxy for the server at an address, which has a port. `onData` sees what clients send. */
export const startProxy = async (
  address = "tcp://127.0.0.1:0",
  onData: (data: Buffer) => void = () => {}
): Promise<Proxy> => {
  const url = new URL(address)
  let target = Number(url.port)
  const sockets = new Set<Socket>()
  const silent = new Set<Socket>()
  const upstreams = new Set<Socket>()
  let isStalled = false
  const server = createServer((client) => {
    const upstream = connect(target, url.hostname)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on("close", () => {
        for (const set of [sockets, silent, upstreams]) set.delete(socket)
      })
    }
    upstreams.add(upstream)
    const link = (from: Socket, to: Socket) => {
      from.on("data", (data) => {
        if (!to.write(data)) from.pause()
      })
      to.on("drain", () => {
        if (!isStalled && !silent.has(from)) from.resume()
      })
      from.on("end", () => to.end())
      from.on("error", () => to.destroy())
    }
    client.on("data", onData)
    link(client, upstream)
    link(upstream, client)
    if (isStalled) {
      client.pause()
      upstream.pause()
    }
  })
  await new Promise<void>((resolve) => server.listen(0, url.hostname, resolve))
  // An AddressInfo for every server that listens on a port
  const { port } = server.address() as AddressInfo
  url.port = String(port)
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    port,
    url: url.href,
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
      for (const socket of sockets) if (!silent.has(socket)) socket.resume()
    },
    silence: () => {
      const ofServer = [...upstreams]
      for (const socket of sockets) {
        silent.add(socket)
        socket.pause()
      }
      return () => {
        for (const socket of ofServer) socket.destroy()
      }
    },
    cut,
    close: async () => {
      cut()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}
