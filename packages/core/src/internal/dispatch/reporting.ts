/**
 * What a failure of an emission does: end it, or be reported while the rest goes on.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Event from "../../Event.ts"
import type { EventFailure } from "../../EventFlowError.ts"

/** No follow-ups. */
export const nothing: ReadonlyArray<Event.Any> = []

/** With `report`, a failed emission is reported and has no follow-ups. */
export const reporting = <E extends EventFailure>(
  effect: Effect.Effect<ReadonlyArray<Event.Any>, E>,
  report: ((failure: Cause.Cause<EventFailure>) => void) | undefined
): Effect.Effect<ReadonlyArray<Event.Any>, E> =>
  report === undefined ? effect : Effect.catchCause(effect, (cause) => {
    report(cause)
    return Effect.succeed(nothing)
  })
