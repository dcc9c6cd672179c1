/**
 * Keeps the response of a command whose events failed.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

interface Kept {
  readonly response: unknown
  readonly cause: Cause.Cause<unknown>
}

export class Settled {
  #kept: Kept | undefined = undefined

  /** Takes note when processing fails; the failure goes on, past the middleware of the command. */
  keep<A, E>(response: unknown, processed: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.matchCauseEffect(processed, {
      onSuccess: Effect.succeed,
      onFailure: (cause) => {
        this.#kept = { response, cause }
        return Effect.failCause(cause)
      }
    })
  }

  /** The response beside what became of the events; fails with whatever else the dispatch failed with. */
  settle<E>(
    dispatched: Effect.Effect<unknown, E>
  ): Effect.Effect<{ response: unknown; events: Exit.Exit<void, unknown> }, E> {
    return Effect.matchCauseEffect(dispatched, {
      onSuccess: (response) => Effect.succeed({ response, events: Exit.void }),
      onFailure: (cause) => {
        const kept = this.#kept
        return kept !== undefined && isSame(cause, kept.cause)
          ? Effect.succeed({ response: kept.response, events: Exit.failCause(kept.cause) })
          : Effect.failCause(cause)
      }
    })
  }
}

/** Whether two causes have the same reasons; what frames annotate is not compared. */
const isSame = (one: Cause.Cause<unknown>, other: Cause.Cause<unknown>): boolean =>
  one.reasons.length === other.reasons.length &&
  one.reasons.every((reason, i) => {
    const counterpart = other.reasons[i]!
    if (Cause.isFailReason(reason)) return Cause.isFailReason(counterpart) && counterpart.error === reason.error
    if (Cause.isDieReason(reason)) return Cause.isDieReason(counterpart) && counterpart.defect === reason.defect
    return Cause.isInterruptReason(counterpart)
  })
