/**
 * Reports the runs of handlers to a `FlowObserver`.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as FlowObserver from "../FlowObserver.ts"
import type { Collector } from "./collector.ts"

/** Reports the start and end of a handler; nested commands find it as their parent. */
export const observeHandler = <A, E, R>(
  observer: FlowObserver.FlowObserver,
  collector: Collector,
  effect: Effect.Effect<A, E, R>,
  started: (run: object) => void
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const run = {}
    started(run)
    return Effect.onExit(
      Effect.provideService(effect, FlowObserver.CurrentRun, run),
      (exit: Exit.Exit<unknown, unknown>) => Effect.sync(() => observer.handlerEnded(run, exit, collector.events ?? []))
    )
  })
