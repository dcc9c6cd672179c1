/**
 * A handler of one event. An event may have many; each is a definition with a
 * name, and a layer with its behaviour.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Collect } from "./Collect.ts"
import type * as Event from "./Event.ts"
import { CapturedContext } from "./internal/capturedContext.ts"
import type { Collector } from "./internal/collector.ts"
import type { Mediator } from "./internal/mediatorId.ts"

const TypeId = "~@event-flow/core/EventHandler"

/**
 * The requirement that a handler's layer is provided. Never constructed.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Handler<in out Name extends string> {
  readonly _: unique symbol
  readonly name: Name
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
export interface Any {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  readonly on: Event.AnyClass
  readonly emits: ReadonlyArray<Event.AnyClass>
  readonly errorSchema: Schema.Top
  /** Under which a context holds the handler. */
  readonly key: Context.Key<never, Bound>
}

/**
 * The definition of a handler.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface EventHandler<
  Name extends string,
  On extends Event.AnyClass,
  Error extends Schema.Top,
  Emits extends ReadonlyArray<Event.AnyClass>
> extends Any {
  readonly name: Name
  readonly on: On
  readonly emits: Emits
  readonly errorSchema: Error

  /**
   * The layer of the handler, from the function itself or from an Effect that
   * gives it (dependencies are then resolved once).
   */
  // Two signatures, for the reason given in Command.ts
  toLayer<EX = never, RX = never>(
    build:
      | HandlerFunction<Event.Instance<On>, Error["Type"], Event.Instance<Emits[number]>, Mediator>
      | Effect.Effect<
        HandlerFunction<Event.Instance<On>, Error["Type"], Event.Instance<Emits[number]>, Mediator>,
        EX,
        RX
      >
  ): Layer.Layer<Handler<Name>, EX, Exclude<RX, Scope.Scope>>
  toLayer<R, EX = never, RX = never>(
    build:
      | HandlerFunction<Event.Instance<On>, Error["Type"], Event.Instance<Emits[number]>, R>
      | Effect.Effect<HandlerFunction<Event.Instance<On>, Error["Type"], Event.Instance<Emits[number]>, R>, EX, RX>
  ): Layer.Layer<Handler<Name>, EX, Exclude<RX, Scope.Scope> | Exclude<R, Mediator>>

  /** Types a handler function that is written apart from its layer. */
  of<R = never>(
    handler: HandlerFunction<Event.Instance<On>, Error["Type"], Event.Instance<Emits[number]>, R>
  ): HandlerFunction<Event.Instance<On>, Error["Type"], Event.Instance<Emits[number]>, R>
}

/**
 * Defines a handler of an event.
 *
 * **Example** (A handler with a follow-up)
 *
 * ```ts
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
  const On extends Event.AnyClass,
  Error extends Schema.Top = Schema.Never,
  const Emits extends ReadonlyArray<Event.AnyClass> = readonly []
>(name: Name, options: {
  /** The event that it handles: this class, not a subclass of it (F15). */
  readonly on: On
  /** The follow-up events that it may collect. Default: none. */
  readonly emits?: Emits | undefined
  /** Schema of its errors. Default: `Schema.Never`, it cannot fail. */
  readonly error?: Error | undefined
}): EventHandler<Name, On, Error, Emits> => {
  const definition: Any = {
    [TypeId]: TypeId,
    name,
    on: options.on,
    emits: options.emits ?? [],
    errorSchema: options.error ?? Schema.Never,
    key: Context.Service<never, Bound>(`@event-flow/core/EventHandler/${name}`)
  }
  return Object.assign(definition, {
    of: (handler: unknown) => handler,
    toLayer: (build: Bound["run"] | Effect.Effect<Bound["run"]>) =>
      Layer.effectContext(
        Effect.contextWith((context: Context.Context<never>) =>
          Effect.map(
            Effect.isEffect(build) ? build : Effect.succeed(build),
            (run) => Context.make(definition.key, { definition, run, context: new CapturedContext(context) })
          )
        )
      )
    // The generic signature promises what the definition's schemas say
  }) as unknown as EventHandler<Name, On, Error, Emits>
}

/**
 * The services of a list of handler definitions.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Services<Handlers extends ReadonlyArray<Any>> = Handlers[number] extends infer H
  ? H extends Any ? Handler<H["name"]> : never
  : never

/**
 * A handler as its layer provides it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Bound {
  readonly definition: Any
  readonly run: (event: Event.Any, collector: Collector) => Effect.Effect<void, unknown>
  readonly context: CapturedContext
}
