import type { TestProject } from "vitest/node"
import { findSource, startKafka } from "./kafkaServer.ts"

declare module "vitest" {
  export interface ProvidedContext {
    kafka: { readonly servers: ReadonlyArray<string> } | { readonly reason: string }
  }
}

/** One broker for all test files of this package; those that break it start their own. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  const source = findSource()
  if (source.kind === "none") {
    // A build that tests nothing must not pass
    if (process.env["CI"] === "true") throw new Error(source.reason)
    console.warn(`Tests against Kafka are skipped: ${source.reason}`)
    project.provide("kafka", { reason: source.reason })
    return () => Promise.resolve()
  }
  const server = await startKafka(source)
  project.provide("kafka", { servers: server.bootstrapServers })
  return () => server.dispose()
}
