/** Effects that tests of several packages use. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import { randomUUID } from "node:crypto"

/** A name that no other test uses. */
export const unique = (name: string): string => `${name}-${randomUUID().slice(0, 8)}`

/** Faults are logged as warnings, and tests make many. */
export const silently: Layer.Layer<never> = Layer.succeed(References.MinimumLogLevel, "Error")

/** Waits for a condition, with a bound that a slow machine does not reach. For live tests. */
export const eventually = <E = never, R = never>(
  what: string,
  condition: (() => boolean | Promise<boolean>) | Effect.Effect<boolean, E, R>
): Effect.Effect<void, E, R> =>
  (Effect.isEffect(condition) ? condition : Effect.promise(async () => condition())).pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: (ok) => ok }),
    Effect.timeoutOrElse({ duration: "60 seconds", orElse: () => Effect.die(new Error(`did not happen: ${what}`)) }),
    Effect.asVoid
  )
