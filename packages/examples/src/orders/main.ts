/**
 * A shop on PostgreSQL: orders, stock and money that add up, whenever the process is killed. See README.md
 * for a picture, `--help` for the options.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer, Logger, Option, References, Schema } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { createRequire } from "node:module"
import { brokers } from "./broker.ts"
import { roles, run } from "./run.ts"

const { version } = createRequire(import.meta.url)("../../package.json") as { readonly version: string }

const Positive = Schema.Int.check(Schema.isGreaterThan(0))

const count = (name: string, description: string, byDefault: number) =>
  Flag.Int(name).pipe(
    Flag.withDescription(`${description} (default: ${byDefault})`),
    Flag.withSchema(Positive),
    Flag.withDefault(byDefault)
  )

/** With the causes: "Failed to connect" alone does not say why. */
const describe = (error: unknown): string => {
  const messages = new Set<string>()
  for (let cause = error; cause instanceof Error && messages.size < 10; cause = cause.cause) messages.add(cause.message)
  return Array.from(messages).join(": ")
}

const orders = Command.make("orders", {
  orders: count("orders", "How many orders there are at the end; those of earlier runs count", 500),
  customers: count("customers", "How many customers place them", 20),
  products: count("products", "How many products there are", 10),
  stock: count("stock", "Units of each product when it is new", 150),
  money: count("money", "Cents of each customer who is new", 80_000),
  concurrency: count("concurrency", "How many orders are in the making at once", 16),
  rate: Flag.Finite("rate").pipe(
    Flag.withDescription("How many orders are placed in a second, at most (default: as many as can be)"),
    Flag.withSchema(Schema.Finite.check(Schema.isGreaterThan(0))),
    Flag.optional,
    Flag.map(Option.getOrUndefined)
  ),
  role: Flag.Literals("role", roles).pipe(
    Flag.withDescription(
      "Does all of it in this process, or a part: places orders, publishes the outbox, or counts (default: all)"
    ),
    Flag.withDefault("all")
  ),
  broker: Flag.Literals("broker", brokers).pipe(
    Flag.withDescription("What carries notification events (default: memory)"),
    Flag.withDefault("memory")
  )
}, (options) =>
  run(options).pipe(
    // To standard error as one line, and exit code 1.
    Effect.mapError((cause) => new CliError.UserError({ cause, userMessage: describe(cause) }))
  )).pipe(Command.withDescription("Places and pays orders, and shows that the books balance"))

orders.pipe(
  Command.run({ version }),
  // Standard output is for progress and books
  Effect.provide([
    NodeServices.layer,
    Layer.succeed(Logger.LogToStderr)(true),
    Layer.succeed(References.MinimumLogLevel)("Warn")
  ]),
  NodeRuntime.runMain
)
