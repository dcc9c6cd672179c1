#!/usr/bin/env node
/** The program `event-flow-outbox`. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { createRequire } from "node:module"
import { command } from "./OutboxCli.ts"

/** What nothing but this program needs, so that it is an optional peer of the package. */
const platform = async () => {
  try {
    return {
      runtime: await import("@effect/platform-node/NodeRuntime"),
      services: await import("@effect/platform-node/NodeServices")
    }
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND")) throw cause
    process.stderr.write("event-flow-outbox needs @effect/platform-node: npm install @effect/platform-node\n")
    process.exit(1)
  }
}

const { version } = createRequire(import.meta.url)("../package.json") as { readonly version: string }
const { runtime, services } = await platform()

Command.run(command, { version }).pipe(Effect.provide(services.layer), runtime.runMain)
