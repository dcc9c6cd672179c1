/** From a subscription to lanes: what is taken, what is taken away, and what is drained at the end. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Delivery, SubscribeError, Subscription } from "../../Subscriber.ts"
import { ambientOf } from "../dispatch/ambient.ts"
import { Lanes, type Options as LanesOptions } from "./lanes.ts"

export interface Options {
  readonly group: string
  readonly subscription: Subscription
  readonly concurrency: number
  readonly drainTimeout: Duration.Input
  /** Handles the deliveries of one fiber; fails only with what ends the consumer. */
  readonly runner: LanesOptions<Delivery>["runner"]
}

/** Gives the loop to run, which ends with the error of a runner or of the subscription; closing the scope drains. */
export const start = <E>(options: Options) =>
  Effect.gen(function*() {
    const failed = yield* Deferred.make<never, E>()
    const lanes: Lanes<Delivery> = new Lanes({
      concurrency: options.concurrency,
      fork: Effect.runForkWith(ambientOf(yield* Effect.context<never>())),
      runner: options.runner,
      abandon: (delivery, cause) => {
        if (Cause.hasInterrupts(cause)) return delivery.nack
        // At once: what waits behind this message must not be handled before it
        lanes.halt()
        // A runner fails with nothing else
        return Effect.andThen(Deferred.failCause(failed, cause as Cause.Cause<E>), delivery.nack)
      }
    })
    yield* options.subscription.onRevoked(giveBackRevoked(lanes))
    yield* Effect.addFinalizer(() => drain(lanes, options))
    return Effect.raceFirst(takeForever(options.subscription, lanes), Deferred.await(failed))
  })

// --- internal ---

const takeForever = (subscription: Subscription, lanes: Lanes<Delivery>): Effect.Effect<never, SubscribeError> =>
  Effect.forever(
    Effect.map(subscription.take, (deliveries) => {
      for (const delivery of deliveries) lanes.offer(delivery)
      lanes.start()
    }),
    { disableYield: true }
  )

const isRevoked = (delivery: Delivery): boolean => delivery.isRevoked()

const giveBackRevoked = (lanes: Lanes<Delivery>): Effect.Effect<void> =>
  Effect.suspend(() => {
    // Said at once, and not when a worker comes to it: a rebalance waits for the answer
    const waiting = lanes.drop(isRevoked)
    return Effect.andThen(
      Effect.forEach(waiting, (delivery) => delivery.nack, { discard: true }),
      lanes.interrupt(isRevoked)
    )
  })

const drain = (lanes: Lanes<Delivery>, { drainTimeout, group }: Options): Effect.Effect<void> =>
  Effect.suspend(() => {
    // Before the timeout starts: a worker that it interrupts must not make room for another
    lanes.halt()
    return Effect.timeoutOrElse(Effect.interruptible(lanes.stop), {
      duration: drainTimeout,
      orElse: () =>
        Effect.andThen(
          Effect.logWarning("Handlers did not end before the drain timeout: interrupting them"),
          lanes.interrupt(() => true)
        )
    })
  }).pipe(Effect.annotateLogs({ group }))
