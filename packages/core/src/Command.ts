/**
 * A command: a request to do something, with a typed response, typed errors and
 * the list of events that doing it may give rise to.
 *
 * The definition is data (a Schema class); its behaviour is a layer.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Collect } from "./Collect.ts"
import type * as Event from "./Event.ts"
import type { EventFlowError } from "./EventFlowError.ts"
import { CapturedContext } from "./internal/capturedContext.ts"
import type { Collector } from "./internal/collector.ts"
import type { ConstructorArguments, MissingSelf } from "./internal/eventClass.ts"
import type { Mediator } from "./internal/mediatorId.ts"
import * as SchemaClass from "./internal/schemaClass.ts"
import * as Middleware from "./Middleware.ts"

/**
 * @stability unstable
 * @category type ids
 * @since 0.1.0
 */
export const TypeId: "~@event-flow/core/Command" = "~@event-flow/core/Command"

/**
 * What the type of a command instance says about it. It exists in types alone:
 * at run time the hidden member leads to the definition.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Signature<
  out Tag extends string,
  out Success,
  out Error,
  out Emits,
  out Requires,
  out Mode extends "single" | "stream"
> {
  readonly tag: Tag
  readonly success: Success
  readonly error: Error
  readonly emits: Emits
  readonly requires: Requires
  readonly mode: Mode
}

/**
 * Any command instance of a mode.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Any<Mode extends "single" | "stream" = "single" | "stream"> {
  readonly _tag: string
  readonly [TypeId]: Signature<string, unknown, unknown, unknown, unknown, Mode>
}

/**
 * Any command class.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface AnyClass {
  readonly [TypeId]: typeof TypeId
  readonly tag: string
  readonly kind: "Command" | "Query"
  readonly stream: boolean
  readonly emits: ReadonlyArray<Event.AnyClass>
  readonly middleware: ReadonlyArray<Middleware.Any>
  readonly payload: Schema.Struct.Fields
  readonly successSchema: Schema.Top
  readonly errorSchema: Schema.Top
  /** Under which a context holds the handler. */
  readonly handlerKey: Context.Key<never, Bound>
}

/**
 * The requirement that a command's handler is provided, in the `R` of
 * `Mediator.send`. Never constructed.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Handler<in out Tag extends string> {
  readonly _: unique symbol
  readonly tag: Tag
}

/**
 * The function that handles a command.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type HandlerFunction<Self, Success, Error, Emits, R> = (
  command: Self,
  context: Collect<Emits>
) => Effect.Effect<Success, Error, R>

/**
 * The function that handles a streaming command.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type StreamHandlerFunction<Self, Success, Error, Emits, R> = (
  command: Self,
  context: Collect<Emits>
) => Stream.Stream<Success, Error, R>

/**
 * What the classes of all commands and queries have.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Base<
  Self,
  Tag extends string,
  Fields extends Schema.Struct.Fields,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Emits extends ReadonlyArray<Event.AnyClass>,
  M extends ReadonlyArray<Middleware.Any>
> extends Omit<Schema.Class<Self, Schema.TaggedStruct<Tag, Fields>, {}>, "extend"> {
  readonly [TypeId]: typeof TypeId
  readonly tag: Tag
  readonly kind: "Command" | "Query"
  readonly stream: boolean
  readonly emits: Emits
  readonly middleware: M
  readonly payload: Fields
  readonly successSchema: Success
  readonly errorSchema: Error
  readonly handlerKey: Context.Key<never, Bound>
}

/**
 * The layer of a handler. Whoever runs a handler has sent its command through a
 * mediator, so neither is asked of the layer: a handler may send commands, its
 * own included.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type HandlerLayer<Tag extends string, M extends ReadonlyArray<Middleware.Any>, Requires, R, EX, RX> =
  Layer.Layer<
    Handler<Tag>,
    EX,
    | Exclude<RX, Scope.Scope>
    | Exclude<Middleware.ApplyServices<M, R>, Requires | Mediator | Handler<Tag>>
    | Middleware.Services<M>
  >

/**
 * The services that a handler finds in place when it runs.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Given<Tag extends string, M extends ReadonlyArray<Middleware.Any>, Requires> =
  | Requires
  | M[number]["~provides"]
  | Mediator
  | Handler<Tag>

/**
 * The class of a command or query that gives one response.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Command<
  Self,
  Tag extends string,
  Fields extends Schema.Struct.Fields,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Emits extends ReadonlyArray<Event.AnyClass>,
  M extends ReadonlyArray<Middleware.Any>,
  Requires
> extends Base<Self, Tag, Fields, Success, Error, Emits, M> {
  new(
    ...args: ConstructorArguments<Schema.TaggedStruct<Tag, Fields>>
  ): Instance<Tag, Fields, Success, Error, Emits, M, Requires, "single">

  /**
   * The layer of the command's handler, from the function itself or from an
   * Effect that gives it (dependencies are then resolved once).
   *
   * **Gotchas**
   *
   * As for every service: of two layers of one command, the later one wins.
   */
  // Two signatures: an open R keeps the compiler from typing the parameters of
  // a generator function, a fixed one does not
  toLayer<EX = never, RX = never>(
    build:
      | HandlerFunction<
        Self,
        Success["Type"],
        Error["Type"],
        Event.Instance<Emits[number]>,
        Requires | M[number]["~provides"]
      >
      | Effect.Effect<
        HandlerFunction<
          Self,
          Success["Type"],
          Error["Type"],
          Event.Instance<Emits[number]>,
          Requires | M[number]["~provides"]
        >,
        EX,
        RX
      >
  ): HandlerLayer<Tag, M, Requires, Given<Tag, M, Requires>, EX, RX>
  toLayer<R, EX = never, RX = never>(
    build:
      | HandlerFunction<Self, Success["Type"], Error["Type"], Event.Instance<Emits[number]>, R>
      | Effect.Effect<
        HandlerFunction<Self, Success["Type"], Error["Type"], Event.Instance<Emits[number]>, R>,
        EX,
        RX
      >
  ): HandlerLayer<Tag, M, Requires, R, EX, RX>

  /** Types a handler function that is written apart from its layer. */
  of<R = never>(
    handler: HandlerFunction<Self, Success["Type"], Error["Type"], Event.Instance<Emits[number]>, R>
  ): HandlerFunction<Self, Success["Type"], Error["Type"], Event.Instance<Emits[number]>, R>
}

