/** Whether an Effect is done already: its value can be had without a step of the run loop. */
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

// `Exit.isExit` costs 50 ns, a tenth of what it takes to decode a message
const success: unknown = Object.getPrototypeOf(Exit.void)

export const isDone = <A, E>(effect: Effect.Effect<A, E>): effect is Exit.Success<A, E> =>
  Object.getPrototypeOf(effect) === success
