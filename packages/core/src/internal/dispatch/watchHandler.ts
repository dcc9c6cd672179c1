/**
 * Shows the runs of event handlers to the observers and in spans.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Event from "../../Event.ts"
import type * as FlowObserver from "../../FlowObserver.ts"
import * as Telemetry from "../../Telemetry.ts"
import * as Record from "../telemetry/record.ts"
import type { Collector } from "./collector.ts"
import { type RunHandler, runHandler } from "./handlerRuns.ts"
import { CurrentRun } from "./observerKeys.ts"

/** How handlers are run; reads what to record when it is made. */
export const makeRunHandler: Effect.Effect<RunHandler> = Effect.map(Telemetry.Settings, ({ handlerSpans }) => {
  const observed: RunHandler = (handler, event, collector, flow) => {
    const observer = flow.watching?.observer
    return observer === undefined
      ? runHandler(handler, event, collector, flow)
      : observe(observer, handler.definition.name, event, collector, runHandler(handler, event, collector, flow))
  }
  return handlerSpans
    ? (handler, event, collector, flow) =>
      Record.handler(observed(handler, event, collector, flow), { name: handler.definition.name, event: event._tag })
    : observed
})

/** Reports the start, the follow-ups and the end of a handler; nested commands find it as their parent. */
const observe = (
  observer: FlowObserver.FlowObserver,
  handler: string,
  event: Event.Any,
  collector: Collector,
  effect: Effect.Effect<void, unknown>
): Effect.Effect<void, unknown> =>
  Effect.suspend(() => {
    const run = {}
    return Effect.onExit(
      Effect.suspend(() => {
        observer.handlerStarted(run, handler, event)
        return Effect.provideService(effect, CurrentRun, run)
      }),
      (exit) =>
        Effect.sync(() => {
          if (Exit.isSuccess(exit) && collector.events !== undefined) observer.collected(run, collector.events)
          observer.handlerEnded(run, exit)
        })
    )
  })
