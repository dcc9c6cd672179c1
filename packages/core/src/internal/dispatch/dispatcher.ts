/**
 * Dispatches the commands of one flow: runs the handler with a collection of
 * its own, has the events processed, and returns the response.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Command from "../../Command.ts"
import type * as Event from "../../Event.ts"
import type { EventFlowError } from "../../EventFlowError.ts"
import { FlowClosed } from "../../EventFlowError.ts"
import type { EventProcessor } from "../../EventProcessor.ts"
import type * as Middleware from "../../Middleware.ts"
import type { ComposedMiddleware } from "../definition/middlewareList.ts"
import { Collector } from "./collector.ts"
import { type AnyFiber, Dispatch } from "./dispatch.ts"
import { Flow } from "./flow.ts"
import { InFlight, Tracked } from "./inFlight.ts"
import type { Watching } from "./observers.ts"
import type { Route, Routes } from "./route.ts"
import type { Settled } from "./settled.ts"
import type { Watch, WatchCommand } from "./watchCommand.ts"
import { type ProcessorWay, processorWays } from "./ways.ts"

export type AnyEffect = Effect.Effect<unknown, unknown>

/** A mediator of one's own around the dispatches that go through it. */
export interface OwnMediator {
  readonly middleware: ComposedMiddleware | undefined
  readonly inFlight: InFlight
}

export class Dispatcher {
  readonly name: string
  /** The commands of the flow and those that its members send. */
  readonly routes: Routes
  readonly process: ProcessorWay["process"]
  /** For dispatches that are not in one fiber: streams. */
  readonly processAll: (events: ReadonlyArray<Event.Any>) => Effect.Effect<void, EventFlowError>
  readonly inFlight = new InFlight()
  readonly watcher: WatchCommand

  constructor(options: {
    readonly name: string
    readonly routes: Routes
    readonly processor: EventProcessor["Service"]
    readonly watcher: WatchCommand
  }) {
    const { processor } = options
    this.name = options.name
    this.routes = options.routes
    this.watcher = options.watcher
    // Whoever processes the events of a dispatch is run by this mediator
    this.processAll = processor.process as Dispatcher["processAll"]
    this.process = processorWays.get(processor)?.process ?? ((dispatch, events, next) => {
      dispatch.fiber.setContext(dispatch.flow.context)
      return Effect.flatMap(this.processAll(events), next)
    })
  }

  drain(timeout: Duration.Input): Effect.Effect<void> {
    return this.inFlight.drain(timeout, `flow "${this.name}"`)
  }

  /** Sends a command from this fiber; `settled` keeps the response when the events fail. */
  send(
    fiber: AnyFiber,
    route: Route,
    command: Command.Any,
    own: OwnMediator | undefined,
    settled: Settled | undefined
  ): AnyEffect {
    const watching = this.watcher.watching(fiber, command)
    const watch = this.watcher.watch(fiber, command, watching)
    return watch === undefined && route.bound.middleware === undefined && own === undefined
      ? this.#run(fiber, route, command, undefined, watching, settled, this.inFlight)
      : this.wrap(
        fiber,
        route,
        command,
        own,
        watch,
        watching,
        (fiber) => this.#run(fiber, route, command, watch, watching, settled, undefined)
      )
  }

  /**
   * Runs the handler and processes its events, in the fiber of the caller. What
   * must happen on every exit is in one frame at the end: interruption skips all
   * other continuations.
   *
   * `entry`: where it is taken up, unless that is closed; undefined: whoever
   * wraps this was taken up.
   */
  #run(
    fiber: AnyFiber,
    route: Route,
    command: Command.Any,
    watch: Watch | undefined,
    watching: Watching | undefined,
    settled: Settled | undefined,
    entry: InFlight | undefined
  ): AnyEffect {
    const { bound, counts } = route
    const dispatch = new Dispatch(fiber)
    // Nothing has a side effect before the frame that undoes it: the run loop
    // may yield, and be interrupted, between any two effects
    const dispatched = Effect.suspend(() => {
      if (entry?.enter(dispatch) === false) {
        return Effect.die(new FlowClosed({ flow: this.name, command: command._tag }))
      }
      counts.started++
      const flow = dispatch.flow = Flow.startedIn(
        dispatch.caller,
        this.routes,
        watching
      )
      const collector = new Collector(dispatch)
      fiber.setContext(flow.handlerContext(bound.services))
      const handling = watch === undefined
        ? runHandler(route, command, collector)
        : Effect.onExit(
          runHandler(route, command, collector),
          (exit) => Effect.sync(() => watch.handlerEnded(exit))
        )
      if (bound.definition.emits.length === 0) return handling
      return Effect.flatMap(handling, (response) => {
        const events = collector.close()
        if (events === undefined) return Effect.succeed(response)
        watch?.collected(events)
        const processed = this.process(dispatch, events, () => Effect.succeed(response))
        return settled === undefined ? processed : settled.keep(response, processed)
      })
    })
    return Effect.onExitPrimitive(dispatched, (exit) => {
      dispatch.end()
      dispatch.flow?.release()
      entry?.remove(dispatch)
      if (dispatch.flow !== undefined) count(counts, exit)
      return undefined
    })
  }

  /** Middleware around what `run` gives, the mediator's own outermost, in one flow. */
  wrap(
    fiber: AnyFiber,
    route: Route,
    command: Command.Any,
    own: OwnMediator | undefined,
    watch: Watch | undefined,
    watching: Watching | undefined,
    run: (fiber: AnyFiber) => AnyEffect
  ): AnyEffect {
    const sending = new Tracked(fiber)
    const ownSending = new Tracked(fiber)
    const wrapped = Effect.suspend(() => {
      if (own?.inFlight.enter(ownSending) === false || !this.inFlight.enter(sending)) {
        return Effect.die(new FlowClosed({ flow: this.name, command: command._tag }))
      }
      const { definition } = route
      const info = { tag: command._tag, command: command as Middleware.Info["command"], definition }
      const dispatched = applied(own?.middleware, applied(route.bound.middleware, Effect.withFiber(run), info), info)
      const inFlow = Effect.updateContext<unknown, unknown, never, never>(
        dispatched,
        (context) => Flow.startedIn(context, this.routes, watching).context
      )
      return watch === undefined ? inFlow : watch.dispatched(inFlow)
    })
    return Effect.onExitPrimitive(wrapped, () => {
      this.inFlight.remove(sending)
      own?.inFlight.remove(ownSending)
      return undefined
    })
  }
}

const applied = (middleware: ComposedMiddleware | undefined, effect: AnyEffect, info: Middleware.Info): AnyEffect =>
  middleware === undefined ? effect : Effect.updateContext<unknown, unknown, never, never>(
    middleware.apply(effect, info),
    (context) => middleware.services.joinedTo(context)
  )

const runHandler = ({ bound }: Route, command: Command.Any, collector: Collector): AnyEffect => {
  try {
    // A definition that does not stream has a handler that gives an Effect
    return bound.run(command, collector) as AnyEffect
  } catch (defect) {
    return Effect.die(defect)
  }
}

export const count = (counts: Route["counts"], exit: Exit.Exit<unknown, unknown>): void => {
  if (Exit.isSuccess(exit)) counts.succeeded++
  else if (Exit.hasInterrupts(exit)) counts.interrupted++
  else counts.failed++
}
