/**
 * A command: a request to do something, with a typed response, typed errors,
 * the events that doing it may emit and the commands that it may send.
 *
 * The definition is data (a Schema class), a flow lists it, and its
 * implementation is a layer.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Event from "./Event.ts"
import { EventFlowError } from "./EventFlowError.ts"
import { makeCommand } from "./internal/definition/commandClass.ts"
import type {
  CommandFlow,
  Flows,
  HandlerFunction,
  Implementation,
  Instance,
  MiddlewareServices,
  Spec
} from "./internal/definition/commandTypes.ts"
import type { ConstructorArguments, MissingSelf } from "./internal/definition/eventClass.ts"
import { type Leaves, leavesOf } from "./internal/definition/leaves.ts"
import type { CommandDefinition as AnyClass, CommandTypeId, Target } from "./internal/definition/models.ts"
import type * as Middleware from "./Middleware.ts"

/**
 * A command that a definition sends: its class, or its tag where the class is
 * defined later (two commands that send each other).
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type { Target }

/**
 * Any command instance: one that gives one response, or one that gives a stream.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Any<Mode extends "single" | "stream" = "single" | "stream"> {
  readonly _tag: string
  readonly [CommandTypeId]: {
    readonly tag: string
    readonly success: unknown
    readonly error: unknown
    readonly emits: unknown
    readonly requires: unknown
    readonly mode: Mode
  }
}

/**
 * Any command or query class.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type { AnyClass }

/**
 * The requirement that a flow which lists the command is provided: in the `R`
 * of `Mediator.send`. Never constructed.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type { CommandFlow }

/**
 * The requirement that a command's implementation is provided: in the `R` of
 * the layer of its flow. `toLayer` provides it. Never constructed.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface CommandImplementation<in out Tag extends string> {
  readonly _: unique symbol
  readonly implementationOf: Tag
}

/**
 * The requirements for sending these targets.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type { Flows }

/**
 * The class of a command or query.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Command<Self, Tag extends string, Fields extends Schema.Struct.Fields, S extends Spec>
  extends Omit<Schema.Class<Self, Schema.TaggedStruct<Tag, Fields>, {}>, "extend">
{
  new(...args: ConstructorArguments<Schema.TaggedStruct<Tag, Fields>>): Instance<Tag, Fields, S>

  readonly [CommandTypeId]: "~@event-flow/core/Command"
  readonly tag: Tag
  readonly kind: "Command" | "Query"
  readonly mode: S["mode"]
  readonly emits: S["emits"]
  readonly sends: S["sends"]
  readonly middleware: S["middleware"]
  readonly requires: S["requires"]
  readonly payload: Fields
  readonly successSchema: S["success"]
  readonly errorSchema: S["error"]

  /**
   * The layer of the command's implementation: from the handler function, or
   * from an Effect that builds it and resolves its services once.
   *
   * **Details**
   *
   * A handler that asks for services while it runs names them first:
   * `Pay.toLayer([SqlClient.SqlClient], (command) => ...)`. It finds in its
   * context these services of its layer, whatever its caller has; what the
   * definition `requires`, what middleware provides and Effect's references
   * come from the caller (F17).
   *
   * **Gotchas**
   *
   * As for every service: of two layers of one command, the later one wins.
   */
  toLayer<EX = never, RX = never>(
    build: Implementation<Self, Tag, S> | Effect.Effect<Implementation<Self, Tag, S>, EX, RX>
  ): Layer.Layer<CommandImplementation<Tag>, EX, Exclude<RX, Scope.Scope> | MiddlewareServices<S>>
  toLayer<const Services extends ReadonlyArray<Context.Key<unknown, unknown>>, EX = never, RX = never>(
    services: Services,
    build:
      | Implementation<Self, Tag, S, Services[number]["Identifier"]>
      | Effect.Effect<Implementation<Self, Tag, S, Services[number]["Identifier"]>, EX, RX>
  ): Layer.Layer<
    CommandImplementation<Tag>,
    EX,
    Exclude<RX, Scope.Scope> | Services[number]["Identifier"] | MiddlewareServices<S>
  >

  /** Types a handler function that is written apart from its layer. */
  of<R = never>(handler: HandlerFunction<Self, S, R>): HandlerFunction<Self, S, R>
}

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
  Sends extends ReadonlyArray<Target>,
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
  /**
   * The commands that the handler may send: their classes, or the tags of those
   * that are defined later. The flow gives them to the handler. Default: none.
   */
  readonly sends?: Sends | undefined
  /** Wraps the dispatch, outermost first. Default: none. */
  readonly middleware?: M | undefined
  /**
   * Services that the sender brings, such as the current user: they show in the
   * `R` of `send` and not in that of the implementation. Default: none.
   */
  readonly requires?: Requires | undefined
  /** Whether the response is a stream of `success`, sent with `Mediator.stream`. Default: false. */
  readonly stream?: Stream | undefined
}

