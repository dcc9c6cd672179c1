/** What a consumer remembers of a delivery from its first failure to its end. */
import type * as Effect from "effect/Effect"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"

/** Gives the next wait of a schedule; fails when the schedule ends. */
export type NextRetry = (input: ConsumerPolicy.Failure) => Effect.Effect<unknown, unknown>

export class History {
  /** By kind of failure: a policy may make a new schedule every time it is asked. */
  readonly schedules = new Map<string, NextRetry>()
  /** How often it was tried. */
  attempts = 0
  /** Whether it counts among the messages that fail in a row. */
  isCounted = false
  /** How many messages had been handled when it failed. */
  handledWhenFailed: number | undefined = undefined
  /** How often it failed although another one was handled since it had failed before. */
  ownFailures = 0
  /** How many messages had been handled when it was held before it is put aside; undefined: it was not. */
  handledWhenHeld: number | undefined = undefined
}
