/**
 * A flow: the commands, queries and event handlers of a bounded context, listed
 * once. The definition is data, as `RpcGroup` and `HttpApi` are; its layer joins
 * the implementations and is what makes the commands sendable.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Str from "effect/String"
import * as Broker from "./Broker.ts"
import type * as Command from "./Command.ts"
import type * as Event from "./Event.ts"
import * as EventEmitter from "./EventEmitter.ts"
import type * as EventHandler from "./EventHandler.ts"
import * as EventMap from "./EventMap.ts"
import * as EventProcessor from "./EventProcessor.ts"
import type { TypeId as EventTypeId } from "./internal/definition/eventClass.ts"
import type { DomainHandlers, HandlerImplementations } from "./internal/definition/requirements.ts"
import * as FlowLayer from "./internal/dispatch/flowLayer.ts"
import * as MessageCodec from "./MessageCodec.ts"
import * as Settings from "./Settings.ts"

const TypeId = "~@event-flow/core/EventFlow"

/**
 * The requirement that the layer of a flow is provided. Never constructed.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface RunningFlow<in out Name extends string> {
  readonly _: unique symbol
  readonly runningFlow: Name
}

/**
 * Any flow definition.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Any {
  readonly [TypeId]: typeof TypeId
  readonly flowName: string
  readonly commands: ReadonlyArray<Command.AnyClass>
  readonly handlers: ReadonlyArray<EventHandler.Any>
}

/**
 * The settings of a flow, as fields of a schema; see `Options`.
 *
 * @stability unstable
 * @category settings
 * @since 0.1.0
 */
export const fields = {
  ...EventProcessor.fields,
  /**
   * The CloudEvents `source` of what is published: which program speaks, as a
   * URI reference. Name it where several programs publish: an id is unique
   * within a source. Default: that of the `MessageCodec`, `"/event-flow"`.
   */
  source: Schema.optional(Schema.NonEmptyString),
  /** Where the attributes of a published message are; see `MessageCodec.ContentMode`. Default: that of the `MessageCodec`, `"binary"`. */
  contentMode: Schema.optional(Schema.Literals(["binary", "structured"])),
  /** How long closing the layer waits for sends that are running. Default: 30 seconds. */
  drainTimeout: Settings.withDefault(Settings.duration({ minimum: 0, infinite: true }), "30 seconds")
}

/**
 * Options of the layer of a flow.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options extends Schema.Struct.Encoded<typeof fields> {}

/**
 * How often what has happened in a flow since its layer was built. Counting
 * costs a few nanoseconds and is always on.
 *
 * **Details**
 *
 * Each attempt of middleware that retries counts. What middleware refuses before
 * the handler starts does not.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Counts {
  /** By tag: dispatches that started, and how those that have ended did. */
  readonly commands: Readonly<
    Record<string, {
      readonly started: number
      readonly succeeded: number
      readonly failed: number
      readonly interrupted: number
    }>
  >
  /** By tag: domain events that were emitted and have handlers. */
  readonly events: Readonly<Record<string, { readonly emitted: number }>>
  /** By name: runs of event handlers that started, and those that failed. */
  readonly handlers: Readonly<Record<string, { readonly started: number; readonly failed: number }>>
}

