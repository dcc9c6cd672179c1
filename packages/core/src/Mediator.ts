/**
 * The mediator: sends a command to its handler, has the events that the handler
 * collected processed, and returns the response.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Command from "./Command.ts"
import * as Correlation from "./Correlation.ts"
import type * as Event from "./Event.ts"
import type { EventFlowError } from "./EventFlowError.ts"
import * as EventProcessor from "./EventProcessor.ts"
import * as FlowObserver from "./FlowObserver.ts"
import { CapturedContext } from "./internal/capturedContext.ts"
import { Collector } from "./internal/collector.ts"
import { Dispatch } from "./internal/dispatch.ts"
import { Flow, handlerContext, inFlow } from "./internal/flowContext.ts"
import { InFlight } from "./internal/inFlight.ts"
import type * as MediatorId from "./internal/mediatorId.ts"
import { withShortcut } from "./internal/shortcut.ts"
import * as Middleware from "./Middleware.ts"
import * as Telemetry from "./Telemetry.ts"

/**
 * What a mediator does; `MiddlewareError` and `Provides` are those of its own
 * middleware.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface MediatorService<out MiddlewareError = never, out Provides = never> {
  /** Sends a command or query, waits for its events, and gives its response. */
  readonly send: <C extends Command.Any<"single">>(
    command: C
  ) => Effect.Effect<
    Command.Success<C>,
    Command.SendError<C> | MiddlewareError,
    Exclude<Command.Requires<C>, Provides>
  >
  /** Sends a streaming command: each element is handed on when its events are processed. */
  readonly stream: <C extends Command.Any<"stream">>(
    command: C
  ) => Stream.Stream<
    Command.Success<C>,
    Command.SendError<C> | MiddlewareError,
    Exclude<Command.Requires<C>, Provides>
  >
}

/**
 * The mediator of a program.
 *
 * **Details**
 *
 * A handler may send commands itself, at any depth (F5). The mediator that runs
 * it is in its context, so it is not asked of the handler's layer.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export type Mediator = MediatorId.Mediator

/**
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export const Mediator: Context.Service<Mediator, MediatorService> = Context.Service<Mediator, MediatorService>(
  "@event-flow/core/Mediator"
)

/**
 * Options of a mediator.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How long closing the layer waits for sends that are running, before it
   * interrupts the fibers that wait for them (F11). Default: 30 seconds.
   */
  readonly drainTimeout?: Duration.Input | undefined
}

/**
 * Sends a command or query through the program's mediator.
 *
 * **Details**
 *
 * The handler runs first; when it has succeeded, the events that it collected
 * are processed, with all their follow-ups; then the response is returned (F1).
 * A handler that fails emits nothing (F2). Errors: the command's own, and
 * `EventFlowError` when it declares `emits`.
 *
 * **Example** (Sending a command)
 *
 * ```ts
 * const seats = yield* Mediator.send(new JoinMeeting({ meetingId, userId }))
 * ```
 *
 * @stability unstable
 * @category sending
 * @since 0.1.0
 */
export const send = <C extends Command.Any<"single">>(
  command: C
): Effect.Effect<Command.Success<C>, Command.SendError<C>, Mediator | Command.Requires<C>> =>
  sendWith(Mediator, command)

/**
 * Sends a streaming command through the program's mediator. Each element is
 * handed on when the events that were collected for it are processed.
 *
 * @stability unstable
 * @category sending
 * @since 0.1.0
 */
export const stream = <C extends Command.Any<"stream">>(
  command: C
): Stream.Stream<Command.Success<C>, Command.SendError<C>, Mediator | Command.Requires<C>> =>
  streamWith(Mediator, command)