/**
 * Defines a command.
 *
 * **Details**
 *
 * The tag is the command's name. It is unique among the commands of a program:
 * two flows with commands of one tag fail when the second one is built, with an
 * error that names both.
 *
 * **Example** (A command)
 *
 * ```ts
 * import { Command, DomainEvent } from "@event-flow/core"
 * import { Effect, Schema } from "effect"
 *
 * class MeetingFull extends Schema.TaggedError<MeetingFull>()("MeetingFull", {}) {}
 * class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}
 *
 * class JoinMeeting extends Command.Class<JoinMeeting>()("JoinMeeting", {
 *   payload: { meetingId: Schema.String, userId: Schema.String },
 *   success: Schema.Int,
 *   error: MeetingFull,
 *   emits: [UserJoined]
 * }) {}
 *
 * const JoinMeetingLive = JoinMeeting.toLayer(Effect.sync(() => {
 *   let seats = 10
 *   return Effect.fnUntraced(function*({ userId }, { collect }) {
 *     if (seats === 0) return yield* new MeetingFull()
 *     yield* collect(new UserJoined({ userId }))
 *     return --seats
 *   })
 * }))
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
  const Sends extends ReadonlyArray<Target> = readonly [],
  const M extends ReadonlyArray<Middleware.Any> = readonly [],
  const Requires extends ReadonlyArray<Context.Key<unknown, unknown>> = readonly [],
  const Stream extends boolean = false
>(
  tag: Tag,
  options: Options<Fields, Success, Error, Emits, Sends, M, Requires, Stream>
): [Self] extends [never] ? MissingSelf<"Command.Class"> : Command<Self, Tag, Fields, {
  readonly success: Success
  readonly error: Error
  readonly emits: Emits
  readonly sends: Sends
  readonly middleware: M
  readonly requires: Requires
  readonly mode: Stream extends true ? "stream" : "single"
  // `makeCommand` makes a class of what the options say, as this type does
}> => makeCommand("Command", tag, options) as never

/**
 * The tag of a command's type.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Tag<C extends Any> = C[typeof CommandTypeId]["tag"]

/**
 * The response of a command's type.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Success<C extends Any> = C[typeof CommandTypeId]["success"]

/**
 * The errors of a command's handler and of its middleware.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Error<C extends Any> = C[typeof CommandTypeId]["error"]

/**
 * What processing the events of a command can fail with: `EventFlowError` when
 * it declares `emits`, otherwise nothing.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type EventsError<C extends Any> = [C[typeof CommandTypeId]["emits"]] extends [never] ? never : EventFlowError

/**
 * What sending a command can fail with: its own errors, its middleware's, and
 * `EventFlowError` when it declares `emits`.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
// A conditional type, of which editors and errors show the members in place of the name
export type SendError<C extends Any> = C extends Any ? Error<C> | EventsError<C> : never

/**
 * What sending a command requires: a flow that lists it, and what it `requires`.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Requires<C extends Any> = C extends Any ? CommandFlow<Tag<C>> | C[typeof CommandTypeId]["requires"] : never

/**
 * Everything that sending a command can fail with, as a schema: the command's
 * own errors, those of its middleware and, when it declares `emits`,
 * `EventFlowError`. For HTTP, RPC and whoever else declares errors.
 *
 * **Details**
 *
 * Its `members` are the errors one by one, without the unions that they were
 * declared in: `HttpApiEndpoint` reads the status of each.
 *
 * **Gotchas**
 *
 * The middleware of a mediator of your own (`Mediator.Service`) is not the
 * command's: add its errors with `Mediator.failureSchema`.
 *
 * @stability unstable
 * @category schemas
 * @since 0.1.0
 */
export const failureSchema = <C extends AnyClass>(command: C): FailureSchema<C> => {
  const schemas: Array<Schema.Top> = [command.errorSchema, ...command.middleware.map((one) => one.error)]
  if (command.emits.length > 0) schemas.push(EventFlowError)
  // `FailureSchema` says of the definition's lists what is done to them here
  return Schema.Union(leavesOf(schemas)) as unknown as FailureSchema<C>
}

/**
 * The type of `failureSchema`; `More` are errors that are added to it.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type FailureSchema<C extends AnyClass, More extends Schema.Top = never> = Schema.Union<
  ReadonlyArray<
    Leaves<
      | C["errorSchema"]
      | C["middleware"][number]["error"]
      | (C["emits"] extends readonly [] ? never : typeof EventFlowError)
      | More
    >
  >
>