/**
 * The definition of a flow: `C` is the union of its commands, `H` that of its
 * event handlers.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface EventFlow<Name extends string, C extends Command.AnyClass, H extends EventHandler.Any> {
  new(_: never): {}
  readonly [TypeId]: typeof TypeId
  readonly flowName: Name
  readonly commands: ReadonlyArray<C>
  readonly handlers: ReadonlyArray<H>

  /**
   * The layer of the flow: it provides what `Mediator.send` requires for each of
   * its commands.
   *
   * **Details**
   *
   * It requires exactly the implementations of its commands and of its handlers
   * of domain events; a `Broker` (or `Broker.layerNone`) if anything in it emits
   * a notification event; and the flows of the commands that its members send
   * and it does not list. It fails when two definitions of one program have the
   * same tag or name (F14).
   */
  readonly layer: (
    options?: Options
  ) => Layer.Layer<
    Command.Flows<C> | RunningFlow<Name>,
    EventMap.DuplicateDefinition | Settings.InvalidSetting,
    Requirements<C, H>
  >

  /**
   * The same with options from a `ConfigProvider`.
   *
   * **Example** (From the environment)
   *
   * ```ts
   * import { Command, EventFlow } from "@event-flow/core"
   * import { Config, Effect, Layer } from "effect"
   *
   * class Book extends Command.Class<Book>()("Book", {}) {}
   * class Clinic extends EventFlow.make("Clinic", { commands: [Book] }) {}
   *
   * const ClinicLive = Clinic.layerConfig({ concurrency: Config.Int("CLINIC_CONCURRENCY") }).pipe(
   *   Layer.provide(Book.toLayer(() => Effect.void))
   * )
   * ```
   */
  readonly layerConfig: (
    options: Config.Wrap<Options>
  ) => Layer.Layer<
    Command.Flows<C> | RunningFlow<Name>,
    EventMap.DuplicateDefinition | Settings.InvalidSetting | Config.ConfigError,
    Requirements<C, H>
  >

  /**
   * The same around parts of your own: a processor, and the event map that it
   * works on. For decorators of `EventEmitter` and `EventProcessor`.
   */
  readonly layerNoDeps: (
    options?: Pick<Options, "drainTimeout">
  ) => Layer.Layer<
    Command.Flows<C> | RunningFlow<Name>,
    EventMap.DuplicateDefinition | Settings.InvalidSetting,
    EventProcessor.EventProcessor | EventMap.EventMap | Implementations<C> | ForeignFlows<C, DomainHandlers<H>>
  >

  /** A snapshot of the counts of the running flow. */
  readonly counts: Effect.Effect<Counts, never, RunningFlow<Name>>
}

/**
 * What the layer of a flow requires.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Requirements<C extends Command.AnyClass, H extends EventHandler.Any> =
  // A conditional type, of which editors and errors show the members in place of the name
  [C] extends [Command.AnyClass] ?
      | Implementations<C>
      | HandlerImplementations<DomainHandlers<H>>
      | Publishing<C | DomainHandlers<H>>
      | ForeignFlows<C, DomainHandlers<H>>
    : never

/** The implementations of commands. */
type Implementations<C extends Command.AnyClass> = C extends { readonly tag: infer Tag extends string }
  ? Command.CommandImplementation<Tag>
  : never

/** `Broker` when one of these definitions emits a notification event. */
type Publishing<D extends { readonly emits: ReadonlyArray<Event.AnyClass> }> = "Notification" extends
  D["emits"][number][typeof EventTypeId] ? Broker.Broker : never

/** The flows of the commands that these members send and that are not among `C`. */
type ForeignFlows<C extends Command.AnyClass, H extends EventHandler.Any> = Exclude<
  Command.Flows<C["sends"][number] | H["sends"][number]>,
  Command.Flows<C>
>

