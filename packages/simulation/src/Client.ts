/**
 * What the clients of a simulated system do: requests to its nodes, which may be
 * lost on the way there or on the way back.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { CurrentClient } from "./internal/run/currentClient.ts"
import { NodeUnavailable } from "./internal/run/unavailable.ts"

/**
 * No answer came from a node: it is down, or the request or its answer was lost.
 * Nobody knows whether the request was done.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export { NodeUnavailable }

/**
 * The requirement that a node of this name has these services. Never constructed:
 * a scenario with such a node provides it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface On<Node extends string, out Services> {
  readonly _: unique symbol
  readonly node: Node
  readonly services: () => Services
}

/**
 * Runs an effect in an instance of a node that is up, as an endpoint of it would,
 * and gives its answer.
 *
 * **Details**
 *
 * It fails with `NodeUnavailable` when no instance is up, when the one that was asked
 * dies or stops before it has answered, and when a fault takes the request or the
 * answer. It does not try again: that is for the client to decide, as outside of a
 * simulation.
 *
 * **Example** (A client that asks again until it has an answer)
 *
 * ```ts
 * import { Command, Mediator } from "@event-flow/core"
 * import { Client } from "@event-flow/simulation"
 * import { Effect, Schedule, Schema } from "effect"
 *
 * class PlaceOrder extends Command.Class<PlaceOrder>()("PlaceOrder", { payload: { order: Schema.String } }) {}
 *
 * const place = (order: string) =>
 *   Client.call("shop", Mediator.send(new PlaceOrder({ order }))).pipe(
 *     Effect.retry({ schedule: Schedule.spaced("200 millis"), times: 100 })
 *   )
 * ```
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const call = <const Node extends string, A, E, R>(
  node: Node,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | NodeUnavailable, On<Node, R>> =>
  Effect.flatMap(CurrentClient, (client) =>
    client === undefined
      ? Effect.die(new Error("Client.call was used outside of a step of a scenario"))
      // The scenario has seen that the node has these services
      : client.call(node, effect as Effect.Effect<A, E>))
