/**
 * The mediator: sends a command to its handler, has the events that the handler
 * collected processed, and returns the response.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Command from "./Command.ts"
import * as Correlation from "./Correlation.ts"
import * as EventProcessor from "./EventProcessor.ts"
import * as FlowObserver from "./FlowObserver.ts"
import { Collector } from "./internal/collector.ts"
import { Flow, handlerContext } from "./internal/flowContext.ts"
import { InFlight } from "./internal/inFlight.ts"
import { observeHandler } from "./internal/observe.ts"
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
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class Mediator extends Context.Service<Mediator, MediatorService>()("@event-flow/core/Mediator") {}

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
  readonly send: <C extends Command.Any<"single">>(
    command: C
  ) => Effect.Effect<
    Command.Success<C>,
    Command.SendError<C> | Middleware.Errors<M>,
    Self | Exclude<Command.Requires<C>, M[number]["~provides"]>
  >
  readonly stream: <C extends Command.Any<"stream">>(
    command: C
  ) => Stream.Stream<
    Command.Success<C>,
    Command.SendError<C> | Middleware.Errors<M>,
    Self | Exclude<Command.Requires<C>, M[number]["~provides"]>
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
  Effect.withFiber((fiber) => Context.getUnsafe(fiber.context as Context.Context<Self>, service).send(command))

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
  const processor = yield* EventProcessor.EventProcessor
  const observer = yield* FlowObserver.Current
  const { metrics } = yield* Telemetry.Settings
  const context = yield* Effect.context<never>()
  const own = Middleware.compose(middleware, context)
  const inFlight = new InFlight()
  yield* Effect.addFinalizer(() => inFlight.drain(options?.drainTimeout ?? "30 seconds"))

  const send = (command: Command.Any): AnyEffect =>
    Effect.withFiber((fiber) => {
      const bound = findHandler(fiber.context, command)
      if (inFlight.isClosed) return Effect.interrupt
      const tracing = Telemetry.isTracing(fiber)
      if (
        !tracing && !metrics && own === undefined && bound.middleware === undefined && observer === undefined
      ) {
        return dispatch(fiber, bound, command)
      }
      const effect = wrap(bound, command, (observed) =>
        Effect.withFiber((fiber) =>
          runSingle(fiber, bound, command, observed)
        ))
      return tracked(fiber, Telemetry.command(effect, { tag: command._tag, tracing, metrics }))
    })

  /** The plain path: tracking, handler and events with one continuation frame each. */
  const dispatch = (fiber: AnyFiber, bound: Command.Bound, command: Command.Any): AnyEffect => {
    const sending = inFlight.add(fiber)
    const caller = fiber.context
    const base = inFlow(caller)
    const collector = new Collector()
    const handling = handlerContext(bound.context, base)
    if (handling !== caller) fiber.setContext(handling)
    return Effect.matchCauseEffect(runHandler(bound, command, collector), {
      onSuccess: (response) => {
        const events = collector.close()
        if (events === undefined) {
          end()
          return Effect.succeed(response)
        }
        fiber.setContext(base)
        return Effect.matchCauseEffect(processor.process(events), {
          onSuccess: (_) => {
            end()
            return Effect.succeed(response)
          },
          onFailure
        })
      },
      onFailure
    })

    function onFailure(cause: Cause.Cause<unknown>) {
      collector.close()
      end()
      return Effect.failCause(cause)
    }

    function end() {
      fiber.setContext(caller)
      inFlight.remove(sending)
    }
  }

  /** The same for a dispatch that is wrapped: whoever wraps it tracks it. */
  const runSingle = (
    fiber: AnyFiber,
    bound: Command.Bound,
    command: Command.Any,
    observe: Observe
  ): AnyEffect => {
    const collector = new Collector()
    const base = fiber.context
    const handler = Effect.onExit(
      observe(
        collector,
        withContext(runHandler(bound, command, collector), (context) => handlerContext(bound.context, context))
      ),
      () => Effect.sync(() => collector.close())
    )
    return Effect.flatMap(handler, (response) =>
      collector.events === undefined
        ? Effect.succeed(response)
        : Effect.as(withContext(processor.process(collector.events), () => base), response))
  }

  const tracked = <A, E, R>(fiber: AnyFiber, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const sending = inFlight.add(fiber)
    return Effect.onExit(effect, () => Effect.sync(() => inFlight.remove(sending)))
  }

  /** Middleware around a dispatch, the mediator's own outermost, in a flow. */
  const wrap = (bound: Command.Bound, command: Command.Any, run: (observe: Observe) => AnyEffect): AnyEffect => {
    const info: Middleware.Info = { tag: command._tag, command }
    const observed = observer === undefined ? run(unobserved) : observeCommand(observer, command, run)
    const inner = bound.middleware === undefined
      ? observed
      : withContext(bound.middleware(observed, info), (context) => handlerContext(bound.context, context))
    const outer = own === undefined ? inner : own(inner, info)
    return withContext(outer, inFlow)
  }

  const stream = (command: Command.Any): Stream.Stream<unknown, unknown> =>
    Stream.unwrap(Effect.withFiber((fiber) => {
      const bound = findHandler(fiber.context, command)
      if (inFlight.isClosed) return Effect.interrupt
      const tracing = Telemetry.isTracing(fiber)
      if (!tracing && !metrics && own === undefined && bound.middleware === undefined && observer === undefined) {
        return Effect.as(
          Effect.acquireRelease(
            Effect.sync(() => inFlight.add(fiber)),
            (sending) => Effect.sync(() => inFlight.remove(sending))
          ),
          withStreamContext(elements(bound, command, unobservedStream), inFlow)
        )
      }
      // Middleware wraps effects: the stream runs inside of one and hands each
      // element over when it is asked for the next
      return Effect.succeed(handOver((queue) => {
        const effect = wrap(bound, command, (observe) =>
          Stream.runForEach(
            elements(
              bound,
              command,
              (collector, stream) => Stream.unwrap(Effect.as(observe(collector, Effect.void), stream))
            ),
            (element) => Queue.offer(queue, element)
          ))
        return tracked(fiber, Telemetry.command(effect, { tag: command._tag, tracing, metrics }))
      }))
    }))

  /** The elements of a streaming handler; the events of each are processed before it is handed on. */
  const elements = (
    bound: Command.Bound,
    command: Command.Any,
    observe: (collector: Collector, stream: Stream.Stream<unknown, unknown>) => Stream.Stream<unknown, unknown>
  ): Stream.Stream<unknown, unknown> =>
    Stream.suspend(() => {
      const collector = new Collector()
      const processCollected = Effect.suspend(() => {
        const events = collector.take()
        return events === undefined ? Effect.void : processor.process(events)
      })
      const handled = withStreamContext(
        observe(collector, runStream(bound, command, collector)),
        (context) => handlerContext(bound.context, context)
      )
      return handled.pipe(
        Stream.rechunk(1),
        Stream.tap(() => processCollected),
        Stream.concat(Stream.fromEffectDrain(processCollected)),
        Stream.ensuring(Effect.sync(() => collector.close()))
      )
    })

  return { send, stream }
})

