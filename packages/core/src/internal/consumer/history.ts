/** What a consumer remembers of a delivery from its first failure to its end. */
import type * as Effect from "effect/Effect"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import type { Remembered } from "./handlerMemory.ts"

/** Gives the next wait of a schedule; fails when the schedule ends. */
export type NextRetry = (input: ConsumerPolicy.Failure) => Effect.Effect<unknown, unknown>

export class History {
  /** By kind of failure: a policy may make a new schedule every time it is asked. */
  readonly schedules = new Map<string, NextRetry>()
  /** Which handlers have succeeded, while it is held. */
  handlers: Remembered = []
  /** How often it failed in each way, by the tag of the failure. */
  readonly failures = new Map<string, number>()
  /** In milliseconds since 1970. */
  firstFailed: number | undefined = undefined
  lastFailed: number | undefined = undefined
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

  note(failure: ConsumerPolicy.Failure, now: number): void {
    this.failures.set(failure._tag, (this.failures.get(failure._tag) ?? 0) + 1)
    this.firstFailed ??= now
    this.lastFailed = now
  }
}
