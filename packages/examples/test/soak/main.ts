/** `npm run soak`: the orders example under faults, in an order that the seed decides. Ends with 1 unless the books balance. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { rmSync } from "node:fs"
import { createRequire } from "node:module"
import * as Schedule from "./schedule.ts"
import * as Soak from "./soak.ts"

const { version } = createRequire(import.meta.url)("../../package.json") as { readonly version: string }

const Positive = Schema.Finite.check(Schema.isGreaterThan(0))

const positive = (name: string, description: string, byDefault: number) =>
  Flag.Finite(name).pipe(
    Flag.withDescription(`${description} (default: ${byDefault})`),
    Flag.withSchema(Positive),
    Flag.withDefault(byDefault)
  )

const soak = Command.make("soak", {
  minutes: positive("minutes", "How long there are faults; to begin and to end takes a minute or two more", 10),
  seed: Flag.String("seed").pipe(
    Flag.withDescription("Decides which faults there are, and when (default: 1)"),
    Flag.withDefault("1")
  ),
  broker: Flag.Literals("broker", [...Soak.brokers, "both"]).pipe(
    Flag.withDescription("What carries the events; both: one after the other (default: both)"),
    Flag.withDefault("both")
  ),
  faultsPerMinute: positive("faults-per-minute", "How often something is broken", 5),
  rate: positive("rate", "How many orders are placed in a second", 20)
}, ({ broker, ...options }) =>
  Effect.gen(function*() {
    const schedule = Schedule.make(options)
    yield* Console.log(`Seed ${options.seed}, ${schedule.length} faults:`)
    for (const fault of schedule) yield* Console.log(`  ${Schedule.describe(fault)}`)
    for (const name of broker === "both" ? Soak.brokers : [broker]) {
      yield* Console.log(`\n${name}`)
      const report = yield* Soak.run({ ...options, broker: name })
      yield* Console.log(`\n${Soak.render({ ...options, broker: name }, report)}`)
      if (report.problems.length > 0) process.exitCode = 1
      else rmSync(report.logs, { recursive: true })
    }
  })).pipe(Command.withDescription("Breaks the orders example again and again, and shows that the books balance"))

soak.pipe(
  Command.run({ version }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
