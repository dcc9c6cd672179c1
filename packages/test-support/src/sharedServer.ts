/** One server for all tests: started once by a global setup, and what tests know of it. */
import { describe, inject } from "vitest"
import type { TestProject } from "vitest/node"

export interface SharedServer {
  /** The address that clients use. */
  readonly address: string
  /** Why tests cannot start servers of their own, to stop and kill them; undefined where they can. */
  readonly noOwn?: string | undefined
}

/** Why the tests that need a server are skipped, and how to have them run. */
export interface NoServer {
  readonly reason: string
}

declare module "vitest" {
  export interface ProvidedContext {
    kafka: SharedServer | NoServer
    rabbitmq: SharedServer | NoServer
    postgres: SharedServer | NoServer
  }
}

export type ServerName = "kafka" | "rabbitmq" | "postgres"

export interface Started extends SharedServer {
  readonly dispose: () => Promise<void>
}

/** Whether this run starts no server: `npm run test:quick`. */
export const isQuick: boolean = process.env["EVENT_FLOW_QUICK"] === "1"

/**
 * The default export of a global setup: starts the server, or says why there is none. A project has one server of a
 * name; projects can have several versions of it.
 */
export const shareServer = (name: ServerName, start: () => Promise<Started | NoServer>, version = "any") => {
  const key = `${name} ${version}`
  const begin = async (): Promise<Started | NoServer> => {
    if (isQuick) return { reason: "npm run test:quick starts no server, npm test does" }
    const server = await start()
    if (!("reason" in server)) return server
    // A build that tests nothing must not pass
    if (process.env["CI"] === "true") throw new Error(server.reason)
    return server
  }
  return async (project: TestProject): Promise<() => Promise<void>> => {
    const running = shared.get(key) ?? { server: begin(), users: 0 }
    shared.set(key, running)
    running.users++
    const server = await running.server
    if ("reason" in server) {
      project.provide(name, { reason: server.reason })
      return async () => {}
    }
    project.provide(name, { address: server.address, noOwn: server.noOwn })
    return async () => {
      if (--running.users > 0) return
      shared.delete(key)
      await server.dispose()
    }
  }
}

export interface ServerTests {
  /** The address of the shared server; undefined where there is none. */
  readonly address: string | undefined
  /** Whether tests can start servers of their own. */
  readonly canOwn: boolean
  /** Tests that need a server: skipped with the reason where there is none. */
  readonly withServer: (name: string, tests: () => void) => void
  /** Tests that stop and kill a server. They start their own, which takes a machine that can start one. */
  readonly withOwnServer: (name: string, tests: () => void) => void
}

/** What test files know of the server that the global setup of their project started. */
export const serverTests = (name: ServerName): ServerTests => {
  const server = inject(name)
  if ("reason" in server) {
    const skip = unless(server.reason)
    return { address: undefined, canOwn: false, withServer: skip, withOwnServer: skip }
  }
  const { address, noOwn } = server
  return { address, canOwn: noOwn === undefined, withServer: unless(undefined), withOwnServer: unless(noOwn) }
}

/** A group of tests that is skipped for a reason. The end of `npm test` lists the reasons. */
export const unless = (reason: string | undefined) => (title: string, tests: () => void): void => {
  describe.skipIf(reason !== undefined)(reason === undefined ? title : `${title} (skipped: ${reason})`, tests)
}

// --- internal ---

interface Running {
  readonly server: Promise<Started | NoServer>
  users: number
}

/** Global setups of several projects share a server of one name and version. Each project has instances of its own of this module. */
const shared: Map<string, Running> = (globalThis as { eventFlowServers?: Map<string, Running> })
  .eventFlowServers ??= new Map()
