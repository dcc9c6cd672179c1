/** From a subscription to lanes: what is taken, what is taken away, and what is drained at the end. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Delivery, SubscribeError, Subscription } from "../../Subscriber.ts"
import { ambientOf } from "../dispatch/ambient.ts"
import { Lanes, type Options as LanesOptions } from "./lanes.ts"
import type { Outage } from "./outage.ts"

export interface Options {
  readonly group: string
  readonly subscription: Subscription
  readonly concurrency: number
  readonly batch: LanesOptions<Delivery>["batch"]
  readonly drainTimeout: Duration.Input
  /** Undefined: it does not tell outages. */
  readonly outage: Outage | undefined
  /** Done when nothing new is started any more. */
  readonly closing: Deferred.Deferred<void>
  /** Handles the deliveries of one fiber; fails only with what ends the consumer. */
  readonly runner: LanesOptions<Delivery>["runner"]
}

/** Gives the loop to run, which ends with the error of a runner or of the subscription; closing the scope drains. */
export const start = <E>(options: Options) =>
  Effect.gen(function*() {
    const failed = yield* Deferred.make<never, E>()
    const { outage } = options
    const halt = () => {
      lanes.halt()
      Deferred.doneUnsafe(options.closing, Exit.void)
    }
    const lanes: Lanes<Delivery> = new Lanes({
      concurrency: options.concurrency,
      batch: options.batch,
      fork: Effect.runForkWith(ambientOf(yield* Effect.context<never>())),
      runner: options.runner,
      abandon: (delivery, cause) => {
        outage?.forget(delivery)
        if (Cause.hasInterrupts(cause)) return delivery.nack
        // At once: what waits behind this message must not be handled before it
        halt()
        // A runner fails with nothing else
        return Effect.andThen(Deferred.failCause(failed, cause as Cause.Cause<E>), delivery.nack)
      }
    })
    outage?.governs(lanes)
    yield* options.subscription.onRevoked(giveBackRevoked(lanes, outage))
    yield* Effect.addFinalizer(() => drain(lanes, halt, options))
    const taking = Effect.raceFirst(takeForever(options.subscription, lanes), Deferred.await(failed))
    return outage === undefined ? taking : Effect.raceFirst(taking, outage.run)
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

const giveBackRevoked = (lanes: Lanes<Delivery>, outage: Outage | undefined): Effect.Effect<void> =>
  Effect.suspend(() => {
    // Said at once, and not when a worker comes to it: a rebalance waits for the answer
    const waiting = lanes.drop(isRevoked)
    for (const delivery of waiting) outage?.forget(delivery)
    return Effect.andThen(
      Effect.forEach(waiting, (delivery) => delivery.nack, { discard: true }),
      lanes.interrupt(isRevoked)
    )
  })

const drain = (lanes: Lanes<Delivery>, halt: () => void, { drainTimeout, group }: Options): Effect.Effect<void> =>
  Effect.suspend(() => {
    // Before the timeout starts: a worker that it interrupts must not make room for another
    halt()
    return Effect.timeoutOrElse(Effect.interruptible(lanes.stop), {
      duration: drainTimeout,
      orElse: () =>
        Effect.andThen(
          Effect.logWarning("Handlers did not end before the drain timeout: interrupting them"),
          lanes.interrupt(() => true)
        )
    })
  }).pipe(Effect.annotateLogs({ group }))
