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
import { isTracing } from "../telemetry/span.ts"
import type { AnyFiber } from "./dispatch.ts"
import type { Flow } from "./flow.ts"
import { CurrentRun } from "./observerKeys.ts"
import { Observers, type Watching } from "./observers.ts"

type AnyContext = Context.Context<never>

/** Watches one dispatch: tells an observer, and records its span and its duration. */
export class Watch {
  /** Undefined: it is only recorded. */
  readonly observer: FlowObserver.FlowObserver | undefined
  readonly #command: AnyCommand
  readonly #recorded: Record.Recorded
  /** Stands for the dispatch where an observer is told of it. */
  readonly #run = {}
  #record: Record.CommandRecord | undefined = undefined

  constructor(command: AnyCommand, observer: FlowObserver.FlowObserver | undefined, recorded: Record.Recorded) {
    this.#command = command
    this.observer = observer
    this.#recorded = recorded
  }

  /** The dispatch starts in this fiber; gives the context for what runs in it. */
  started(fiber: AnyFiber): AnyContext {
    const { context } = this.#record = new Record.CommandRecord(fiber, this.#command._tag, this.#recorded)
    if (this.observer === undefined) return context
    this.observer.commandStarted(this.#run, this.#command, Context.get(fiber.context, CurrentRun))
    return Context.addUnsafe(context, CurrentRun.key, this.#run)
  }

  /** The dispatch has ended, in whatever way. */
  ended(exit: Exit.Exit<unknown, unknown>): void {
    this.observer?.commandEnded(this.#run, exit)
    this.#record?.end(exit)
  }

  /** A run of the handler starts. */
  handlerStarted(): void {
    this.observer?.commandHandling(this.#run)
  }

  /** It has ended. */
  handlerEnded(exit: Exit.Exit<unknown, unknown>): void {
    this.observer?.commandHandled(this.#run, exit)
  }

  collected(events: ReadonlyArray<Event.Any>): void {
    this.observer?.collected(this.#run, events)
  }
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
      const tracing = isTracing(fiber)
      const observer = watching?.observer
      return tracing || metrics || observer !== undefined
        ? new Watch(command, observer, { tracing, metrics })
        : undefined
    }
  }
})