/**
 * The program's mediator, without middleware of its own.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Mediator, never, EventProcessor.EventProcessor> =>
  Layer.effect(Mediator, makeTyped<never, never>([], options))

/**
 * A mediator with middleware of its own, outermost first, which wraps that of
 * the commands. Its errors are in the type of everything that is sent through
 * it; what it provides is no longer asked of the sender.
 *
 * **Example** (A mediator that knows the user)
 *
 * ```ts
 * class AppMediator extends Mediator.Service<AppMediator>()("app/Mediator", { middleware: [Authenticate] }) {}
 *
 * const program = AppMediator.send(new Rename({ name: "x" })) // may fail with Denied
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const Service = <Self>() =>
<const Id extends string, const M extends ReadonlyArray<Middleware.Any>>(
  id: Id,
  options: { readonly middleware: M }
): ServiceClass<Self, Id, M> => {
  const service = Context.Service<Self, MediatorService<never, never>>(id)
  return Object.assign(service, {
    middleware: options.middleware,
    send: (command: Command.Any<"single">) => sendWith(service, command),
    stream: (command: Command.Any<"stream">) => streamWith(service, command),
    layer: (layerOptions?: Options) => Layer.effect(service, makeTyped<never, never>(options.middleware, layerOptions))
    // The signatures of the interface say what the list of middleware does to types
  }) as unknown as ServiceClass<Self, Id, M>
}

/**
 * The class that `Service` makes.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface ServiceClass<Self, Id extends string, M extends ReadonlyArray<Middleware.Any>>
  extends Context.Service<Self, MediatorService<Middleware.Errors<M>, M[number]["~provides"]>>
{
  new(_: never): Context.ServiceClass.Shape<Id, MediatorService<Middleware.Errors<M>, M[number]["~provides"]>>
  readonly middleware: M
  /** Also requires the program's `Mediator`, for what handlers send themselves. */
  readonly send: <C extends Command.Any<"single">>(
    command: C
  ) => Effect.Effect<
    Command.Success<C>,
    Command.SendError<C> | Middleware.Errors<M>,
    Self | Mediator | Exclude<Command.Requires<C>, M[number]["~provides"]>
  >
  readonly stream: <C extends Command.Any<"stream">>(
    command: C
  ) => Stream.Stream<
    Command.Success<C>,
    Command.SendError<C> | Middleware.Errors<M>,
    Self | Mediator | Exclude<Command.Requires<C>, M[number]["~provides"]>
  >
  readonly layer: (
    options?: Options
  ) => Layer.Layer<
    Self,
    never,
    EventProcessor.EventProcessor | Middleware.Services<M> | Middleware.ApplyServices<M, never>
  >
}

// --- internal ---

const sendWith = <Self, C extends Command.Any<"single">, E, P>(
  service: Context.Key<Self, MediatorService<E, P>>,
  command: C
): Effect.Effect<Command.Success<C>, Command.SendError<C> | E, Self | Exclude<Command.Requires<C>, P>> =>
  Effect.withFiber((fiber) => {
    const mediator: MediatorService<E, P> & Partial<Immediate> = Context.getUnsafe(
      fiber.context as Context.Context<Self>,
      service
    )
    // Ours is already in the fiber that it needs; a user's own may be anything
    return mediator[sendInFiber] === undefined
      ? mediator.send(command)
      : mediator[sendInFiber](fiber, command) as ReturnType<typeof mediator.send<C>>
  })

/** The way into our own mediator for a caller that has the running fiber at hand. */
const sendInFiber: unique symbol = Symbol("@event-flow/core/Mediator/sendInFiber")

interface Immediate {
  readonly [sendInFiber]: (fiber: AnyFiber, command: Command.Any) => AnyEffect
}

const streamWith = <Self, C extends Command.Any<"stream">, E, P>(
  service: Context.Key<Self, MediatorService<E, P>>,
  command: C
): Stream.Stream<Command.Success<C>, Command.SendError<C> | E, Self | Exclude<Command.Requires<C>, P>> =>
  Stream.unwrap(Effect.map(service, (mediator) => mediator.stream(command)))

type AnyEffect = Effect.Effect<unknown, unknown>

/**
 * The cast from the erased implementation to a mediator's typed service: what a
 * command's definition says of success and errors, its handler's layer was
 * checked against.
 */
