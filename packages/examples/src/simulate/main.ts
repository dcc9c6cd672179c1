/**
 * Simulates the shop and its totals: hundreds of runs of the whole system a second, with crashes, duplicates and races.
 * `--bug` plants a bug for it to find, `--help` has the options.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Simulation } from "@event-flow/simulation"
import { Console, Effect, Option, Schema } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { createRequire } from "node:module"
import { withProgress } from "../flights/progress.ts"
import { type Bug, bugs } from "./bugs.ts"
import { scenario } from "./scenario.ts"

const { version } = createRequire(import.meta.url)("../../package.json") as { readonly version: string }

const Positive = Schema.Int.check(Schema.isGreaterThan(0))
const bugNames = Object.keys(bugs) as ReadonlyArray<Bug>

/** How long the runs have the thread before the progress bar gets it, in milliseconds. */
const slice = 40

const simulate = Effect.fnUntraced(function*(options: {
  readonly seeds: number
  readonly from: number
  readonly bug: Bug | undefined
}) {
  const planted = options.bug === undefined ? {} : bugs[options.bug]
  const checking = Simulation.checking(scenario(planted), options)
  const started = performance.now()
  let progress: Simulation.Progress = { runs: 0, faults: 0, steps: 0 }
  const perSecond = () => Math.round(progress.runs / (performance.now() - started) * 1000)
  const report = yield* Effect.gen(function*() {
    let since = performance.now()
    while (true) {
      const next = checking.next()
      if (next.done === true) return next.value
      progress = next.value
      if (performance.now() - since < slice) continue
      yield* Effect.yieldNow
      since = performance.now()
    }
  }).pipe(withProgress(() => ({
    fraction: progress.runs / options.seeds,
    label: `${progress.runs} seeds, ${progress.faults} faults, ${perSecond()} seeds a second`
  })))
  yield* Console.log(String(report))
  yield* Console.log(`\n${report.runs} seeds in ${((performance.now() - started) / 1000).toFixed(1)} s`)
  // To standard error as one line, and exit code 1
  if (!report.isPassed) {
    return yield* new CliError.UserError({ cause: report, userMessage: "a promise was broken: see above" })
  }
})

Command.make("simulate", {
  seeds: Flag.Int("seeds").pipe(
    Flag.withDescription("How many runs, each of a seed of its own (default: 1000)"),
    Flag.withSchema(Positive),
    Flag.withDefault(1000)
  ),
  from: Flag.Int("from").pipe(
    Flag.withDescription("The first seed (default: 1)"),
    Flag.withSchema(Positive),
    Flag.withDefault(1)
  ),
  bug: Flag.Literals("bug", bugNames).pipe(
    Flag.withDescription("A bug to plant (default: none)"),
    Flag.optional,
    Flag.map(Option.getOrUndefined)
  )
}, simulate).pipe(
  Command.withDescription("Looks for a run of the shop that breaks a promise, and shows the shortest one"),
  Command.run({ version }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
