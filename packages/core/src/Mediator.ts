/**
 * The mediator: sends a command to its handler through the flow that lists it,
 * has the events that the handler collected processed, and returns the response.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Str from "effect/String"
import * as Command from "./Command.ts"
import { type EventFlowError, isEventFlowError } from "./EventFlowError.ts"
import type { MiddlewareErrors, MiddlewareRequires } from "./internal/definition/commandTypes.ts"
import { leavesOf } from "./internal/definition/leaves.ts"
import { composeMiddleware } from "./internal/definition/middlewareList.ts"
import { InFlight } from "./internal/dispatch/inFlight.ts"
import type { Mediator } from "./internal/dispatch/mediatorId.ts"
import * as Send from "./internal/dispatch/send.ts"
import type * as Middleware from "./Middleware.ts"
import * as Settings from "./Settings.ts"

/**
 * The mediator that runs a dispatch, in the `R` of `EventEmitter.emit` and
 * `EventProcessor.process`: only a dispatch can run them, since the handlers of
 * events may send commands. Never constructed.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type { Mediator }

/**
 * The response of a command, beside what became of its events.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Settled<out Success, out EventsError> {
  readonly response: Success
  /** Success when all events and their follow-ups were processed. A defect of an event handler is here, too. */
  readonly events: Exit.Exit<void, EventsError>
}

/**
 * Sends a command or query.
 *
 * **Details**
 *
 * The handler runs first; when it has succeeded, the events that it collected
 * are processed, with all their follow-ups; then the response is returned (F1).
 * A handler that fails emits nothing (F2). The command goes through the flow
 * that lists it (F19). Errors: the command's own, its middleware's, and
 * `EventFlowError` when it declares `emits`. After the flow is closed, it dies
 * with `FlowClosed`.
 *
 * **Example** (Sending a command)
 *
 * ```ts
 * import { Command, Mediator } from "@event-flow/core"
 * import { Effect, Schema } from "effect"
 *
 * class JoinMeeting extends Command.Class<JoinMeeting>()("JoinMeeting", {
 *   payload: { meetingId: Schema.String, userId: Schema.String },
 *   success: Schema.Int
 * }) {}
 *
 * const program = Effect.gen(function*() {
 *   const seats = yield* Mediator.send(new JoinMeeting({ meetingId: "effect-days", userId: "Ada" }))
 *   yield* Effect.log(`${seats} seats left`)
 * })
 * ```
 *
 * @stability unstable
 * @category sending
 * @since 0.1.0
 */
export const send = <C extends Command.Any<"single">>(
  command: C
): Effect.Effect<Command.Success<C>, Command.SendError<C>, Command.Requires<C>> =>
  // The layer of the command's handler was checked against its definition
  Send.send(command, undefined) as Effect.Effect<Command.Success<C>, Command.SendError<C>, Command.Requires<C>>

/**
 * Sends a command and gives its response together with what became of its
 * events: for a command that has taken effect even if an event handler fails.
 *
 * **Details**
 *
 * It fails only with the errors of the handler and of the middleware.
 *
 * **Gotchas**
 *
 * Middleware sees the failure of an event as with `send`: `Transactional` of the
 * SQL layer rolls back, `Middleware.retry` tries again.
 *
 * **Example** (An answer in any case)
 *
 * ```ts
 * import { Command, DomainEvent, Mediator } from "@event-flow/core"
 * import { Effect, Exit, Schema } from "effect"
 *
 * class OrderPlaced extends DomainEvent.Class<OrderPlaced>()("OrderPlaced", { id: Schema.String }) {}
 * class PlaceOrder extends Command.Class<PlaceOrder>()("PlaceOrder", {
 *   payload: { id: Schema.String },
 *   success: Schema.Int,
 *   emits: [OrderPlaced]
 * }) {}
 *
 * const program = Effect.gen(function*() {
 *   const { response, events } = yield* Mediator.sendSettled(new PlaceOrder({ id: "7" }))
 *   if (Exit.isFailure(events)) yield* Effect.logWarning("The order is placed, its mail is not sent", events.cause)
 *   return response
 * })
 * ```
 *
 * @stability unstable
 * @category sending
 * @since 0.1.0
 */