const makeTyped = <E, P>(
  middleware: ReadonlyArray<Middleware.Any>,
  options: Options | undefined
): Effect.Effect<MediatorService<E, P>, never, EventProcessor.EventProcessor | Scope.Scope> =>
  Effect.map(
    make(middleware, options),
    (mediator) => mediator as unknown as MediatorService<E, P>
  )

const make = Effect.fnUntraced(function*(middleware: ReadonlyArray<Middleware.Any>, options: Options | undefined) {
  const processor: EventProcessor.EventProcessor["Service"] & Partial<EventProcessor.InDispatch> = yield* EventProcessor
    .EventProcessor
  const observer = yield* FlowObserver.Current
  const { metrics } = yield* Telemetry.Settings
  const context = yield* Effect.context<never>()
  const own = Middleware.compose(middleware, context)
  const captured = new CapturedContext(context)
  const inFlight = new InFlight()
  yield* Effect.addFinalizer(() => inFlight.drain(options?.drainTimeout ?? "30 seconds"))

  // Whoever sends has a mediator in its context (see `addMediator`)
  const processAll = processor.process as (events: ReadonlyArray<Event.Any>) => Effect.Effect<void, EventFlowError>

  const process: EventProcessor.InDispatch[typeof EventProcessor.processInDispatch] =
    processor[EventProcessor.processInDispatch] ??
      ((dispatch, events, next) => {
        dispatch.fiber.setContext(dispatch.context)
        return Effect.flatMap(processAll(events), next)
      })

  const isPlain = !metrics && own === undefined && observer === undefined

  const send = (fiber: AnyFiber, command: Command.Any): AnyEffect => {
    const bound = findHandler(fiber.context, command)
    if (inFlight.isClosed) return Effect.interrupt
    const tracing = Telemetry.isTracing(fiber)
    if (isPlain && !tracing && bound.middleware === undefined) return runPlain(fiber, bound, command)
    const effect = wrap(
      bound,
      command,
      (watch) => Effect.suspend(() => runSingle(bound, command, watch))
    )
    return tracked(fiber, Telemetry.command(effect, { tag: command._tag, tracing, metrics }))
  }

  /**
   * The plain path. What must happen on every exit is in one frame at the end:
   * interruption skips all other continuations.
   */
  const runPlain = (fiber: AnyFiber, bound: Command.Bound, command: Command.Any): AnyEffect => {
    const dispatch = new Dispatch(fiber)
    // Nothing has a side effect before the frame that undoes it: the run loop
    // may yield, and be interrupted, between any two effects
    const dispatched = Effect.suspend(() => {
      inFlight.add(dispatch)
      const caller = dispatch.caller
      const flow = Context.get(caller, Correlation.Current) === undefined ? new Flow(caller) : undefined
      dispatch.flow = flow
      const collector = new Collector(dispatch)
      fiber.setContext(flow?.handlerContext(bound.context) ?? handlerContext(bound.context, caller))
      const handling = runHandler(bound, command, collector)
      if (bound.definition.emits.length === 0) return handling
      return Effect.flatMap(handling, (response) => {
        const events = collector.close()
        if (events === undefined) return Effect.succeed(response)
        if (flow !== undefined) dispatch.context = flow.context
        return process(dispatch, events, () => Effect.succeed(response))
      })
    })
    return Effect.onExitPrimitive(dispatched, () => {
      dispatch.end()
      inFlight.remove(dispatch)
      return undefined
    })
  }

  /** The same for a dispatch that is wrapped: whoever wraps it tracks it. */
  const runSingle = (
    bound: Command.Bound,
    command: Command.Any,
    watch: Watch | undefined
  ): AnyEffect => {
    const collector = new Collector()
    const handler = Effect.onExit(
      withContext(runHandler(bound, command, collector), (context) => handlerContext(bound.context, context)),
      (exit) =>
        Effect.sync(() => {
          collector.close()
          watch?.handled(exit)
        })
    )
    return Effect.flatMap(handler, (response) => {
      const events = collector.events
      if (events === undefined) return Effect.succeed(response)
      watch?.collected(events)
      return Effect.as(processAll(events), response)
    })
  }

  const tracked = <A, E, R>(fiber: AnyFiber, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const sending = new Dispatch(fiber)
    return Effect.onExit(
      Effect.suspend(() => {
        inFlight.add(sending)
        return effect
      }),
      () => Effect.sync(() => inFlight.remove(sending))
    )
  }

  /** Middleware around a dispatch, the mediator's own outermost, in a flow. */
  const wrap = (
    bound: Command.Bound,
    command: Command.Any,
    run: (watch: Watch | undefined) => AnyEffect
  ): AnyEffect => {
    const info: Middleware.Info = { tag: command._tag, command }
    const wrapped = (watch: Watch | undefined) => {
      const inner = bound.middleware === undefined
        ? run(watch)
        : withContext(bound.middleware(run(watch), info), (context) => handlerContext(bound.context, context))
      return own === undefined ? inner : withContext(own(inner, info), (context) => handlerContext(captured, context))
    }
    return withContext(
      observer === undefined ? wrapped(undefined) : observeCommand(observer, command, wrapped),
      inFlow
    )
  }

  const stream = (command: Command.Any): Stream.Stream<unknown, unknown> =>
    Stream.unwrap(Effect.withFiber((fiber) => {
      const bound = findHandler(fiber.context, command)
      if (inFlight.isClosed) return Effect.interrupt
      const tracing = Telemetry.isTracing(fiber)
      const isWrapped = !isPlain || tracing || bound.middleware !== undefined
      // Middleware wraps effects: the stream runs inside of one and hands each
      // element over when it is asked for the next
      const running = isWrapped
        ? handOver((offer) =>
          Telemetry.command(
            wrap(bound, command, (watch) => Stream.runForEach(elements(bound, command, watch), offer)),
            { tag: command._tag, tracing, metrics }
          )
        )
        : withStreamContext(elements(bound, command, undefined), inFlow)
      const sending = new Dispatch(fiber)
      return Effect.as(
        Effect.acquireRelease(
          Effect.sync(() => inFlight.add(sending)),
          () => Effect.sync(() => inFlight.remove(sending))
        ),
        running
      )
    }))

  /** The elements of a streaming handler; the events of each are processed before it is handed on. */
  const elements = (
    bound: Command.Bound,
    command: Command.Any,
    watch: Watch | undefined
  ): Stream.Stream<unknown, unknown> =>
    Stream.suspend(() => {
      const collector = new Collector()
      const processCollected = Effect.suspend(() => {
        const events = collector.take()
        if (events === undefined) return Effect.void
        watch?.collected(events)
        return processAll(events)
      })
      const handled = withStreamContext(
        watch === undefined
          ? runStream(bound, command, collector)
          : Stream.onExit(runStream(bound, command, collector), (exit) => Effect.sync(() => watch.handled(exit))),
        (context) => handlerContext(bound.context, context)
      )
      return handled.pipe(
        Stream.rechunk(1),
        Stream.tap(() => processCollected),
        Stream.concat(Stream.fromEffectDrain(processCollected)),
        Stream.ensuring(Effect.sync(() => collector.close()))
      )
    })

  // Handlers may send: whoever holds the service and not its key has them find
  // this mediator
  const mediator = withShortcut(
    {
      send: (command: Command.Any): AnyEffect =>
        Effect.withFiber((fiber) =>
          hasMediator(fiber) ? send(fiber, command) : withContext(
            Effect.withFiber((fiber) => send(fiber, command)),
            addMediator
          )
        ),
      stream: (command: Command.Any): Stream.Stream<unknown, unknown> =>
        Stream.unwrap(
          Effect.withFiber((fiber) =>
            Effect.succeed(hasMediator(fiber) ? stream(command) : withStreamContext(stream(command), addMediator))
          )
        )
    },
    sendInFiber,
    send
  )
  const addMediator = (context: Context.Context<never>): Context.Context<never> =>
    Context.add(context, Mediator, mediator as unknown as MediatorService)
  return mediator
})

