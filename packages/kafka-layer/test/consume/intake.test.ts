/** Without a broker: what a subscription hands out, and when it waits. */
import { assert, describe, it } from "@effect/vitest"
import type { Subscriber } from "@event-flow/core"
import { Context, Effect, Fiber, Scheduler } from "effect"
import { AssignedPartition } from "../../src/internal/consume/assignedPartition.ts"
import { Intake } from "../../src/internal/consume/intake.ts"
import { recordOf, startAt } from "../support/record.ts"

/** Lets turns of the event loop pass until it is so, or gives up. */
const turnsUntil = (isSo: () => boolean) =>
  Effect.promise(async () => {
    for (let turn = 0; turn < 1_000 && !isSo(); turn++) await new Promise((resolve) => setImmediate(resolve))
  })

const setup = (maxInFlight: number) => {
  const intake = new Intake({
    maxInFlight,
    scheduler: Context.get(Context.empty(), Scheduler.Scheduler),
    onBlocked: () => undefined
  })
  const partition = new AssignedPartition("t", 0, startAt(0), {
    maxBuffered: 1_000,
    maxUncommitted: 1_000,
    patience: 10_000
  }, intake.owner)
  intake.assign([partition])
  const fetched = (count: number) => {
    for (let i = 0; i < count; i++) {
      partition.append(partition.position++, recordOf({ key: `key ${partition.position}` }))
    }
    intake.wake()
  }
  return { intake, fetched }
}

/**
 * Takes a backlog and then one message more, with every budget of the run loop: the consumer yields at each place between
 * looking for deliveries and waiting for them. Gives the runs that never saw the last message.
 */
const stuckAfter = (
  maxInFlight: number,
  pump: (options: {
    readonly take: Intake["take"]
    readonly backlog: number
    readonly fetched: (count: number) => void
    readonly onTaken: (delivery: Subscriber.Delivery) => number
  }) => Effect.Effect<void, Subscriber.SubscribeError>
) =>
  Effect.gen(function*() {
    const stuck: Array<string> = []
    for (let budget = 3; budget <= 40; budget++) {
      for (let backlog = 1; backlog <= 12; backlog++) {
        const { fetched, intake } = setup(maxInFlight)
        fetched(backlog)
        let taken = 0
        const run = Effect.forever(pump({ take: intake.take, backlog, fetched, onTaken: () => ++taken }), {
          disableYield: true
        })
        const fiber = yield* Effect.forkChild(Effect.provideService(run, Scheduler.MaxOpsBeforeYield, budget))
        yield* turnsUntil(() => taken > backlog)
        if (taken <= backlog) stuck.push(`${taken} of ${backlog + 1}, budget ${budget}`)
        yield* Fiber.interrupt(fiber)
      }
    }
    return stuck
  })

describe("take", () => {
  it.effect("misses no message that comes while it is about to wait", () =>
    Effect.gen(function*() {
      const stuck = yield* stuckAfter(10, ({ backlog, fetched, onTaken, take }) =>
        Effect.flatMap(take, (deliveries) =>
          Effect.forEach(deliveries, (delivery) => {
            // In a later turn: while the consumer waits, or is about to
            if (onTaken(delivery) === backlog) {
              setImmediate(() =>
                fetched(1)
              )
            }
            return delivery.ack
          }, { discard: true })))
      assert.deepStrictEqual(stuck, [])
    }))

  it.effect("misses no acknowledgement that makes room while it is about to wait", () =>
    Effect.gen(function*() {
      const stuck = yield* stuckAfter(1, ({ backlog, fetched, onTaken, take }) =>
        Effect.map(take, ([delivery]) => {
          if (onTaken(delivery) === 1) fetched(1)
          // By another fiber, in a later turn
          setImmediate(() => Effect.runSync(delivery.ack))
          return backlog
        }))
      assert.deepStrictEqual(stuck, [])
    }))

  it.effect("gives nothing while it is suspended, and all of it afterwards", () =>
    Effect.gen(function*() {
      const { fetched, intake } = setup(10)
      fetched(2)
      const [first] = yield* intake.take
      intake.suspend(true)
      fetched(3)
      const waiting = yield* Effect.forkChild(intake.take)
      // Room and messages wake it
      yield* first.ack
      yield* turnsUntil(() => false)
      assert.isUndefined(waiting.pollUnsafe())
      intake.suspend(false)
      assert.strictEqual((yield* Fiber.join(waiting)).length, 3)
    }))
})
