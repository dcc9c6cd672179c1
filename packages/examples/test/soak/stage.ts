/**
 * The servers of a soak: a PostgreSQL and a broker that it may hurt, with a proxy between each process and each server,
 * and ways to do so. Each way begins a fault and gives what lifts it.
 */
import * as Postgres from "@event-flow/test-support/postgresServer"
import { run } from "@event-flow/test-support/process"
import { type Proxy, startProxy } from "@event-flow/test-support/proxy"
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Action, type Link, links, type Process, processes, type Server, serverOf } from "./schedule.ts"

/** A notification event as the broker has it. */
export interface Published {
  /** Order is kept among what has the same. */
  readonly key: string
  readonly number: number
}

/** What topic and group of the shop are called on the broker. */
export interface Names {
  readonly topic: string
  readonly group: string
}

export type Lift = () => Promise<void>

/** The broker's side of a soak. */
export interface BrokerStage {
  /** The address of each process's proxy, as settings of the environment. */
  readonly environment: (process: Process) => Record<string, string>
  readonly proxies: ReadonlyMap<Process, Proxy>
  /** Before the first process starts. */
  readonly prepare: (names: Names) => Promise<void>
  readonly kill: () => Promise<void>
  readonly stop: () => Promise<void>
  readonly start: () => Promise<void>
  /** From now on it takes no messages of the topic. */
  readonly refuse: (names: Names) => Promise<Lift>
  /** Undefined where this machine does not allow it. */
  readonly fill: (() => Promise<Lift>) | undefined
  /** Every message that was ever published, in the order of each key, read by a client of its own. */
  readonly published: (names: Names) => Promise<ReadonlyArray<Published>>
  readonly deadLetters: (names: Names) => Promise<number>
  readonly dispose: () => Promise<void>
}

export interface Stage {
  readonly databaseUrl: string
  readonly broker: BrokerStage
  readonly environment: (process: Process) => Record<string, string>
  /** Begins a fault of a server or a link. Undefined where this machine does not allow it. */
  readonly begin: (action: Exclude<Action, { readonly target: Process }>, names: Names) => Promise<Lift | undefined>
  readonly dispose: () => Promise<void>
}

/** Processes that talk to the broker. */
export const ofBroker: ReadonlyArray<Process> = processes.filter((process) => process !== "shop")

/** A disk of its own, small enough to be filled. */
export interface Disk {
  readonly path: string
  readonly fill: () => Lift
  readonly dispose: () => Promise<void>
}

/** Undefined where mounting is not allowed. */
export const smallDisk = async (megabytes: number): Promise<Disk | undefined> => {
  const path = mkdtempSync(join(tmpdir(), "event-flow-disk-"))
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m,mode=1777`, "tmpfs", path])
  } catch {
    rmSync(path, { recursive: true })
    return undefined
  }
  return {
    path,
    fill: () => {
      const ballast = join(path, "ballast")
      const file = openSync(ballast, "w")
      for (let size = 1 << 20; size >= 512;) {
        try {
          writeSync(file, Buffer.alloc(size))
        } catch {
          size /= 2
        }
      }
      closeSync(file)
      return async () => rmSync(ballast)
    },
    dispose: async () => {
      await run("umount", ["--lazy", path])
      rmSync(path, { recursive: true })
    }
  }
}

/** Servers put their data below the directory for temporary files. */
export const onDisk = async <A>(disk: Disk | undefined, start: () => Promise<A>): Promise<A> => {
  if (disk === undefined) return start()
  const before = process.env["TMPDIR"]
  process.env["TMPDIR"] = disk.path
  try {
    return await start()
  } finally {
    if (before === undefined) delete process.env["TMPDIR"]
    else process.env["TMPDIR"] = before
  }
}

export const make = async (startBroker: () => Promise<BrokerStage>): Promise<Stage> => {
  const ends: Array<() => Promise<void>> = []
  const dispose = async () => {
    for (const end of ends.splice(0).toReversed()) await end()
  }
  try {
    const found = await Postgres.find()
    if (found._tag !== "Embedded") {
      throw new Error(found._tag === "None" ? found.reason : "unset DATABASE_URL: the soak hurts the server")
    }
    const disk = await smallDisk(600)
    if (disk !== undefined) ends.push(disk.dispose)
    // What is committed survives a kill, though not a power failure
    const settings = { synchronous_commit: "on", full_page_writes: "on", max_wal_size: "128MB" }
    const database = await onDisk(disk, () => Postgres.start(found, { settings }))
    ends.push(database.dispose)
    const broker = await startBroker()
    ends.push(broker.dispose)
    const control = database.control!
    const proxies = new Map<Link, Proxy>()
    for (const link of links) {
      const process = link.split(">")[0] as Process
      if (serverOf(link) === "broker") proxies.set(link, broker.proxies.get(process)!)
      else {
        const proxy = await startProxy(database.url)
        ends.push(proxy.close)
        proxies.set(link, proxy)
      }
    }
    const ofServer = (server: Server) => links.filter((link) => serverOf(link) === server).map((l) => proxies.get(l)!)
    const servers = { database: control, broker }
    const fills = {
      database: disk && (async () => {
        const free = disk.fill()
        return async () => {
          await free()
          // In case that it has ended
          await control.start()
        }
      }),
      broker: broker.fill
    }
    return {
      databaseUrl: database.url,
      broker,
      environment: (process) => ({
        DATABASE_URL: proxies.get(`${process}>database`)!.url,
        ...(process === "shop" ? {} : broker.environment(process))
      }),
      begin: async (action, names) => {
        switch (action.kind) {
          case "stall": {
            const proxy = proxies.get(action.target)!
            proxy.stall()
            return async () => proxy.resume()
          }
          case "silence": {
            const endServerSide = proxies.get(action.target)!.silence()
            return async () => endServerSide()
          }
          case "cut":
            proxies.get(action.target)!.cut()
            return async () => {}
          case "isolate": {
            const all = ofServer(action.target)
            for (const proxy of all) proxy.stall()
            return async () => {
              for (const proxy of all) proxy.resume()
            }
          }
          case "crash":
            await servers[action.target].kill()
            return servers[action.target].start
          case "restart":
            await servers[action.target].stop()
            return servers[action.target].start
          case "refuse":
            return broker.refuse(names)
          case "fill":
            return fills[action.target]?.()
        }
      },
      dispose
    }
  } catch (error) {
    await dispose()
    throw error
  }
}
