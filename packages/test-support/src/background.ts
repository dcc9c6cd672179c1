/** Work beside a test. A test does not wait for it, so a failure of it must end the test. No vitest: programs use it. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** Where background work reports that it has failed. `watched` provides it. */
export class Background extends Context.Service<Background, { readonly failed: Deferred.Deferred<never> }>()(
  "@event-flow/test-support/background/Background"
) {}

/** Runs a test until it ends, or until background work of it fails or dies: then the test dies of the same cause. */
export const watched = <A, E, R>(test: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, Background>> =>
  Effect.suspend(() => {
    const failed = Deferred.makeUnsafe<never>()
    return Effect.raceFirst(Effect.provideService(test, Background, { failed }), Deferred.await(failed))
  })

/** Forks work for the length of the scope. The test fails when the work does. */
export const inBackground = <A, E, R>(
  work: Effect.Effect<A, E, R>
): Effect.Effect<Fiber.Fiber<A>, never, R | Background | Scope.Scope> =>
  Effect.flatMap(Background, ({ failed }) =>
    Effect.forkScoped(
      Effect.onError(
        Effect.orDie(work),
        // The end of the scope is no failure
        (cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : Deferred.failCause(failed, cause)
      )
    ))
