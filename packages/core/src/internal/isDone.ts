/** Whether an Effect is done already: its value can be had without a step of the run loop. */
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

export const isDone = <A, E>(effect: Effect.Effect<A, E>): effect is Exit.Success<A, E> =>
  Exit.isExit(effect) && Exit.isSuccess(effect)
