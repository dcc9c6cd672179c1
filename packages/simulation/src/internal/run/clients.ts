/** The clients of a run: their steps one after another, and their requests. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Scenario } from "../../Scenario.ts"
import type { World } from "../kernel/world.ts"
import { unit } from "../seeded.ts"
import { CurrentClient } from "./currentClient.ts"
import type { Instance } from "./instance.ts"
import { NodeUnavailable } from "./unavailable.ts"

type Clients = Scenario["clients"]

/** Where a step is: the name of its client, and its place there. */
export const placeOf = (client: string, step: number): string => `${client}/${step}`

export class ClientRuns {
  readonly #world: World
  readonly #instances: ReadonlyArray<Instance>
  /** How many clients are not done. */
  left = 0

  constructor(world: World, instances: ReadonlyArray<Instance>) {
    this.#world = world
    this.#instances = instances
  }

  start(
    clients: Clients,
    options: {
      readonly dropped: ReadonlySet<string>
      readonly environment: (name: string) => Context.Context<never>
      readonly failed: (client: string, detail: string) => void
    }
  ): void {
    for (const [client, steps] of Object.entries(clients)) {
      const kept = steps.filter((_, i) => !options.dropped.has(placeOf(client, i)))
      if (kept.length === 0) continue
      this.left++
      const all = Effect.forEach(kept, (step) => this.#step(client, step), { discard: true })
      const environment = options.environment(client)
      this.#world.outside.push(() => {
        Effect.runForkWith(environment)(all).addObserver((exit) => {
          this.left--
          if (Exit.isFailure(exit)) options.failed(client, String(Cause.squash(exit.cause)).slice(0, 500))
        })
      })
    }
  }

  #step(client: string, step: Clients[string][number]): Effect.Effect<unknown, unknown> {
    const { pause } = this.#world.loop.schedule
    const wait = Math.round(unit(this.#world.seed, `pause ${client}/${step.name}`) * pause)
    // The scenario has seen that its nodes have what the step asks for
    const run = step.run as Effect.Effect<unknown, unknown>
    return Effect.provideService(wait === 0 ? run : Effect.delay(run, wait), CurrentClient, {
      call: (node, effect) => this.#call(step.name, node, effect)
    })
  }

  #call<A, E>(step: string, node: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E | NodeUnavailable> {
    const unavailable = () => new NodeUnavailable({ node })
    return this.#world.operation<A, E | NodeUnavailable>({
      kind: "call",
      name: `${step} at ${node}`,
      failure: unavailable,
      happen: (answer) => {
        const target = this.#instances.find(({ process, services }) => process.node === node && services !== undefined)
        if (target?.services === undefined) return answer(Exit.fail(unavailable()))
        const { process, services } = target
        const forget = process.whenDead(() => answer(Exit.fail(unavailable())))
        process.push(() => {
          // It has begun to stop meanwhile, and takes no requests
          if (target.services !== services) return answer(Exit.fail(unavailable()))
          Effect.runForkWith(services)(effect).addObserver((exit) => {
            forget()
            // A server that stops has nothing useful to say
            answer(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? Exit.fail(unavailable()) : exit)
          })
        })
      }
    })
  }
}