/**
 * Defines a flow.
 *
 * **Details**
 *
 * Handlers of an event run in the order of the list. Handlers of notification
 * events are listed as well: an `EventConsumer` of the flow runs them. With
 * `flows`, the definitions of other flows become part of this one: the domain
 * events of one may then be handled by another. Provide the layer of the whole
 * alone.
 *
 * **Example** (A bounded context)
 *
 * ```ts
 * import { Command, DomainEvent, EventFlow, EventHandler, Mediator, Query } from "@event-flow/core"
 * import { Effect, Layer, Schema } from "effect"
 *
 * class Booked extends DomainEvent.Class<Booked>()("Booked", { patient: Schema.String }) {}
 * class Book extends Command.Class<Book>()("Book", { payload: { patient: Schema.String }, emits: [Booked] }) {}
 * class CountVisits extends Query.Class<CountVisits>()("CountVisits", { success: Schema.Int }) {}
 * const Invoice = EventHandler.make("Invoice", { on: Booked })
 *
 * class Clinic extends EventFlow.make("Clinic", { commands: [Book, CountVisits], handlers: [Invoice] }) {}
 *
 * const ClinicLive = Clinic.layer({ concurrency: 8 }).pipe(
 *   Layer.provide([
 *     Book.toLayer(({ patient }, { collect }) => collect(new Booked({ patient }))),
 *     CountVisits.toLayer(() => Effect.succeed(1)),
 *     Invoice.toLayer(({ patient }) => Effect.log(`an invoice for ${patient}`))
 *   ])
 * )
 *
 * const program = Mediator.send(new Book({ patient: "Ada" })).pipe(Effect.provide(ClinicLive))
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  const Name extends string,
  const Commands extends ReadonlyArray<Command.AnyClass> = readonly [],
  const Handlers extends ReadonlyArray<EventHandler.Any> = readonly [],
  const Flows extends ReadonlyArray<Any> = readonly []
>(name: Name, options: {
  /** The commands and queries. Default: none. */
  readonly commands?: Commands | undefined
  /** The event handlers; an event's handlers run in this order. Default: none. */
  readonly handlers?: Handlers | undefined
  /** Flows that become part of this one. Their handlers come first. Default: none. */
  readonly flows?: Flows | undefined
}): EventFlow<
  Name,
  Commands[number] | Flows[number]["commands"][number],
  Handlers[number] | Flows[number]["handlers"][number]
> => {
  const commands = [
    ...new Set([...(options.flows ?? []).flatMap((flow) => flow.commands), ...(options.commands ?? [])])
  ]
  const handlers = [
    ...new Set([...(options.flows ?? []).flatMap((flow) => flow.handlers), ...(options.handlers ?? [])])
  ]
  const definition: FlowLayer.Definition = {
    flowName: name,
    commands,
    handlers,
    key: FlowLayer.keyOf(name)
  }
  FlowLayer.listed(definition)
  const settings = Settings.make(`EventFlow "${name}"`, { prefix: Str.configCase(name), schema: Schema.Struct(fields) })
  const layerNoDeps = (layerOptions?: Pick<Options, "contentMode" | "drainTimeout" | "source">) =>
    Layer.unwrap(
      Effect.map(settings.check(layerOptions ?? {}), ({ drainTimeout }) => FlowLayer.make(definition, drainTimeout))
    )
  const layer = (layerOptions?: Options) => {
    const { contentMode, drainTimeout, source, ...processing } = layerOptions ?? {}
    const codec = source === undefined && contentMode === undefined
      ? Layer.empty
      : MessageCodec.layerCloudEvents({ source, contentMode })
    const emitter = EventEmitter.layer.pipe(
      // Not shared: layers are shared by reference, and a program may hold two flows
      Layer.fresh,
      Layer.provide(codec),
      (layer) => FlowLayer.publishes(definition) ? layer : Layer.provide(layer, Broker.layerNone)
    )
    return layerNoDeps({ contentMode, drainTimeout, source }).pipe(
      Layer.provide(EventProcessor.layer(processing)),
      Layer.provide(emitter),
      Layer.provide(EventMap.layer(handlers))
    )
  }
  function Flow() {}
  return Object.assign(Flow, {
    [TypeId]: TypeId,
    ...definition,
    layer,
    layerConfig: (options: Config.Wrap<Options>) => Layer.unwrap(Effect.map(Config.unwrap(options), layer)),
    layerNoDeps,
    counts: FlowLayer.counts(definition)
    // The types of the interface say of the lists what the code above does with them
  }) as unknown as EventFlow<
    Name,
    Commands[number] | Flows[number]["commands"][number],
    Handlers[number] | Flows[number]["handlers"][number]
  >
}
