/**
 * Reports the runs of event handlers to a `FlowObserver`.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Event from "../Event.ts"
import * as FlowObserver from "../FlowObserver.ts"
import type { Collector } from "./collector.ts"

/** Reports the start, the follow-ups and the end of a handler; nested commands find it as their parent. */
export const observeHandler = <A, E, R>(
  observer: FlowObserver.FlowObserver,
  handler: string,
  event: Event.Any,
  collector: Collector,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const run = {}
    return Effect.onExit(
      Effect.suspend(() => {
        observer.handlerStarted(run, handler, event)
        return Effect.provideService(effect, FlowObserver.CurrentRun, run)
      }),
      (exit) =>
        Effect.sync(() => {
          if (Exit.isSuccess(exit) && collector.events !== undefined) observer.collected(run, collector.events)
          observer.handlerEnded(run, exit)
        })
    )
  })
