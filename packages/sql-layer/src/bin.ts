#!/usr/bin/env node
/** The program `event-flow-outbox`. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { createRequire } from "node:module"
import { command } from "./OutboxCli.ts"

const { version } = createRequire(import.meta.url)("../package.json") as { readonly version: string }

Command.run(command, { version }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
