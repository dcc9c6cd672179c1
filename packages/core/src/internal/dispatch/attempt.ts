/** One attempt of a handler, for the combinators that may run a handler more than once or cut it short. */
import * as Effect from "effect/Effect"
import type { Collect } from "../../Collect.ts"
import type * as Event from "../../Event.ts"
import { Collector } from "./collector.ts"

/**
 * Runs one attempt with a collection of its own, which is handed over when the
 * attempt has succeeded.
 */
export const attempt = <Emits, A, E, R>(
  context: Collect<Emits>,
  run: (own: Collect<Emits>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const collector = new Collector()
    // A collector takes every event
    const own = collector as Collect<Event.Any> as Collect<Emits>
    const running = Effect.onExit(
      Effect.suspend(() => run(own)),
      () => Effect.sync(() => collector.close())
    )
    return Effect.flatMap(running, (result) => {
      // What the attempt has collected came in through the type of `own`
      const events = collector.events as ReadonlyArray<unknown> | undefined as ReadonlyArray<Emits> | undefined
      return events === undefined
        ? Effect.succeed(result)
        : Effect.as(context.collectAll(events), result)
    })
  })
