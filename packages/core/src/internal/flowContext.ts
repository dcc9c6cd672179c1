/**
 * How a running flow is found from a fiber: its correlation, and the context
 * that the flow was started in.
 */
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Correlation from "../Correlation.ts"
import type { Delivery } from "../Subscriber.ts"
import type { CapturedContext } from "./capturedContext.ts"

/**
 * The correlation of a flow that started here. It also keeps the two contexts
 * that let handlers share the work of merging contexts (see `handlerContext`).
 * All of it is made when first needed: most flows need little of it.
 */
export class Flow implements Correlation.Correlation {
  readonly causationId: string | undefined
  /** The context of whoever sent the first command. */
  readonly caller: Context.Context<never>
  #context: Context.Context<never> | undefined = undefined
  #merged: Context.Context<never> | undefined = undefined
  #handlers: Context.Context<never> | undefined = undefined
  #correlationId: string | undefined

  constructor(caller: Context.Context<never>, correlationId?: string, causationId?: string) {
    this.caller = caller
    this.#correlationId = correlationId
    this.causationId = causationId
  }

  /** The context of the caller, with this flow in it. */
  get context(): Context.Context<never> {
    return this.#context ??= Context.add(this.caller, Correlation.Current, this)
  }

  /** Whether this is `context`, without making it. */
  isContext(context: Context.Context<never>): boolean {
    return this.#context === context
  }

  /**
   * The context to run a handler in. Each flow has a context of its own, which
   * would defeat the handler's cache of merged contexts; so the caller's context
   * is merged (cached) and the flow added to the result.
   */
  handlerContext(captured: CapturedContext): Context.Context<never> {
    const merged = captured.mergedWith(this.caller)
    if (merged === this.caller) return this.context
    // The same handler again, as in a chain of follow-ups
    if (this.#handlers === undefined || this.#merged !== merged) {
      this.#merged = merged
      this.#handlers = Context.add(merged, Correlation.Current, this)
    }
    return this.#handlers
  }

  /**
   * Lets go of the contexts when the dispatch has ended. A context refers to its
   * flow from an object that V8 may have allocated as an old one; what that
   * refers to outlives the next young collections, so it should be little.
   */
  release(): void {
    this.#context = undefined
    this.#merged = undefined
    this.#handlers = undefined
  }

  get correlationId(): string {
    return this.#correlationId ??= SecureRandom.uuidV7Unsafe()
  }
}

/** The flow of a consumed message: one that started elsewhere. */
export class DeliveryFlow extends Flow {
  readonly delivery: Delivery

  constructor(caller: Context.Context<never>, delivery: Delivery, correlationId?: string, causationId?: string) {
    super(caller, correlationId, causationId)
    this.delivery = delivery
  }
}

/** The delivery that the code of this context works on, if there is one. */
export const deliveryOf = (context: Context.Context<never>): Delivery | undefined => {
  const flow = Context.get(context, Correlation.Current)
  return flow instanceof DeliveryFlow ? flow.delivery : undefined
}

/** A dispatch that sends starts a flow, unless it is part of one. */
export const inFlow = (caller: Context.Context<never>): Context.Context<never> =>
  Context.get(caller, Correlation.Current) === undefined ? new Flow(caller).context : caller

/** The context to run a handler in, in the flow of `context` or outside of one. */
export const handlerContext = (
  captured: CapturedContext,
  context: Context.Context<never>
): Context.Context<never> => {
  const flow = Context.get(context, Correlation.Current)
  return flow instanceof Flow && flow.isContext(context)
    ? flow.handlerContext(captured)
    : captured.mergedWith(context)
}
