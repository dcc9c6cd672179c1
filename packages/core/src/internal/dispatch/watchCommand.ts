/**
 * Shows the dispatches of commands to the observers, in spans and in metrics.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Event from "../../Event.ts"
import type * as FlowObserver from "../../FlowObserver.ts"
import * as Telemetry from "../../Telemetry.ts"
import type { AnyCommand } from "../definition/models.ts"
import * as Record from "../telemetry/record.ts"
import type { AnyEffect, AnyFiber } from "./dispatch.ts"
import type { Flow } from "./flow.ts"
import { CurrentRun } from "./observerKeys.ts"
import { Observers, type Watching } from "./observers.ts"

/** Watches one dispatch. */
export interface Watch {
  /** Around the whole dispatch. */
  readonly dispatched: (dispatch: AnyEffect) => AnyEffect
  /** A run of the handler starts. */
  readonly handlerStarted: () => void
  /** It has ended. */
  readonly handlerEnded: (exit: Exit.Exit<unknown, unknown>) => void
  readonly collected: (events: ReadonlyArray<Event.Any>) => void
}

/** How the dispatches of a flow are watched. */
export interface WatchCommand {
  /** Asks the observers about a dispatch. */
  readonly watching: (parent: Flow | undefined, command: AnyCommand) => Watching | undefined
  /** Undefined: nobody watches. */
  readonly watch: (fiber: AnyFiber, command: AnyCommand, watching: Watching | undefined) => Watch | undefined
}

/** Reads the observers and what to record when it is made. */
export const makeWatchCommand: Effect.Effect<WatchCommand> = Effect.gen(function*() {
  const observers = Observers.in(yield* Effect.context<never>())
  const { metrics } = yield* Telemetry.Settings
  return {
    watching: (parent, command) =>
      observers.isEmpty && parent === undefined
        ? undefined
        : observers.watching(parent?.watching, () => ({ _tag: "Command", command })),
    watch: (fiber, command, watching) => {
      const tracing = Record.isTracing(fiber)
      const observer = watching?.observer
      if (!tracing && !metrics && observer === undefined) return undefined
      const recorded = (effect: AnyEffect): AnyEffect => Record.command(effect, { tag: command._tag, tracing, metrics })
      return observer === undefined
        ? { dispatched: recorded, handlerStarted: ignore, handlerEnded: ignore, collected: ignore }
        : observe(observer, command, Context.get(fiber.context, CurrentRun), recorded)
    }
  }
})

const ignore = (): void => {}

const observe = (
  observer: FlowObserver.FlowObserver,
  command: AnyCommand,
  parent: object | undefined,
  recorded: (effect: AnyEffect) => AnyEffect
): Watch => {
  const run = {}
  return {
    dispatched: (dispatch) =>
      recorded(Effect.onExit(
        Effect.suspend(() => {
          observer.commandStarted(run, command, parent)
          return Effect.provideService(dispatch, CurrentRun, run)
        }),
        (exit) => Effect.sync(() => observer.commandEnded(run, exit))
      )),
    handlerStarted: () => observer.commandHandling(run),
    handlerEnded: (exit) => observer.commandHandled(run, exit),
    collected: (events) => observer.collected(run, events)
  }
}
