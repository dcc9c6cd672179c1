/**
 * Dispatches the commands of one flow: runs the handler with a collection of
 * its own, has the events processed, and returns the response.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Event from "../../Event.ts"
import type { EventFlowError } from "../../EventFlowError.ts"
import { FlowClosed } from "../../EventFlowError.ts"
import type { EventProcessor } from "../../EventProcessor.ts"
import type * as Middleware from "../../Middleware.ts"
import type { BoundCommand, Definition } from "../definition/commandClass.ts"
import { GivenServices } from "../definition/givenServices.ts"
import type { ComposedMiddleware } from "../definition/middlewareList.ts"
import type { AnyCommand } from "../definition/models.ts"
import { closedCollector, Collector } from "./collector.ts"
import { type AnyEffect, type AnyFiber, Dispatch } from "./dispatch.ts"
import { CurrentFlow, Flow, type Routes } from "./flow.ts"
import { InFlight, Tracked } from "./inFlight.ts"
import type { Watching } from "./observers.ts"
import type { Settled } from "./settled.ts"
import type { Watch, WatchCommand } from "./watchCommand.ts"
import { type ProcessorWay, processorWays } from "./ways.ts"

/** A command as a flow dispatches it. */
export interface Dispatched {
  readonly definition: Definition
  readonly bound: BoundCommand
  /** How the dispatches of the command ended. */
  readonly counts: { started: number; succeeded: number; failed: number; interrupted: number }
}

/** A mediator made by `Mediator.Service` around the dispatches that go through it. */
export interface OwnMediator {
  readonly middleware: ComposedMiddleware | undefined
  readonly inFlight: InFlight
}

/** How a dispatch is run. */
interface How {
  /** Where it is taken up, unless that is closed; undefined: whoever wraps it was taken up. */
  readonly entry: InFlight | undefined
  readonly watch: Watch | undefined
  readonly watching: Watching | undefined
  readonly settled: Settled | undefined
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
  private readonly plain: How = { entry: this.inFlight, watch: undefined, watching: undefined, settled: undefined }

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

  /** Sends a command from this fiber, in the flow `parent`; `settled` keeps the response when the events fail. */
  send(
    fiber: AnyFiber,
    parent: Flow | undefined,
    route: Dispatched,
    command: AnyCommand,
    own: OwnMediator | undefined,
    settled: Settled | undefined
  ): AnyEffect {
    const watching = this.watcher.watching(parent, command)
    const watch = this.watcher.watch(fiber, command, watching)
    if (route.bound.middleware === undefined && own === undefined) {
      const how = watch === undefined && watching === undefined && settled === undefined
        ? this.plain
        : { entry: this.inFlight, watch, watching, settled }
      return this.run(fiber, parent, route, command, how)
    }
    const how: How = { entry: undefined, watch, watching, settled }
    return this.wrap(
      fiber,
      route,
      command,
      own,
      watch,
      watching,
      (fiber) => this.run(fiber, currentFlow(fiber), route, command, how)
    )
  }

  /**
   * Runs the handler and processes its events, in the fiber of the caller. What
   * must happen on every exit is in one frame at the end: interruption skips all
   * other continuations.
   */
  private run(fiber: AnyFiber, parent: Flow | undefined, route: Dispatched, command: AnyCommand, how: How): AnyEffect {
    const dispatch = new Dispatch(fiber)
    // Nothing has a side effect before the frame that undoes it: the run loop
    // may yield, and be interrupted, between any two effects
    const dispatched = Effect.suspend(() => {
      if (how.entry?.enter(dispatch) === false) return this.closed(command)
      const { bound, counts } = route
      counts.started++
      const caller = how.entry === undefined || how.watch === undefined ? dispatch.caller : how.watch.started(fiber)
      const flow = dispatch.flow = Flow.startedIn(caller, parent, this.routes, how.watching)
      const emits = bound.definition.emits.length > 0
      const collector = emits ? new Collector(dispatch) : closedCollector
      dispatch.fiber.setContext(flow.handlerContext(bound.services))
      const handling = how.watch?.observer === undefined
        ? runHandler(route, command, collector)
        : handlerWatched(how.watch, route, command, collector)
      if (!emits) return handling
      return Effect.flatMap(handling, (response) => {
        const events = collector.close()
        if (events === undefined) return Effect.succeed(response)
        how.watch?.collected(events)
        const processed = this.process(dispatch, events, () => Effect.succeed(response))
        return how.settled === undefined ? processed : how.settled.keep(response, processed)
      })
    })
    return Effect.onExitPrimitive(dispatched, (exit) => {
      dispatch.end()
      how.entry?.remove(dispatch)
      if (dispatch.flow !== undefined) {
        dispatch.flow.release()
        count(route.counts, exit)
        if (how.entry !== undefined) how.watch?.ended(exit)
      }
      return undefined
    })
  }

