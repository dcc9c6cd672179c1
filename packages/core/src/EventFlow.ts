/**
 * The whole flow in one layer: mediator, processor, emitter and event map.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import type * as Broker from "./Broker.ts"
import * as EventEmitter from "./EventEmitter.ts"
import type * as EventHandler from "./EventHandler.ts"
import * as EventMap from "./EventMap.ts"
import * as EventProcessor from "./EventProcessor.ts"
import * as Mediator from "./Mediator.ts"
import * as MessageCodec from "./MessageCodec.ts"

/**
 * Options of a flow.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options<Handlers extends ReadonlyArray<EventHandler.Any>> extends EventProcessor.Options {
  /** The event handlers of the program; an event's handlers run in this order. */
  readonly handlers: Handlers
  /** How long closing the layer waits for sends that are running. Default: 30 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /**
   * The CloudEvents `source` of what is published: which program speaks, as a
   * URI reference. Name it where several programs publish: an id is unique
   * within a source. It sets `MessageCodec.cloudEvents` as the flow's codec: leave
   * it out with a codec of your own. Default: that of the `MessageCodec`.
   */
  readonly source?: string | undefined
}

/**
 * What `layer` provides.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type EventFlow =
  | Mediator.Mediator
  | EventProcessor.EventProcessor
  | EventEmitter.EventEmitter
  | EventMap.EventMap

/**
 * The flow of a program. It requires a `Broker` (or `Broker.layerNone`) and the
 * services of exactly the handlers that it lists; the command handlers are
 * required by what sends them.
 *
 * **Example** (A program)
 *
 * ```ts
 * const Main = EventFlow.layer({ handlers: [Greet, Count], concurrency: 8 }).pipe(
 *   Layer.provideMerge(JoinMeetingLive),
 *   Layer.provide([GreetLive, CountLive, Broker.layerNone])
 * )
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = <const Handlers extends ReadonlyArray<EventHandler.Any>>(
  options: Options<Handlers>
): Layer.Layer<EventFlow, EventMap.DuplicateDefinition, Broker.Broker | EventHandler.Services<Handlers>> =>
  Mediator.layer({ drainTimeout: options.drainTimeout }).pipe(
    Layer.provideMerge(EventProcessor.layer(options)),
    // Fresh: layers are shared by reference, and a program may hold two flows
    Layer.provideMerge(Layer.fresh(EventEmitter.layer)),
    Layer.provideMerge(EventMap.layer(...options.handlers)),
    Layer.provide(
      options.source === undefined ? Layer.empty : MessageCodec.layerCloudEvents({ source: options.source })
    )
  )