type AnyFiber = Fiber.Fiber<unknown, unknown>

type Observe = (collector: Collector, handler: AnyEffect) => AnyEffect

const unobserved: Observe = (_collector, handler) => handler

const unobservedStream = (_collector: Collector, stream: Stream.Stream<unknown, unknown>) => stream

type ChangeContext = (context: Context.Context<never>) => Context.Context<never>

const withContext = <A, E>(effect: Effect.Effect<A, E>, change: ChangeContext): Effect.Effect<A, E> =>
  Effect.updateContext<A, E, never, never>(effect, change)

const withStreamContext = <A, E>(stream: Stream.Stream<A, E>, change: ChangeContext): Stream.Stream<A, E> =>
  Stream.updateContext<A, E, never, never>(stream, change)

/** A dispatch that sends starts a flow, unless it is part of one. */
const inFlow = (caller: Context.Context<never>): Context.Context<never> =>
  Context.get(caller, Correlation.Current) === undefined ? new Flow(caller).context : caller

const findHandler = (context: Context.Context<never>, command: Command.Any): Command.Bound => {
  const definition = Command.definitionOf(command)
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
  run: (observe: Observe) => AnyEffect
): AnyEffect =>
  Effect.withFiber((fiber) => {
    const parent = Context.get(fiber.context, FlowObserver.CurrentRun)
    let last: object | undefined
    const effect = run((collector, handler) =>
      observeHandler(observer, collector, handler, (run) => {
        last = run
        observer.commandStarted(run, command, parent)
      })
    )
    return Effect.onExit(effect, (exit) =>
      Effect.sync(() => {
        if (last !== undefined) observer.commandEnded(last, exit)
      }))
  })

/** A stream of what an effect offers: the effect goes on when an element was taken. */
const handOver = (
  run: (queue: Queue.Enqueue<unknown, unknown>) => AnyEffect
): Stream.Stream<unknown, unknown> =>
  Stream.callback<unknown, unknown>(
    (queue) =>
      Effect.flatMap(Effect.exit(run(queue)), (exit) =>
        Exit.isSuccess(exit) ? Queue.end(queue) : Queue.failCause(queue, exit.cause)),
    { bufferSize: 1, strategy: "suspend" }
  )
