/**
 * The correlation of a flow: the id that all of its messages share, and the id
 * of the message that caused this part of it.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import { CurrentFlow, Flow } from "./internal/dispatch/flow.ts"

/**
 * The correlation of the running flow.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Correlation {
  /** The id that all messages of a flow share, in every process that the flow passes through. */
  readonly correlationId: string
  /** The id of the consumed message that started this part of the flow; undefined when none did. */
  readonly causationId: string | undefined
}

/**
 * The correlation of the running flow; undefined outside a flow.
 *
 * **Details**
 *
 * `Mediator.send` starts one when there is none, so nested sends share it; the
 * `EventConsumer` restores it from the message that it handles.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const current: Effect.Effect<Correlation | undefined> = Effect.withFiber((fiber) =>
  Effect.succeed(Context.get(fiber.context, CurrentFlow))
)

/**
 * A correlation with a known id.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (correlationId: string, causationId?: string): Correlation => ({ correlationId, causationId })

/**
 * Runs an effect under a correlation that comes from elsewhere, such as a
 * request header.
 *
 * **Example** (The id of a request)
 *
 * ```ts
 * import { Command, Correlation, Mediator } from "@event-flow/core"
 *
 * class Ping extends Command.Class<Ping>()("Ping", {}) {}
 *
 * const handle = (requestId: string) =>
 *   Mediator.send(new Ping()).pipe(Correlation.provide(Correlation.make(requestId)))
 * ```
 *
 * @stability unstable
 * @category combinators
 * @since 0.1.0
 */
export const provide: {
  (correlation: Correlation): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, correlation: Correlation): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, correlation: Correlation): Effect.Effect<A, E, R> =>
    Effect.updateContext(effect, (context: Context.Context<R>) =>
      // The same services, and the flow
      Flow.correlated(context, correlation) as Context.Context<R>)
)
