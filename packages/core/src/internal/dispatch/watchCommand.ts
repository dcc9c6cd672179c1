/**
 * Shows the dispatches of commands to the observers, in spans and in metrics.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Command from "../../Command.ts"
import type * as Event from "../../Event.ts"
import * as FlowObserver from "../../FlowObserver.ts"
import * as Telemetry from "../../Telemetry.ts"
import type { AnyFiber } from "./dispatch.ts"
import type { AnyEffect } from "./dispatcher.ts"
import type { Route } from "./route.ts"

/** Watches one dispatch. */
export interface Watch {
  /** Around the whole dispatch. */
  readonly dispatched: (dispatch: AnyEffect) => AnyEffect
  /** Each run of the handler has ended. */
  readonly handlerEnded: (exit: Exit.Exit<unknown, unknown>) => void
  readonly collected: (events: ReadonlyArray<Event.Any>) => void
}

/** Undefined: nobody watches this dispatch. */
export type WatchCommand = (fiber: AnyFiber, route: Route, command: Command.Any) => Watch | undefined

/** Reads the observers and what to record when it is made. */
export const makeWatchCommand: Effect.Effect<WatchCommand> = Effect.gen(function*() {
  const observer = yield* FlowObserver.Current
  const { metrics } = yield* Telemetry.Settings
  return (fiber, _route, command) => {
    const tracing = Telemetry.isTracing(fiber)
    if (!tracing && !metrics && observer === undefined) return undefined
    const recorded = (effect: AnyEffect): AnyEffect => Telemetry.command(effect, { tag: command._tag, tracing, metrics })
    if (observer === undefined) return { dispatched: recorded, handlerEnded: () => {}, collected: () => {} }
    const run = {}
    const parent = Context.get(fiber.context, FlowObserver.CurrentRun)
    return {
      dispatched: (dispatch) =>
        recorded(Effect.onExit(
          Effect.suspend(() => {
            observer.commandStarted(run, command, parent)
            return Effect.provideService(dispatch, FlowObserver.CurrentRun, run)
          }),
          (exit) => Effect.sync(() => observer.commandEnded(run, exit))
        )),
      handlerEnded: (exit) => observer.commandHandled(run, exit),
      collected: (events) => observer.collected(run, events)
    }
  }
})
