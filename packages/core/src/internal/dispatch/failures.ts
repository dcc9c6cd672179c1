/**
 * What a failure of an emission does to its dispatch.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { EventFailure } from "../../EventFlowError.ts"
import { EventsFailed } from "../../EventFlowError.ts"
import * as Telemetry from "../../Telemetry.ts"
import type { Report } from "./ways.ts"

/** The policy of a dispatch: fail at once, or take note and go on. */
export interface Failures {
  readonly report?: Report
  readonly conclude: Effect.Effect<void, EventsFailed>
}

export const failFast: Failures = { conclude: Effect.void }

export class Collected implements Failures {
  readonly #policy: "accumulate" | "log"
  readonly #causes: Array<Cause.Cause<EventFailure>> = []

  constructor(policy: "accumulate" | "log") {
    this.#policy = policy
  }

  readonly report = (cause: Cause.Cause<EventFailure>): void => {
    this.#causes.push(cause)
  }

  readonly conclude: Effect.Effect<void, EventsFailed> = Effect.suspend(() => {
    if (this.#causes.length === 0) return Effect.void
    const reasons = this.#causes.flatMap((cause) => cause.reasons)
    const failures = reasons.filter(Cause.isFailReason).map((reason) => reason.error)
    // Defects, and handlers that interrupted themselves: no policy hides them
    const defects = Cause.fromReasons<never>(
      reasons.filter((reason) => Cause.isDieReason(reason) || Cause.isInterruptReason(reason))
    )
    const died = defects.reasons.length > 0 ? Effect.failCause(defects) : Effect.void
    if (!Arr.isReadonlyArrayNonEmpty(failures)) return died
    if (this.#policy === "log") return Effect.andThen(Effect.forEach(failures, logFailure, { discard: true }), died)
    return Effect.failCause(Cause.combine(Cause.fail(new EventsFailed({ failures })), defects))
  })
}

const logFailure = (failure: EventFailure): Effect.Effect<void> =>
  Effect.andThen(
    Effect.logError(failure.message, Cause.fail(failure)),
    Metric.update(Telemetry.loggedFailures, 1)
  )