  private closed(command: AnyCommand): Effect.Effect<never> {
    return Effect.die(new FlowClosed({ flow: this.name, command: command._tag }))
  }

  /** Middleware around what `run` gives, the mediator's own outermost, in one flow. */
  wrap(
    fiber: AnyFiber,
    route: Dispatched,
    command: AnyCommand,
    own: OwnMediator | undefined,
    watch: Watch | undefined,
    watching: Watching | undefined,
    run: (fiber: AnyFiber) => AnyEffect
  ): AnyEffect {
    const sending = new Tracked(fiber)
    const ownSending = own === undefined ? undefined : new Tracked(fiber)
    const caller = fiber.context
    let flow: Flow | undefined = undefined
    const wrapped = Effect.suspend(() => {
      if ((ownSending !== undefined && !own!.inFlight.enter(ownSending)) || !this.inFlight.enter(sending)) {
        return this.closed(command)
      }
      const { definition } = route
      // Every command has its fields as properties
      const info = { tag: command._tag, command: command as Middleware.Info["command"], definition }
      const parent = currentFlow(fiber)
      flow = Flow.startedIn(watch === undefined ? caller : watch.started(fiber), parent, this.routes, watching)
      fiber.setContext(flow.context)
      return applied(own?.middleware, applied(route.bound.middleware, Effect.withFiber(run), info), info)
    })
    return Effect.onExitPrimitive(wrapped, (exit) => {
      fiber.setContext(caller)
      this.inFlight.remove(sending)
      if (ownSending !== undefined) own!.inFlight.remove(ownSending)
      if (flow !== undefined) {
        flow.release()
        watch?.ended(exit)
      }
      return undefined
    })
  }
}

const currentFlow = (fiber: AnyFiber): Flow | undefined => Context.get(fiber.context, CurrentFlow)

const applied = (middleware: ComposedMiddleware | undefined, effect: AnyEffect, info: Middleware.Info): AnyEffect => {
  if (middleware === undefined) return effect
  const { apply, services } = middleware
  return services === GivenServices.none
    ? apply(effect, info)
    : Effect.updateContext<unknown, unknown, never, never>(
      apply(effect, info),
      (context) => services.joinedTo(context)
    )
}

const handlerWatched = (watch: Watch, route: Dispatched, command: AnyCommand, collector: Collector): AnyEffect => {
  watch.handlerStarted()
  return Effect.onExitPrimitive(runHandler(route, command, collector), (exit) => {
    watch.handlerEnded(exit)
    return undefined
  })
}

const runHandler = ({ bound }: Dispatched, command: AnyCommand, collector: Collector): AnyEffect => {
  try {
    // A definition that does not stream has a handler that gives an Effect
    return bound.run(command, collector) as AnyEffect
  } catch (defect) {
    return Effect.die(defect)
  }
}

export const count = (counts: Dispatched["counts"], exit: Exit.Exit<unknown, unknown>): void => {
  if (exit._tag === "Success") counts.succeeded++
  else if (Exit.hasInterrupts(exit)) counts.interrupted++
  else counts.failed++
}
