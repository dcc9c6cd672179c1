/** The simulated broker promises what every broker does: under virtual time, in order and in disorder. */
import { assert, describe, it } from "@effect/vitest"
import { BrokerSuite } from "@event-flow/core/testing"
import { Cause, Effect, Exit, Layer } from "effect"
import { alone } from "./support/alone.ts"

const disorder = { order: "random", preemption: 0.05, latency: 20 } as const

for (const [name, schedule] of [["in order", {}], ["in disorder", disorder]] as const) {
  for (const seed of [1, 2, 3]) {
    const suite = (world = alone({ seed, schedule })) =>
      BrokerSuite.make(
        `simulated, ${name}, seed ${seed}`,
        Layer.unwrap(Effect.sync(() => world.broker.layer)),
        {
          persistentTopics: true,
          oldMessagesForNewGroups: true,
          ephemeralGroups: true,
          // How many messages of a key a consumer has in hand hangs on the seed
          onePerKey: world.broker.prefetch === 1,
          countsAttempts: true,
          binaryKeys: true,
          durable: true,
          restart: Effect.suspend(() => {
            world.broker.outage(300)
            return Effect.sleep("300 millis")
          })
        }
      )
    describe(suite().name, () => {
      for (const [i, { name }] of suite().cases.entries()) {
        it(name, () => {
          const world = alone({ seed, schedule })
          const result = world.fork(suite(world).cases[i]!.run)
          world.settle()
          if (result.exit === undefined) assert.fail("it did not come to its end")
          if (Exit.isFailure(result.exit)) assert.fail(Cause.pretty(result.exit.cause))
        })
      }
      for (const { name, reason } of suite().skipped) it.skip(`${name} (skipped: ${reason})`, () => {})
    })
  }
}
