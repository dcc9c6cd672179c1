/**
 * One dispatch in its fiber.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { CapturedContext } from "./capturedContext.ts"
import { type Flow, handlerContext } from "./flowContext.ts"
import type { Sending } from "./inFlight.ts"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/**
 * What mediator, processor and emitter share while they work on one dispatch.
 * `end` must run on every exit; interruption skips all continuations but
 * `onExit`, so there is one such frame, around the whole (see `inDispatch`).
 */
export class Dispatch implements Sending {
  readonly fiber: AnyFiber
  caller: Context.Context<never>
  /** The context in which events are processed. */
  context: Context.Context<never>
  /** What is collected from now on would be lost. */
  isEnded = false
  /** The flow that started with this dispatch. */
  flow: Flow | undefined = undefined
  previous: Sending = this
  next: Sending = this

  constructor(fiber: AnyFiber) {
    this.fiber = fiber
    this.caller = fiber.context
    this.context = fiber.context
  }

  end(): void {
    this.isEnded = true
    this.leaveFlow()
  }

  /** For a fiber that handles one delivery after another in one dispatch: the next has a flow of its own. */
  leaveFlow(): void {
    this.flow?.release()
    this.fiber.setContext(this.caller)
  }

  enterFlow(flow: Flow): void {
    this.flow = flow
    this.caller = flow.caller
    this.context = flow.caller
  }

  /** The context to run a handler in; that of a flow is not made for it. */
  handlerContext(captured: CapturedContext): Context.Context<never> {
    return this.flow === undefined ? handlerContext(captured, this.context) : this.flow.handlerContext(captured)
  }
}

/** Runs an effect as a dispatch of its own. */
export const inDispatch = <A, E>(run: (dispatch: Dispatch) => Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.withFiber((fiber) => {
    const dispatch = new Dispatch(fiber)
    return Effect.onExitPrimitive(run(dispatch), () => {
      dispatch.end()
      return undefined
    })
  })
