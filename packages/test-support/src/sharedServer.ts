/** One server for all test files of a package: started once by a global setup, and what tests know of it. */
import { describe, inject } from "vitest"
import type { TestProject } from "vitest/node"

export interface SharedServer {
  /** The address that clients use. */
  readonly address: string
  /** Whether it was started here. A server that belongs to somebody else is not stopped or killed. */
  readonly isOurs: boolean
}

/** Why the tests that need a server are skipped. */
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

/** The default export of a global setup: starts the server, or says why there is none. */
export const shareServer =
  (name: ServerName, start: () => Promise<Started | NoServer>) =>
  async (project: TestProject): Promise<() => Promise<void>> => {
    const server = await start()
    if ("reason" in server) {
      // A build that tests nothing must not pass
      if (process.env["CI"] === "true") throw new Error(`No ${name}: ${server.reason}`)
      console.warn(`Tests against ${name} are skipped: ${server.reason}`)
      project.provide(name, { reason: server.reason })
      return async () => {}
    }
    project.provide(name, { address: server.address, isOurs: server.isOurs })
    return server.dispose
  }

export interface ServerTests {
  /** The address of the shared server; undefined where there is none. */
  readonly address: string | undefined
  /** Tests that need a server: skipped with the reason where there is none. */
  readonly withServer: (name: string, tests: () => void) => void
  /** Tests that stop and kill a server. They start their own, which takes a machine that can start one. */
  readonly withOwnServer: (name: string, tests: () => void) => void
}

/** What test files of a package know of the server that its global setup started. */
export const serverTests = (name: ServerName): ServerTests => {
  const server = inject(name)
  const group = (reason: string | undefined) => (title: string, tests: () => void) => {
    describe.skipIf(reason !== undefined)(reason === undefined ? title : `${title} (skipped: ${reason})`, tests)
  }
  if ("reason" in server) {
    return { address: undefined, withServer: group(server.reason), withOwnServer: group(server.reason) }
  }
  return {
    address: server.address,
    withServer: group(undefined),
    withOwnServer: group(server.isOurs ? undefined : `the ${name} server of the environment is not ours`)
  }
}
