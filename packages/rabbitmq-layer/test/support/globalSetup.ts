import type { TestProject } from "vitest/node"
import { find, start } from "./rabbitServer.ts"

declare module "vitest" {
  export interface ProvidedContext {
    rabbitmq: { readonly url: string; readonly isOurs: boolean } | { readonly reason: string }
  }
}

/** One server for all test files of this package; those that break it start their own. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  const found = await find()
  if (found._tag === "None") {
    // A build that tests nothing must not pass
    if (process.env["CI"] === "true") throw new Error(`No RabbitMQ: ${found.reason}`)
    console.warn(`Tests against RabbitMQ are skipped: ${found.reason}`)
    project.provide("rabbitmq", { reason: found.reason })
    return () => Promise.resolve()
  }
  const server = await start(found)
  project.provide("rabbitmq", { url: server.url, isOurs: server.control !== undefined })
  return server.dispose
}
