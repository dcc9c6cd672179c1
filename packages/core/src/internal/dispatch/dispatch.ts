/**
 * One dispatch in its fiber.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { GivenServices } from "../definition/givenServices.ts"
import { Flow } from "./flow.ts"
import type { Sending } from "./inFlight.ts"

export type AnyFiber = Fiber.Fiber<unknown, unknown>

export type AnyEffect = Effect.Effect<unknown, unknown>

/**
 * What mediator, processor and emitter share while they work on one dispatch.
 * `end` must run on every exit; interruption skips all continuations but
 * `onExit`, so there is one such frame, around the whole (see `inDispatch`).
 */
export class Dispatch implements Sending {
  readonly fiber: AnyFiber
  caller: Context.Context<never>
  /** What is collected from now on would be lost. */
  isEnded = false
  /** Set before anything runs in the dispatch. */
  flow!: Flow
  previous: Sending = this
  next: Sending = this

  constructor(fiber: AnyFiber) {
    this.fiber = fiber
    this.caller = fiber.context
  }

  /** For a fiber that handles one delivery after another in one dispatch: each has a flow of its own. */
  enterFlow(flow: Flow): void {
    this.flow = flow
    this.caller = flow.caller
  }

  end(): void {
    this.isEnded = true
    this.fiber.setContext(this.caller)
  }

  /** Ends a flow that is of this dispatch alone. */
  leaveFlow(): void {
    this.flow?.release()
    this.fiber.setContext(this.caller)
  }
}

/** Runs an effect as a dispatch of its own, in the flow of the fiber's context or in one at another depth. */
export const inDispatch = <A, E>(
  run: (dispatch: Dispatch) => Effect.Effect<A, E>,
  flow?: Flow
): Effect.Effect<A, E> =>
  Effect.withFiber((fiber) => {
    const dispatch = new Dispatch(fiber)
    dispatch.flow = flow ?? Flow.continuedIn(fiber.context)
    return Effect.onExitPrimitive(run(dispatch), () => {
      dispatch.end()
      if (flow === undefined) dispatch.flow.release()
      return undefined
    })
  })

/** Lets the fiber of a dispatch run a handler: in the context of the flow, with the services of its layer. */
export const enterHandler = (dispatch: Dispatch, services: GivenServices): void => {
  dispatch.fiber.setContext(dispatch.flow.handlerContext(services))
}