export const sendSettled = <C extends Command.Any<"single">>(
  command: C
): Effect.Effect<Settled<Command.Success<C>, Command.EventsError<C>>, Command.Error<C>, Command.Requires<C>> =>
  // As in `send`
  Send.sendSettled(command, undefined) as Effect.Effect<
    Settled<Command.Success<C>, Command.EventsError<C>>,
    Command.Error<C>,
    Command.Requires<C>
  >

/**
 * Sends a streaming command. Each element is handed on when the events that
 * were collected for it are processed.
 *
 * **Details**
 *
 * The command runs in a fiber of its own, from the first element that is asked
 * for until its stream ends or has had enough; closing the flow ends it.
 *
 * @stability unstable
 * @category sending
 * @since 0.1.0
 */
export const stream = <C extends Command.Any<"stream">>(
  command: C
): Stream.Stream<Command.Success<C>, Command.SendError<C>, Command.Requires<C>> =>
  // As in `send`
  Send.stream(command, undefined) as Stream.Stream<Command.Success<C>, Command.SendError<C>, Command.Requires<C>>

/**
 * What a mediator of your own does. `MiddlewareError` and `Provides` are those of
 * its middleware; `Self` is what is required besides.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface MediatorService<out MiddlewareError, out Provides, out Self = never> {
  /** See `Mediator.send`. */
  readonly send: <C extends Command.Any<"single">>(
    command: C
  ) => Effect.Effect<
    Command.Success<C>,
    Command.SendError<C> | MiddlewareError,
    Self | Exclude<Command.Requires<C>, Provides>
  >
  /** See `Mediator.sendSettled`. */
  readonly sendSettled: <C extends Command.Any<"single">>(
    command: C
  ) => Effect.Effect<
    Settled<Command.Success<C>, Command.EventsError<C>>,
    Command.Error<C> | MiddlewareError,
    Self | Exclude<Command.Requires<C>, Provides>
  >
  /** See `Mediator.stream`. */
  readonly stream: <C extends Command.Any<"stream">>(
    command: C
  ) => Stream.Stream<
    Command.Success<C>,
    Command.SendError<C> | MiddlewareError,
    Self | Exclude<Command.Requires<C>, Provides>
  >
}

/**
 * The settings of a mediator of your own, as fields of a schema; see `Options`.
 *
 * @stability unstable
 * @category settings
 * @since 0.1.0
 */
export const fields = {
  /**
   * How long closing the layer waits for sends that are running, before it
   * interrupts the fibers that wait for them (F11). Default: 30 seconds.
   */
  drainTimeout: Settings.withDefault(Settings.duration({ minimum: 0, infinite: true }), "30 seconds")
}