const hasMediator = (fiber: AnyFiber): boolean => Context.getOrUndefined(fiber.context, Mediator) !== undefined

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** Reports one dispatch to the observer. */
interface Watch {
  readonly handled: (exit: Exit.Exit<unknown, unknown>) => void
  readonly collected: (events: ReadonlyArray<Event.Any>) => void
}

type ChangeContext = (context: Context.Context<never>) => Context.Context<never>

const withContext = <A, E>(effect: Effect.Effect<A, E>, change: ChangeContext): Effect.Effect<A, E> =>
  Effect.updateContext<A, E, never, never>(effect, change)

const withStreamContext = <A, E>(stream: Stream.Stream<A, E>, change: ChangeContext): Stream.Stream<A, E> =>
  Stream.updateContext<A, E, never, never>(stream, change)

const findHandler = (context: Context.Context<never>, command: Command.Any): Command.Bound => {
  const definition: Command.AnyClass | undefined = Command.definitionOf(command)
  if (definition === undefined) {
    throw new Error(
      `"${command._tag}" is a plain object with the fields of a command, such as a copy by spread: ` +
        `make it with new ${command._tag}({ ... })`
    )
  }
  const bound = Context.getOrUndefined(context, definition.handlerKey)
  if (bound === undefined) {
    // Not reachable without a cast: the type of `send` requires the handler
    throw new Error(`No handler of command "${definition.tag}" is provided: provide the layer from its toLayer`)
  }
  if (bound.definition !== definition) {
    throw new Error(`Two command classes have the tag "${definition.tag}": rename one`)
  }
  return bound
}

