/** The way of one delivery through a worker: decode it, drop it if it is a duplicate, handle it, settle it. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import * as DeadLetter from "../../DeadLetter.ts"
import type * as Event from "../../Event.ts"
import type { EventFlowError } from "../../EventFlowError.ts"
import type { DeliveryOutcome } from "../../FlowObserver.ts"
import type { InboxError } from "../../Inbox.ts"
import type { Message } from "../../Message.ts"
import type * as MessageCodec from "../../MessageCodec.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import type { Delivery } from "../../Subscriber.ts"
import { Dispatch, inDispatch } from "../dispatch/dispatch.ts"
import { Flow } from "../dispatch/flow.ts"
import type { Watching } from "../dispatch/observers.ts"
import { isDone } from "../isDone.ts"
import { readable } from "../structured.ts"
import { type Batching, runBatch } from "./batch.ts"
import { Consumed } from "./consumed.ts"
import { HandlerMemory } from "./handlerMemory.ts"
import type { History } from "./history.ts"
import type { Runner } from "./lanes.ts"
import type { Once } from "./once.ts"
import { decodingFailed, handlingFailed } from "./reasons.ts"
import type { Why, Work } from "./watch.ts"

type AnyFiber = Fiber.Fiber<unknown, unknown>

interface EventHandler {
  readonly handle: (event: Event.Any) => Effect.Effect<void, EventFlowError | InboxError>
}

/** What the workers of a consumer share. */
export interface Shared extends Batching {
  readonly afterFailure: (worker: DeliveryWorker, failure: ConsumerPolicy.Failure) => Effect.Effect<void, unknown>
}

/**
 * Handles one delivery at a time in the dispatch of its fiber. A delivery has no
 * frame of its own: the one that ends whatever is interrupted is there for all
 * of them (see `Lanes`), and so is the one that catches failures.
 */
export class DeliveryWorker implements Runner<Delivery>, Work {
  readonly #shared: Shared
  readonly #dispatch: Dispatch
  /** Settles the delivery as well. */
  readonly #handler: EventHandler
  readonly memory: HandlerMemory
  #stage: "decoding" | "handling" | "ended" = "ended"
  #event: NotificationEvent.Any | undefined = undefined
  #consumed: Consumed | undefined = undefined
  delivery!: Delivery
  message!: Message
  attempts = 0
  /** Undefined: it has not failed yet. */
  history: History | undefined = undefined
  why: Why | undefined = undefined
  outcome: DeliveryOutcome | undefined = undefined
  watching: Watching | undefined = undefined

