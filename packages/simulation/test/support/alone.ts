/** A process alone in a world, for tests of the kernel and of what is outside of processes. */
import type { Broker, Subscriber } from "@event-flow/core"
import { Store } from "@event-flow/simulation"
import type { Fault } from "@event-flow/simulation/Fault"
import type { Schedule } from "@event-flow/simulation/Recording"
import { Effect, type Exit, Layer } from "effect"
import { SimulatedBroker } from "../../src/internal/broker/broker.ts"
import { environmentOf } from "../../src/internal/kernel/environment.ts"
import { inOrder } from "../../src/internal/kernel/loop.ts"
import { listed } from "../../src/internal/kernel/plan.ts"
import type { Process } from "../../src/internal/kernel/process.ts"
import { World } from "../../src/internal/kernel/world.ts"
import { StoreEngine } from "../../src/internal/store/engine.ts"

export interface Alone {
  readonly world: World
  readonly broker: SimulatedBroker
  readonly process: Process
  /** Runs an effect in a process of the world. */
  readonly fork: <A, E>(
    effect: Effect.Effect<A, E, Broker.Broker | Subscriber.Subscriber | Store.Store>,
    process?: Process
  ) => { exit: Exit.Exit<A, E> | undefined }
  /** Runs until nothing is left to run. */
  readonly settle: () => void
}

export const alone = (
  options: { readonly seed?: number; readonly schedule?: Partial<Schedule>; readonly faults?: ReadonlyArray<Fault> } =
    {}
): Alone => {
  const world = new World({
    seed: options.seed ?? 1,
    schedule: { ...inOrder, ...options.schedule },
    plan: listed(options.faults ?? []),
    keepsStory: true
  })
  world.crash = (process) => process.die()
  const broker = new SimulatedBroker(world)
  const outside = Layer.merge(broker.layer, Layer.succeed(Store.Store)(new StoreEngine(world)))
  const main = world.process("main")
  return {
    world,
    broker,
    process: main,
    fork: (effect, process = main) => {
      const result: { exit: Exit.Exit<never, never> | undefined } = { exit: undefined }
      process.push(() => {
        const context = environmentOf(process, () => {})
        Effect.runForkWith(context)(Effect.provide(effect, outside)).addObserver((exit) => {
          result.exit = exit as Exit.Exit<never, never>
        })
      })
      return result
    },
    settle: () => {
      world.loop.run(() => false, { millis: 600_000, steps: 2_000_000 })
    }
  }
}