/**
 * The class of a command or query that answers with a stream.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface StreamCommand<
  Self,
  Tag extends string,
  Fields extends Schema.Struct.Fields,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Emits extends ReadonlyArray<Event.AnyClass>,
  M extends ReadonlyArray<Middleware.Any>,
  Requires
> extends Base<Self, Tag, Fields, Success, Error, Emits, M> {
  new(
    ...args: ConstructorArguments<Schema.TaggedStruct<Tag, Fields>>
  ): Instance<Tag, Fields, Success, Error, Emits, M, Requires, "stream">

  /** The layer of the command's handler; see `Command.toLayer`. */
  toLayer<EX = never, RX = never>(
    build:
      | StreamHandlerFunction<
        Self,
        Success["Type"],
        Error["Type"],
        Event.Instance<Emits[number]>,
        Requires | M[number]["~provides"]
      >
      | Effect.Effect<
        StreamHandlerFunction<
          Self,
          Success["Type"],
          Error["Type"],
          Event.Instance<Emits[number]>,
          Requires | M[number]["~provides"]
        >,
        EX,
        RX
      >
  ): HandlerLayer<Tag, M, Requires, Given<Tag, M, Requires>, EX, RX>
  toLayer<R, EX = never, RX = never>(
    build:
      | StreamHandlerFunction<Self, Success["Type"], Error["Type"], Event.Instance<Emits[number]>, R>
      | Effect.Effect<
        StreamHandlerFunction<Self, Success["Type"], Error["Type"], Event.Instance<Emits[number]>, R>,
        EX,
        RX
      >
  ): HandlerLayer<Tag, M, Requires, R, EX, RX>

  /** Types a handler function that is written apart from its layer. */
  of<R = never>(
    handler: StreamHandlerFunction<Self, Success["Type"], Error["Type"], Event.Instance<Emits[number]>, R>
  ): StreamHandlerFunction<Self, Success["Type"], Error["Type"], Event.Instance<Emits[number]>, R>
}

/**
 * An instance of a command class.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Instance<
  Tag extends string,
  Fields extends Schema.Struct.Fields,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Emits extends ReadonlyArray<Event.AnyClass>,
  M extends ReadonlyArray<Middleware.Any>,
  Requires,
  Mode extends "single" | "stream"
> =
  & Schema.TaggedStruct<Tag, Fields>["Type"]
  & {
    readonly [TypeId]: Signature<
      Tag,
      Success["Type"],
      Error["Type"] | Middleware.Errors<M>,
      Event.Instance<Emits[number]>,
      Requires,
      Mode
    >
  }

/**
 * The class of a command or query, by whether it streams.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type ClassOf<
  Self,
  Tag extends string,
  Fields extends Schema.Struct.Fields,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Emits extends ReadonlyArray<Event.AnyClass>,
  M extends ReadonlyArray<Middleware.Any>,
  Requires extends ReadonlyArray<Context.Key<unknown, unknown>>,
  Stream extends boolean
> = Stream extends true
  ? StreamCommand<Self, Tag, Fields, Success, Error, Emits, M, Context.Service.Identifier<Requires[number]>>
  : Command<Self, Tag, Fields, Success, Error, Emits, M, Context.Service.Identifier<Requires[number]>>

/**
 * Options of a command.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options<
  Fields extends Schema.Struct.Fields,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Emits extends ReadonlyArray<Event.AnyClass>,
  M extends ReadonlyArray<Middleware.Any>,
  Requires extends ReadonlyArray<Context.Key<unknown, unknown>>,
  Stream extends boolean
> {
  /** The fields of the command. Default: none. */
  readonly payload?: Fields | undefined
  /** Schema of the response, or of each element with `stream`. Default: `Schema.Void`. */
  readonly success?: Success | undefined
  /** Schema of the handler's errors. Default: `Schema.Never`, it cannot fail. */
  readonly error?: Error | undefined
  /** The events that the handler may collect. Default: none. */
  readonly emits?: Emits | undefined
  /** Wraps the dispatch, outermost first. Default: none. */
  readonly middleware?: M | undefined
  /**
   * Services that the sender brings, such as the current user: they show in the
   * `R` of `send` and not in that of the handler's layer. Default: none.
   */
  readonly requires?: Requires | undefined
  /** Whether the response is a stream of `success`, sent with `Mediator.stream`. Default: false. */
  readonly stream?: Stream | undefined
}

