/** Runs the deliveries of a worker of a consumer. */
import type * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Event from "../Event.ts"
import type { EventFlowError } from "../EventFlowError.ts"
import * as Message from "../Message.ts"
import type * as NotificationEvent from "../NotificationEvent.ts"
import type * as Subscriber from "../Subscriber.ts"
import * as Telemetry from "../Telemetry.ts"
import { Dispatch } from "./dispatch.ts"
import { DeliveryFlow } from "./flowContext.ts"
import type { Runner } from "./lanes.ts"

export type AnyFiber = Fiber.Fiber<unknown, unknown>

export interface EventHandler {
  readonly handle: (event: Event.Any) => Effect.Effect<void, EventFlowError>
}

/** What the workers of a consumer share. */
export interface Shared {
  readonly handle: (delivery: Subscriber.Delivery) => Effect.Effect<void, unknown>
  /** Undefined: somebody watches, or the codec is not ours; `handle` does it all. */
  readonly decode: ((message: Message.Message) => NotificationEvent.Any | undefined) | undefined
  readonly eventHandler: (dispatch: Dispatch, next: () => Effect.Effect<void>) => EventHandler | undefined
  readonly recover: (
    delivery: Subscriber.Delivery,
    event: NotificationEvent.Any,
    cause: Cause.Cause<EventFlowError>
  ) => Effect.Effect<void, unknown>
}

/**
 * The deliveries of one worker. What nobody watches, and what is decoded at
 * once, goes through its handlers in the worker's own dispatch, without a frame
 * of its own: the worker's are there for all of them. Everything else, and
 * whatever fails, takes the long way.
 */
export class DeliveryRunner implements Runner<Subscriber.Delivery> {
  readonly #shared: Shared
  readonly #dispatch: Dispatch
  readonly #handler: EventHandler | undefined
  #delivery!: Subscriber.Delivery
  /** The event whose handlers run in the dispatch. */
  #event: NotificationEvent.Any | undefined = undefined

  constructor(shared: Shared, fiber: AnyFiber) {
    this.#shared = shared
    this.#dispatch = new Dispatch(fiber)
    this.#handler = shared.decode === undefined ? undefined : shared.eventHandler(this.#dispatch, this.#next)
  }

  run(delivery: Subscriber.Delivery): Effect.Effect<void, unknown> {
    // Says that nobody works on it any more: a rebalance waits for that
    if (delivery.isRevoked()) return delivery.nack
    const { fiber } = this.#dispatch
    if (this.#handler === undefined || Telemetry.isTracing(fiber)) return this.#shared.handle(delivery)
    const event = this.#shared.decode!(delivery.message)
    if (event === undefined) return this.#shared.handle(delivery)
    this.#delivery = delivery
    this.#event = event
    this.#dispatch.enterFlow(flowOf(this.#dispatch.caller, delivery))
    return this.#handler.handle(event)
  }

  readonly #next = (): Effect.Effect<void> => {
    this.#leave()
    return this.#delivery.ack
  }

  recover(delivery: Subscriber.Delivery, cause: Cause.Cause<unknown>): Effect.Effect<void, unknown> {
    const event = this.#event
    if (event === undefined) return Effect.failCause(cause)
    this.#leave()
    // Nothing else fails while there is an event
    return this.#shared.recover(delivery, event, cause as Cause.Cause<EventFlowError>)
  }

  #leave(): void {
    this.#event = undefined
    this.#dispatch.leaveFlow()
  }

  end(): void {
    this.#dispatch.end()
  }
}

/** The flow of a message that says which one it is part of. */
export const flowOf = (caller: Context.Context<never>, delivery: Subscriber.Delivery): DeliveryFlow | undefined => {
  const id = Message.attribute(delivery.message, "id")
  const correlationId = Message.attribute(delivery.message, "correlationid") ?? id
  return correlationId === undefined ? undefined : new DeliveryFlow(caller, delivery, correlationId, id)
}
