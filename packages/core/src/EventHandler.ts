/**
 * A handler of one or several events. An event may have many handlers; each is
 * a definition with a name, which a flow or a consumer lists, and a layer with
 * its behavior.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Collect } from "./Collect.ts"
import type * as Command from "./Command.ts"
import type * as Event from "./Event.ts"
import { makeHandler } from "./internal/definition/handlerDefinition.ts"
import * as Models from "./internal/definition/models.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"

/**
 * The requirement that the implementation of an event handler is provided: in
 * the `R` of the layer of its flow, or of its consumer. `toLayer` provides it.
 * Never constructed.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface EventHandlerImplementation<in out Name extends string> {
  readonly _: unique symbol
  readonly implementationOf: Name
}

/**
 * The function that handles an event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type HandlerFunction<Event, Error, Emits, R> = (
  event: Event,
  context: Collect<Emits>
) => Effect.Effect<void, Error, R>

/**
 * Any handler definition.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Any extends Models.HandlerDefinition {}

/**
 * The definition of a handler. `On` is the union of the event classes that it
 * handles.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface EventHandler<
  Name extends string,
  On extends Event.AnyClass,
  Error extends Schema.Top,
  Emits extends ReadonlyArray<Event.AnyClass>,
  Sends extends ReadonlyArray<Command.Target>
> extends Any {
  readonly name: Name
  readonly on: ReadonlyArray<On>
  readonly emits: Emits
  readonly sends: Sends
  readonly errorSchema: Error

  /**
   * The layer of the handler: from the function itself, or from an Effect that
   * builds it and resolves its services once.
   *
   * **Details**
   *
   * A handler that asks for services while it runs names them first:
   * `Book.toLayer([SqlClient.SqlClient], (event) => ...)`. It finds in its
   * context these services of its layer, whatever its caller has; Effect's
   * references come from the caller (F17).
   */
  toLayer<EX = never, RX = never>(
    build:
      | HandlerFunction<
        Event.Instance<On>,
        Error["Type"],
        Event.Instance<Emits[number]>,
        Command.Flows<Sends[number]>
      >
      | Effect.Effect<
        HandlerFunction<
          Event.Instance<On>,
          Error["Type"],
          Event.Instance<Emits[number]>,
          Command.Flows<Sends[number]>
        >,
        EX,
        RX
      >
  ): Layer.Layer<EventHandlerImplementation<Name>, EX, Exclude<RX, Scope.Scope>>
  toLayer<const Services extends ReadonlyArray<Context.Key<unknown, unknown>>, EX = never, RX = never>(
    services: Services,
    build:
      | HandlerFunction<
        Event.Instance<On>,
        Error["Type"],
        Event.Instance<Emits[number]>,
        Command.Flows<Sends[number]> | Services[number]["Identifier"]
      >
      | Effect.Effect<
        HandlerFunction<
          Event.Instance<On>,
          Error["Type"],
          Event.Instance<Emits[number]>,
          Command.Flows<Sends[number]> | Services[number]["Identifier"]
        >,
        EX,
        RX
      >
  ): Layer.Layer<
    EventHandlerImplementation<Name>,
    EX,
    Exclude<RX, Scope.Scope> | Services[number]["Identifier"]
  >

  /** Types a handler function that is written apart from its layer. */
  of<R = never>(
    handler: HandlerFunction<Event.Instance<On>, Error["Type"], Event.Instance<Emits[number]>, R>
  ): HandlerFunction<Event.Instance<On>, Error["Type"], Event.Instance<Emits[number]>, R>
}

/** The union of the event classes that are given as one, or as a list. */
type EventClass<On> = On extends ReadonlyArray<infer Class extends Event.AnyClass> ? Class
  : On extends Event.AnyClass ? On
  : never

/**
 * Defines a handler of an event, or of several.
 *
 * **Details**
 *
 * A handler of domain events runs in the flow that lists it; a handler of
 * notification events runs in an `EventConsumer`.
 *
 * **Example** (A handler with a follow-up)
 *
 * ```ts
 * import { DomainEvent, EventHandler } from "@event-flow/core"
 * import { Schema } from "effect"
 *
 * class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}
 * class GreetingSent extends DomainEvent.Class<GreetingSent>()("GreetingSent", { userId: Schema.String }) {}
 *
 * const Greet = EventHandler.make("Greet", { on: UserJoined, emits: [GreetingSent] })
 *
 * const GreetLive = Greet.toLayer((event, { collect }) =>
 *   collect(new GreetingSent({ userId: event.userId }))
 * )
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  const Name extends string,
  const On extends Event.AnyClass | readonly [Event.AnyClass, ...ReadonlyArray<Event.AnyClass>],
  Error extends Schema.Top = Schema.Never,
  const Emits extends ReadonlyArray<Event.AnyClass> = readonly [],
  const Sends extends ReadonlyArray<Command.Target> = readonly []
>(name: Name, options: {
  /** The event that it handles, or several: these classes, not their subclasses (F15). */
  readonly on: On
  /** The follow-up events that it may collect. Default: none. */
  readonly emits?: Emits | undefined
  /**
   * The commands that it may send: their classes, or the tags of those that are
   * defined later. The flow gives them to the handler. Default: none.
   */
  readonly sends?: Sends | undefined
  /** Schema of its errors. Default: `Schema.Never`, it cannot fail. */
  readonly error?: Error | undefined
}): EventHandler<Name, EventClass<On>, Error, Emits, Sends> =>
  makeHandler({
    [Models.HandlerTypeId]: Models.HandlerTypeId,
    name,
    mode: "single",
    on: isList(options.on) ? options.on : [options.on],
    emits: options.emits ?? [],
    sends: options.sends ?? [],
    errorSchema: options.error ?? Schema.Never
    // The generic signature promises what the definition's schemas say
  }) as unknown as EventHandler<Name, EventClass<On>, Error, Emits, Sends>