  constructor(shared: Shared, fiber: AnyFiber) {
    this.#shared = shared
    this.#dispatch = new Dispatch(fiber)
    this.memory = new HandlerMemory(
      shared.once !== undefined,
      () => DeadLetter.handlersToRun(this.delivery.message, shared.group)
    )
    this.#handler = shared.once === undefined
      ? shared.consuming.handlerIn(this.#dispatch, this.memory, this.#handled)
      : { handle: this.#handleOnce(shared.once) }
  }

  run(delivery: Delivery): Effect.Effect<void, unknown> {
    const { outage } = this.#shared
    this.history = outage === undefined || outage.isCalm ? undefined : outage.taken(delivery)
    // The answer says that nobody works on it any more: a rebalance waits for that
    if (delivery.isRevoked()) return delivery.nack
    this.delivery = delivery
    this.message = readable(delivery.message)
    this.memory.clear()
    this.attempts = 0
    if (this.history !== undefined) {
      this.attempts = this.history.attempts
      this.memory.restore(this.history.handlers)
    }
    this.why = undefined
    this.outcome = undefined
    return this.#shared.watch.around(this)
  }

  runAll(deliveries: ReadonlyArray<Delivery>): Effect.Effect<void, unknown> {
    return runBatch(this.#shared, deliveries)
  }

  start(): Effect.Effect<void, unknown> {
    const dispatch = this.#dispatch
    const { consuming: { routes }, group } = this.#shared
    this.#consumed = new Consumed(this.delivery, this.message, group)
    dispatch.enterFlow(Flow.consuming(dispatch.fiber.context, routes, this.#consumed, this.watching))
    return this.attempt()
  }

  attempt(): Effect.Effect<void, unknown> {
    // Not the worker's own count, which is that of its next delivery later
    this.#consumed!.attempts = ++this.attempts
    this.#stage = "decoding"
    const decoded = this.#shared.codec.decode(this.message, this.#shared.consuming.known)
    if (isDone(decoded)) return this.#handle(decoded.value)
    this.#enterContext()
    return Effect.flatMap(decoded, this.#handle)
  }

  readonly #handle = (event: NotificationEvent.Any): Effect.Effect<void, EventFlowError | InboxError> => {
    this.#stage = "handling"
    this.#event = event
    this.#shared.watch.decoded(this, event)
    return this.#handler.handle(event)
  }

  readonly #handleOnce = (once: Once) => (event: Event.Any): Effect.Effect<void, EventFlowError | InboxError> => {
    this.#enterContext()
    // The inbox may run it in a fiber of its own
    const handling = inDispatch((dispatch) =>
      this.#shared.consuming.handlerIn(dispatch, this.memory, () => Effect.void).handle(event)
    )
    return Effect.flatMap(
      once.one(this.message, handling),
      (isFirst) => isFirst ? this.#handled() : this.settle("duplicate")
    )
  }

  readonly #handled = (): Effect.Effect<void> => {
    // What an earlier attempt failed with is no reason any more
    this.why = undefined
    const { outage } = this.#shared
    if (outage !== undefined && !outage.isCalm) outage.handled(this.#event!._tag)
    return this.settle("handled")
  }

  /** The delivery is done with: says so and acknowledges it. */
  settle(outcome: DeliveryOutcome): Effect.Effect<void> {
    this.#leave()
    this.outcome = outcome
    return this.#shared.watch.settle(this, outcome)
  }

  /** The delivery was taken away while it waited for a retry. */
  giveBack(): Effect.Effect<void> {
    this.#leave()
    return this.delivery.nack
  }

  /** The consumer keeps the delivery, first in its lane, until its outage says that it is tried again. */
  hold(now: number): void {
    const { delivery } = this
    const history = this.history!
    this.#leave()
    this.outcome = "held"
    history.attempts = this.attempts
    history.handlers = this.memory.save()
    this.#shared.watch.held(this)
    this.#shared.outage!.hold(delivery, history, now)
  }

  /** Nothing that fails from here on is a failure of decoding or handling. */
  #leave(): void {
    this.#stage = "ended"
    this.#event = undefined
    this.#dispatch.leaveFlow()
  }

  /** Another attempt; gives its failure, if it has failed as well. */
  readonly retry: Effect.Effect<ConsumerPolicy.Failure | undefined> = Effect.suspend(() => {
    // The attempt that failed has left it where it was
    this.#dispatch.flow.depth = 0
    return Effect.matchCauseEffect(this.attempt(), {
      onSuccess: () => Effect.undefined,
      onFailure: (cause) => {
        const failure = this.#failed(cause)
        // Of what comes after an attempt, only a defect is left
        return failure === undefined ? Effect.failCause(cause as Cause.Cause<never>) : Effect.succeed(failure)
      }
    })
  })

  recover(_delivery: Delivery, cause: Cause.Cause<unknown>): Effect.Effect<void, unknown> {
    const failure = this.#failed(cause)
    return failure === undefined ? Effect.failCause(cause) : this.#shared.afterFailure(this, failure)
  }

  /** The failure of an attempt as a policy sees it; undefined: the cause comes from somewhere else. */
  #failed(cause: Cause.Cause<unknown>): ConsumerPolicy.Failure | undefined {
    const { message } = this
    const stage = this.#stage
    if (stage === "ended") return undefined
    this.#stage = "ended"
    this.memory.attemptFailed()
    // Whatever ran may have left a context of its own
    this.#enterContext()
    return stage === "decoding"
      // Nothing else fails in these stages
      ? decodingFailed(message, cause as Cause.Cause<MessageCodec.DecodeError>)
      : handlingFailed(message, this.#event!, cause as Cause.Cause<EventFlowError | InboxError>)
  }

  #enterContext(): void {
    const { fiber, flow } = this.#dispatch
    if (flow !== undefined) fiber.setContext(flow.context)
  }

  end(): void {
    this.#dispatch.end()
  }
}
