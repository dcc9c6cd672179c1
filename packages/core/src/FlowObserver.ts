/**
 * Watches a flow from inside: what `@event-flow/core/testing` records and draws.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Event from "./Event.ts"
import { addObserver } from "./internal/dispatch/observerKeys.ts"
import type { Message } from "./Message.ts"

/**
 * The calls that a flow makes to its observer, synchronously and in order. An
 * observer must not throw.
 *
 * **Details**
 *
 * A `run` is an object that stands for one dispatch of a command, one run of an
 * event handler, or one delivery.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface FlowObserver {
  /**
   * Asked once for each command that starts a flow and for each delivery: false,
   * and nothing of it is reported to this observer, and it takes the quick way
   * when no other one wants it. What a flow leads to in this process, such as
   * nested commands, follows the answer.
   */
  readonly isSampled: (
    work:
      | { readonly _tag: "Command"; readonly command: { readonly _tag: string } }
      | { readonly _tag: "Delivery"; readonly message: Message; readonly group: string }
  ) => boolean
  /** The dispatch of a command starts, outside of its middleware; `parent`: the run in which it was sent. */
  readonly commandStarted: (run: object, command: { readonly _tag: string }, parent: object | undefined) => void
  /** The handler of a command starts: once, never (middleware refused), or often (middleware retries). */
  readonly commandHandling: (run: object) => void
  /** The handler of a command has ended, as often as it started. */
  readonly commandHandled: (run: object, exit: Exit.Exit<unknown, unknown>) => void
  /** The dispatch of a command, middleware and events included, has ended. */
  readonly commandEnded: (run: object, exit: Exit.Exit<unknown, unknown>) => void
  /** An event handler starts. */
  readonly handlerStarted: (run: object, handler: string, event: Event.Any) => void
  /** An event handler has ended. */
  readonly handlerEnded: (run: object, exit: Exit.Exit<unknown, unknown>) => void
  /**
   * The events of a run go to the processor: what a handler collected, once it
   * has succeeded; for a streaming command, what it collected for one element.
   */
  readonly collected: (run: object, events: ReadonlyArray<Event.Any>) => void
  /**
   * Messages go to the broker: notification events, each as one of them. A
   * message that a consumer puts aside, as a dead letter or for a retry, has no
   * event here: `delivery` is the run that it comes from.
   */
  readonly published: (
    events: ReadonlyArray<Event.Any>,
    messages: ReadonlyArray<Message>,
    delivery: object | undefined
  ) => void
  /** The broker has answered. */
  readonly publishEnded: (messages: ReadonlyArray<Message>, exit: Exit.Exit<unknown, unknown>) => void
  /** A consumer takes up a delivery. */
  readonly deliveryStarted: (run: object, message: Message, group: string) => void
  /** An attempt at handling a delivery starts: the message was decoded to this event. */
  readonly deliveryDecoded: (run: object, event: Event.Any) => void
  /** A consumer is done with a delivery, before it acknowledges or returns it; with one that is held, for now. */
  readonly deliveryEnded: (run: object, outcome: DeliveryOutcome, info: DeliveryInfo) => void
}

/**
 * What became of a delivery. `"returned"`: not acknowledged, so the broker
 * delivers the message again. `"postponed"`: published to where it waits for a
 * retry. `"held"`: neither; the consumer takes the same delivery up again later,
 * since a dependency may be away.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type DeliveryOutcome = "handled" | "duplicate" | "skipped" | "postponed" | "dead_lettered" | "returned" | "held"

/**
 * How a delivery came to its outcome.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface DeliveryInfo {
  /** How often the consumer tried to handle the message, in this delivery. */
  readonly attempts: number
  /**
   * Why the message was not handled: the last failure of an attempt, else what
   * ended the attempt, such as an interruption. Undefined: it was handled.
   */
  readonly cause: Cause.Cause<unknown> | undefined
  /** What the policy decided about the last failure; undefined: it was not asked, or gave no answer. */
  readonly decision: "Retry" | "Postpone" | "DeadLetter" | "Skip" | "Ignore" | "Stop" | undefined
  /** Where the message was published to as a dead letter or for a retry, or could not be published to. */
  readonly topic: string | undefined
  /** When a postponed message is due, in milliseconds since 1970. */
  readonly due: number | undefined
}

/**
 * Adds an observer to those of the flows and consumers that are built below it
 * (`Layer.provide`). Observers add up, in whatever order layers are joined (F21).
 *
 * **Example** (Which handlers fail)
 *
 * ```ts
 * import { Command, DomainEvent, EventFlow, EventHandler, FlowObserver } from "@event-flow/core"
 * import { Effect, Exit, Layer } from "effect"
 *
 * class Paid extends DomainEvent.Class<Paid>()("Paid", {}) {}
 * class Pay extends Command.Class<Pay>()("Pay", { emits: [Paid] }) {}
 * const Ship = EventHandler.make("Ship", { on: Paid })
 * class Shop extends EventFlow.make("Shop", { commands: [Pay], handlers: [Ship] }) {}
 *
 * const failures = new Map<string, number>()
 * const names = new WeakMap<object, string>()
 * const CountFailures = FlowObserver.layer(FlowObserver.make({
 *   handlerStarted: (run, handler) => names.set(run, handler),
 *   handlerEnded: (run, exit) => {
 *     const handler = names.get(run) ?? "unknown"
 *     if (Exit.isFailure(exit)) failures.set(handler, (failures.get(handler) ?? 0) + 1)
 *   }
 * }))
 *
 * const ShopLive = Shop.layer().pipe(
 *   Layer.provide([Pay.toLayer((_, { collect }) => collect(new Paid())), Ship.toLayer(() => Effect.void)]),
 *   Layer.provide(CountFailures)
 * )
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (observer: FlowObserver): Layer.Layer<never> =>
  Layer.effectContext(Effect.sync(() => addObserver(Context.empty(), observer)))

/**
 * An observer of some calls, which ignores the others.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (calls: Partial<FlowObserver>): FlowObserver => ({ ...ignoreAll, ...calls })

// --- internal ---

const ignore = () => {}

const ignoreAll: FlowObserver = {
  isSampled: () => true,
  commandStarted: ignore,
  commandHandling: ignore,
  commandHandled: ignore,
  commandEnded: ignore,
  handlerStarted: ignore,
  handlerEnded: ignore,
  collected: ignore,
  published: ignore,
  publishEnded: ignore,
  deliveryStarted: ignore,
  deliveryDecoded: ignore,
  deliveryEnded: ignore
}
