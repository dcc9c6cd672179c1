import type { TestProject } from "vitest/node"
import { find, start } from "./postgresServer.ts"

declare module "vitest" {
  export interface ProvidedContext {
    postgres: { readonly url: string; readonly isOurs: boolean } | { readonly reason: string }
  }
}

/** One server for all test files of this package; those that break it start their own. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  const found = await find()
  if (found._tag === "None") {
    // A build that tests nothing must not pass
    if (process.env["CI"] === "true") throw new Error(`No PostgreSQL: ${found.reason}`)
    console.warn(`Tests against PostgreSQL are skipped: ${found.reason}`)
    project.provide("postgres", { reason: found.reason })
    return () => Promise.resolve()
  }
  const server = await start(found)
  project.provide("postgres", { url: server.url, isOurs: server.control !== undefined })
  return server.dispose
}