/**
 * Options of a mediator of your own.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options extends Schema.Struct.Encoded<typeof fields> {}

/**
 * A mediator of your own: middleware around everything that is sent through it,
 * outermost first, outside of the middleware of the commands. Its errors are in
 * the type of everything that is sent through it; what it provides is no longer
 * asked of the sender.
 *
 * **Example** (A mediator that knows the user)
 *
 * ```ts
 * import { Command, Mediator, Middleware } from "@event-flow/core"
 * import { Context, Effect, Layer, Schema } from "effect"
 *
 * class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
 * class CurrentUser extends Context.Service<CurrentUser, { readonly name: string }>()("app/CurrentUser") {}
 * class Authenticate extends Middleware.Service<Authenticate>()("app/Authenticate", {
 *   provides: [CurrentUser],
 *   error: Denied
 * }) {}
 * class Rename extends Command.Class<Rename>()("Rename", {
 *   payload: { name: Schema.String },
 *   requires: [CurrentUser]
 * }) {}
 *
 * class AppMediator extends Mediator.Service<AppMediator>()("app/Mediator", { middleware: [Authenticate] }) {}
 *
 * const AppMediatorLive = AppMediator.layer().pipe(
 *   Layer.provide(Layer.succeed(Authenticate)((effect) => Effect.provideService(effect, CurrentUser, { name: "Ada" })))
 * )
 *
 * // It may fail with Denied, and requires AppMediator and a flow that lists Rename, but no CurrentUser
 * const program = AppMediator.send(new Rename({ name: "Grace" }))
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
  const service = Context.Service<Self, Send.ErasedMediator>(id)
  const settings = Settings.make(`mediator "${id}"`, { prefix: Str.configCase(id), schema: Schema.Struct(fields) })
  return Object.assign(service, {
    middleware: options.middleware,
    send: (command: Command.Any) => service.use((mediator) => mediator.send(command)),
    sendSettled: (command: Command.Any) => service.use((mediator) => mediator.sendSettled(command)),
    stream: (command: Command.Any) => Stream.unwrap(service.useSync((mediator) => mediator.stream(command))),
    failureSchema: (command: Command.AnyClass) =>
      Schema.Union(leavesOf([Command.failureSchema(command), ...options.middleware.map((one) => one.error)])),
    layer: (layerOptions?: Options) =>
      Layer.effect(
        service,
        Effect.gen(function*() {
          const { drainTimeout } = yield* settings.check(layerOptions ?? {})
          const context = yield* Effect.context<never>()
          const inFlight = new InFlight()
          yield* Effect.addFinalizer(() => inFlight.drain(drainTimeout, settings.name))
          return Send.mediatorOf({ middleware: composeMiddleware(options.middleware, context, []), inFlight })
        })
      )
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
  extends
    Context.Service<Self, MediatorService<MiddlewareErrors<M>, M[number]["~provides"]>>,
    MediatorService<MiddlewareErrors<M>, M[number]["~provides"], Self>
{
  new(_: never): Context.ServiceClass.Shape<Id, MediatorService<MiddlewareErrors<M>, M[number]["~provides"]>>
  readonly middleware: M
  /** Everything that sending a command through this mediator can fail with; see `Command.failureSchema`. */
  readonly failureSchema: <C extends Command.AnyClass>(
    command: C
  ) => Command.FailureSchema<C, M[number]["error"]>
  readonly layer: (
    options?: Options
  ) => Layer.Layer<Self, Settings.InvalidSetting, M[number]["~service"] | MiddlewareRequires<M>>
}

/**
 * Whether a failure of sending a command is one of the infrastructure: of its
 * events (`EventFlowError`) or of its middleware, and not one that the command
 * itself declares. For `Effect.catchIf`, with the command's class first.
 *
 * **Example** (503 for every failure of the infrastructure)
 *
 * ```ts
 * import { Command, DomainEvent, Mediator } from "@event-flow/core"
 * import { Effect, Schema } from "effect"
 *
 * class Taken extends Schema.TaggedError<Taken>()("Taken", {}) {}
 * class ServiceUnavailable extends Schema.TaggedError<ServiceUnavailable>()("ServiceUnavailable", {}) {}
 * class VisitBooked extends DomainEvent.Class<VisitBooked>()("VisitBooked", {}) {}
 * class BookVisit extends Command.Class<BookVisit>()("BookVisit", { error: Taken, emits: [VisitBooked] }) {}
 *
 * // What is left to handle: Taken and ServiceUnavailable
 * const response = Mediator.send(new BookVisit()).pipe(
 *   Effect.catchIf(Mediator.isInfrastructureError(BookVisit), () => Effect.fail(new ServiceUnavailable()))
 * )
 * ```
 *
 * @stability unstable
 * @category guards
 * @since 0.1.0
 */
export const isInfrastructureError = <C extends Command.AnyClass>(command: C) => {
  const isOwn = Schema.is(command.errorSchema)
  const ofMiddleware = command.middleware.map((one) => Schema.is(one.error))
  return (
    error: unknown
  ): error is MiddlewareErrors<C["middleware"]> | (C["emits"] extends readonly [] ? never : EventFlowError) =>
    !isOwn(error) && (isEventFlowError(error) || ofMiddleware.some((is) => is(error)))
}
