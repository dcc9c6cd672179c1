/**
 * Simulations as tests of vitest, or of any framework whose tests are functions of a
 * name and a body.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import type { Nodes } from "./Node.ts"
import type { Scenario } from "./Scenario.ts"
import * as Simulation from "./Simulation.ts"

/**
 * What registers a test.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface It {
  (name: string, body: () => Promise<void>, timeoutMillis: number): unknown
}

/**
 * Registers a simulation as a test.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface SimulationIt {
  /**
   * Which seeds it runs: by default as many as fit in 10 seconds, 2 where the tests are
   * watched, and at least 50. The environment variable `SIM_SEED` has it run one seed, and `SIM_SEED_FROM` begins
   * elsewhere, as a nightly job does; `SIM_SEEDS` says how many.
   */
  readonly simulation: <N extends Nodes>(name: string, scenario: Scenario<N>, options?: Simulation.Options) => void
}

/**
 * Adds `simulation` to the `it` of a framework.
 *
 * **Example** (With vitest)
 *
 * ```ts no-run
 * import { Scenario, SimulationTest } from "@event-flow/simulation"
 * import { Effect, Layer } from "effect"
 * import * as vitest from "vitest"
 *
 * const it = SimulationTest.extend(vitest.it)
 *
 * const scenario = Scenario.make({ shop: Layer.empty }, {
 *   clients: { web: [Scenario.step("nothing", Effect.void)] }
 * })
 *
 * it.simulation("the orders stand", scenario, { seeds: 200 })
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const extend = <T extends It>(it: T): T & SimulationIt => {
  const simulation: SimulationIt["simulation"] = (name, scenario, options = {}) => {
    const whole = withEnvironment(options)
    it(name, () => run(scenario, whole), timeoutOf(whole))
  }
  const extended = (...args: ReadonlyArray<unknown>): unknown => Reflect.apply(it, undefined, args)
  return Object.assign(extended, it, { simulation }) as unknown as T & SimulationIt
}

// --- internal ---

/** A check does not let go of its thread: others get it after so many milliseconds. */
const slice = 50

const run = async <N extends Nodes>(scenario: Scenario<N>, options: Simulation.Options): Promise<void> => {
  const checking = Simulation.checking(scenario, options)
  let since = performance.now()
  while (true) {
    const next = checking.next()
    if (next.done === true) return next.value.orThrow()
    options.onRun?.(next.value)
    if (performance.now() - since < slice) continue
    await new Promise<void>((resolve) => setTimeout(resolve, 0))
    since = performance.now()
  }
}

const environment =
  (globalThis as { readonly process?: { readonly env: Readonly<Record<string, string>> } }).process?.env ??
    {}

const numberOf = (name: string): number | undefined => {
  const text = environment[name]
  return text === undefined || text === "" ? undefined : Number(text)
}

const withEnvironment = (options: Simulation.Options): Simulation.Options => {
  const seed = numberOf("SIM_SEED") ?? options.seed
  const seeds = numberOf("SIM_SEEDS") ?? options.seeds
  return {
    ...options,
    seed,
    from: numberOf("SIM_SEED_FROM") ?? options.from,
    seeds: seeds ?? 1_000_000,
    // Who says how many seeds means all of them
    time: seeds !== undefined
      ? options.time
      : options.time ?? (environment["VITEST_MODE"] === "WATCH" ? "2 seconds" : "10 seconds")
  }
}

/** Far above what it needs: a busy machine must not fail it, and to make a finding smaller takes time. */
const timeoutOf = ({ seeds = 200, time }: Simulation.Options): number =>
  time === undefined
    ? 60_000 + seeds * 500
    : 120_000 + 10 * Duration.toMillis(Duration.fromInputUnsafe(time))