const runHandler = (bound: Command.Bound, command: Command.Any, collector: Collector): AnyEffect => {
  try {
    return bound.run(command, collector) as AnyEffect
  } catch (defect) {
    return Effect.die(defect)
  }
}

const runStream = (
  bound: Command.Bound,
  command: Command.Any,
  collector: Collector
): Stream.Stream<unknown, unknown> => bound.run(command, collector) as Stream.Stream<unknown, unknown>

const observeCommand = (
  observer: FlowObserver.FlowObserver,
  command: Command.Any,
  dispatch: (watch: Watch) => AnyEffect
): AnyEffect =>
  Effect.withFiber((fiber) => {
    const run = {}
    const effect = dispatch({
      handled: (exit) => observer.commandHandled(run, exit),
      collected: (events) => observer.collected(run, events)
    })
    return Effect.onExit(
      Effect.suspend(() => {
        observer.commandStarted(run, command, Context.get(fiber.context, FlowObserver.CurrentRun))
        return Effect.provideService(effect, FlowObserver.CurrentRun, run)
      }),
      (exit) => Effect.sync(() => observer.commandEnded(run, exit))
    )
  })

/** A stream of what an effect offers: the effect goes on when the next element is asked for. */
const handOver = (
  run: (offer: (element: unknown) => Effect.Effect<void>) => AnyEffect
): Stream.Stream<unknown, unknown> =>
  Stream.suspend(() => {
    const demand = Semaphore.makeUnsafe(0)
    const asked = demand.take(1)
    const produced = Stream.callback<unknown, unknown>(
      (queue) =>
        Effect.flatMap(
          Effect.exit(Effect.andThen(asked, run((element) => Effect.andThen(Queue.offer(queue, element), asked)))),
          (exit) => Exit.isSuccess(exit) ? Queue.end(queue) : Queue.failCause(queue, exit.cause)
        ),
      { bufferSize: 1, strategy: "suspend" }
    )
    return Stream.scoped(
      Stream.fromPull(Effect.map(Stream.toPull(produced), (pull) => Effect.andThen(demand.release(1), pull)))
    )
  })