/**
 * The function that handles the events of a batch.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type BatchFunction<Event, Error, R> = (events: Arr.NonEmptyReadonlyArray<Event>) => Effect.Effect<void, Error, R>

/**
 * The definition of a handler of batches.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface BatchHandler<Name extends string, On extends NotificationEvent.AnyClass, Error extends Schema.Top>
  extends Any
{
  readonly name: Name
  readonly on: ReadonlyArray<On>
  readonly emits: readonly []
  readonly sends: readonly []
  readonly errorSchema: Error

  /** The layer of the handler; see `EventHandler.toLayer`. */
  toLayer<EX = never, RX = never>(
    build:
      | BatchFunction<Event.Instance<On>, Error["Type"], never>
      | Effect.Effect<BatchFunction<Event.Instance<On>, Error["Type"], never>, EX, RX>
  ): Layer.Layer<EventHandlerImplementation<Name>, EX, Exclude<RX, Scope.Scope>>
  toLayer<const Services extends ReadonlyArray<Context.Key<unknown, unknown>>, EX = never, RX = never>(
    services: Services,
    build:
      | BatchFunction<Event.Instance<On>, Error["Type"], Services[number]["Identifier"]>
      | Effect.Effect<BatchFunction<Event.Instance<On>, Error["Type"], Services[number]["Identifier"]>, EX, RX>
  ): Layer.Layer<
    EventHandlerImplementation<Name>,
    EX,
    Exclude<RX, Scope.Scope> | Services[number]["Identifier"]
  >

  /** Types a handler function that is written apart from its layer. */
  of<R = never>(
    handler: BatchFunction<Event.Instance<On>, Error["Type"], R>
  ): BatchFunction<Event.Instance<On>, Error["Type"], R>
}

/**
 * Defines a handler of notification events that gets the events of a batch at
 * once, for work that is cheaper by the hundred than one by one, such as a
 * statement over many rows.
 *
 * **Details**
 *
 * A consumer with the option `batch` makes the batches: the events are in the
 * order of their keys, and come after the other handlers have handled all of
 * them. When it fails, the events come again in smaller batches, and at last
 * alone; see `EventConsumer.batchFields`. In a consumer without the option each
 * batch has one event.
 *
 * It collects no events and sends no commands: a batch has no message of which
 * these would be the consequence.
 *
 * **Example** (One statement for many sales)
 *
 * ```ts
 * import { EventHandler, NotificationEvent } from "@event-flow/core"
 * import { Array, Effect, Schema } from "effect"
 * import { SqlClient, SqlError } from "effect/sql"
 *
 * class Sold extends NotificationEvent.Class<Sold>()("Sold", { product: Schema.String }, {
 *   topic: "sales",
 *   key: ({ product }) => product
 * }) {}
 * const CountSales = EventHandler.batch("CountSales", { on: Sold, error: SqlError.SqlError })
 *
 * const CountSalesLive = CountSales.toLayer(Effect.map(SqlClient.SqlClient, (sql) => (events) =>
 *   sql`INSERT INTO sales ${sql.insert(Array.map(events, ({ product }) => ({ product })))}`.pipe(Effect.asVoid)
 * ))
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const batch = <
  const Name extends string,
  const On extends
    | NotificationEvent.AnyClass
    | readonly [
      NotificationEvent.AnyClass,
      ...ReadonlyArray<NotificationEvent.AnyClass>
    ],
  Error extends Schema.Top = Schema.Never
>(name: Name, options: {
  /** The notification event that it handles, or several. */
  readonly on: On
  /** Schema of its errors. Default: `Schema.Never`, it cannot fail. */
  readonly error?: Error | undefined
}): BatchHandler<Name, NotificationClass<On>, Error> =>
  makeHandler({
    [Models.HandlerTypeId]: Models.HandlerTypeId,
    name,
    mode: "batch",
    on: isList(options.on) ? options.on : [options.on],
    emits: [],
    sends: [],
    errorSchema: options.error ?? Schema.Never
    // The generic signature promises what the definition's schemas say
  }) as unknown as BatchHandler<Name, NotificationClass<On>, Error>

type NotificationClass<On> = Extract<EventClass<On>, NotificationEvent.AnyClass>

// --- internal ---

const isList = (on: Event.AnyClass | ReadonlyArray<Event.AnyClass>): on is ReadonlyArray<Event.AnyClass> =>
  Array.isArray(on)