/**
 * Defines a command.
 *
 * **Example** (A command)
 *
 * ```ts
 * class JoinMeeting extends Command.Class<JoinMeeting>()("JoinMeeting", {
 *   payload: { meetingId: Schema.String, userId: Schema.String },
 *   success: Schema.Int,
 *   error: MeetingFull,
 *   emits: [UserJoined, MeetingAnnounced]
 * }) {}
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const Class = <Self = never>() =>
<
  const Tag extends string,
  const Fields extends Schema.Struct.Fields = {},
  Success extends Schema.Top = Schema.Void,
  Error extends Schema.Top = Schema.Never,
  const Emits extends ReadonlyArray<Event.AnyClass> = readonly [],
  const M extends ReadonlyArray<Middleware.Any> = readonly [],
  const Requires extends ReadonlyArray<Context.Key<unknown, unknown>> = readonly [],
  const Stream extends boolean = false
>(
  tag: Tag,
  options: Options<Fields, Success, Error, Emits, M, Requires, Stream>
): [Self] extends [never] ? MissingSelf<"Command.Class">
  : ClassOf<Self, Tag, Fields, Success, Error, Emits, M, Requires, Stream> =>
  makeClass("Command", tag, options) as never

/**
 * The tag of a command's type.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Tag<C extends Any> = C[typeof TypeId]["tag"]

/**
 * The response of a command's type.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Success<C extends Any> = C[typeof TypeId]["success"]

/**
 * What sending a command can fail with: its own errors (and its middleware's),
 * and `EventFlowError` when it declares `emits`.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type SendError<C extends Any> =
  | C[typeof TypeId]["error"]
  | ([C[typeof TypeId]["emits"]] extends [never] ? never : EventFlowError)

/**
 * What sending a command requires besides a mediator.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Requires<C extends Any> = C extends Any ? Handler<Tag<C>> | C[typeof TypeId]["requires"] : never

/**
 * A handler as its layer provides it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Bound {
  readonly definition: AnyClass
  readonly run: (
    command: Any,
    collector: Collector
  ) => Effect.Effect<unknown, unknown> | Stream.Stream<unknown, unknown>
  readonly context: CapturedContext
  readonly middleware: Middleware.Composed | undefined
}

/**
 * The definition of a command instance.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const definitionOf = (command: Any): AnyClass => (command as unknown as { readonly [TypeId]: AnyClass })[TypeId]

/**
 * Makes the class of a command or query. Public for `Query`; use `Class`.
 *
 * @stability unstable
 * @category unsafe
 * @since 0.1.0
 */
export const makeClass = (
  kind: "Command" | "Query",
  tag: string,
  options: Options<
    Schema.Struct.Fields,
    Schema.Top,
    Schema.Top,
    ReadonlyArray<Event.AnyClass>,
    ReadonlyArray<Middleware.Any>,
    ReadonlyArray<Context.Key<unknown, unknown>>,
    boolean
  >
): unknown => {
  const fields = options.payload ?? {}
  const middleware = options.middleware ?? []
  const definition: AnyClass = {
    [TypeId]: TypeId,
    tag,
    kind,
    stream: options.stream === true,
    emits: options.emits ?? [],
    middleware,
    successSchema: options.success ?? Schema.Void,
    errorSchema: options.error ?? Schema.Never,
    payload: fields,
    handlerKey: Context.Service<never, Bound>(`@event-flow/core/Command/${tag}`)
  }
  const statics = {
    ...definition,
    of: (handler: unknown) => handler,
    toLayer: (build: Bound["run"] | Effect.Effect<Bound["run"]>) =>
      Layer.effectContext(
        Effect.contextWith((context: Context.Context<never>) =>
          Effect.map(
            Effect.isEffect(build) ? build : Effect.succeed(build),
            (run) =>
              Context.make(definition.handlerKey, {
                definition,
                run,
                context: new CapturedContext(context),
                middleware: Middleware.compose(middleware, context)
              })
          )
        )
      )
  }
  return SchemaClass.make({ tag, fields, statics, prototype: { [TypeId]: definition } })
}
