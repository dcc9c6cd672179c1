/** Work that is done again and again in the background of a layer. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** First after an interval; a failure is logged and does not end it. An infinite interval is never. */
export const fork = <E, R>(
  what: string,
  interval: Duration.Input,
  work: Effect.Effect<unknown, E, R>
): Effect.Effect<void, never, R | Scope.Scope> => {
  const duration = Duration.fromInputUnsafe(interval)
  if (!Duration.isFinite(duration)) return Effect.void
  return Effect.sleep(duration).pipe(
    Effect.andThen(
      Effect.catchCause(work, (cause) => Effect.logWarning(`${what} failed`, cause))
    ),
    Effect.forever,
    Effect.forkScoped,
    Effect.asVoid
  )
}
