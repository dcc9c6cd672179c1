/**
 * 20,000 flights through a complete flow: see README.md for a picture, `--help` for the options.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer, Logger, Option, References, Schema } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { createRequire, findPackageJSON } from "node:module"
import { join } from "node:path"
import { brokers } from "./broker.ts"
import { roles, run } from "./run.ts"

const { version } = createRequire(import.meta.url)("../../package.json") as { readonly version: string }

// The package exports no path of its data, but its own root can be found.
const realFlights = () => join(findPackageJSON("vega-datasets", import.meta.url)!, "../data/flights-20k.json")

const Positive = Schema.Int.check(Schema.isGreaterThan(0))

/** Part of the names of topics and queues. */
const RunName = Schema.String.check(
  Schema.isPattern(/^[\w-]{1,60}$/, { expected: "letters, digits, _ and -" })
)

const flights = Command.make("flights", {
  file: Flag.String("file").pipe(
    Flag.withDescription("A JSON array of flights, or a .ndjson file (default: 20,000 real flights of 2001)"),
    Flag.optional
  ),
  broker: Flag.Literals("broker", brokers).pipe(
    Flag.withDescription("What carries notification events (default: memory)"),
    Flag.withDefault("memory")
  ),
  role: Flag.Literals("role", roles).pipe(
    Flag.withDescription("What this process does: record and publish, consume, or all of it (default: all)"),
    Flag.withDefault("all")
  ),
  run: Flag.String("run").pipe(
    Flag.withDescription("The run to publish to or consume from, which both processes name (default: a new one)"),
    Flag.withSchema(RunName),
    Flag.optional
  ),
  top: Flag.Int("top").pipe(
    Flag.withDescription("How many airports to show (default: 10)"),
    Flag.withSchema(Positive),
    Flag.withDefault(10)
  ),
  concurrency: Flag.Int("concurrency").pipe(
    Flag.withDescription("How many flights are recorded at once (default: 16)"),
    Flag.withSchema(Positive),
    Flag.withDefault(16)
  ),
  delayThreshold: Flag.Int("delay-threshold").pipe(
    Flag.withDescription("From how many minutes a delay goes to the delay board (default: 60)"),
    Flag.withDefault(60)
  ),
  minFlights: Flag.Int("min-flights").pipe(
    Flag.withDescription("How many flights an airport must have to be ranked (default: one in 200 of all)"),
    Flag.optional
  )
}, ({ file, minFlights, run: name, ...options }) =>
  run({
    ...options,
    run: Option.getOrUndefined(name),
    file: Option.getOrElse(file, realFlights),
    minFlights: Option.getOrUndefined(minFlights)
  }).pipe(
    // To standard error as one line, and exit code 1.
    Effect.mapError((cause) => new CliError.UserError({ cause }))
  )).pipe(Command.withDescription("Records flights, and shows the airports with the worst delays"))

flights.pipe(
  Command.run({ version }),
  // Standard output is for the report
  Effect.provide([
    NodeServices.layer,
    Layer.succeed(Logger.LogToStderr)(true),
    Layer.succeed(References.MinimumLogLevel)("Warn")
  ]),
  NodeRuntime.runMain
)
