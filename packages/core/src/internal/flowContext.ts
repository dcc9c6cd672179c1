/**
 * How a running flow is found from a fiber: its correlation, and the context
 * that the flow was started in.
 */
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Correlation from "../Correlation.ts"
import type { CapturedContext } from "./capturedContext.ts"

/**
 * The correlation of a flow that started here. It also keeps the two contexts
 * that let handlers share the work of merging contexts (see `handlerContext`).
 */
export class Flow implements Correlation.Correlation {
  readonly causationId = undefined
  /** The context of whoever sent the first command. */
  readonly caller: Context.Context<never>
  /** The same, with this flow in it. */
  readonly context: Context.Context<never>
  #correlationId: string | undefined = undefined

  constructor(caller: Context.Context<never>) {
    this.caller = caller
    this.context = Context.add(caller, Correlation.Current, this)
  }

  // Made when first read: most flows never need it
  get correlationId(): string {
    return this.#correlationId ??= SecureRandom.uuidV7Unsafe()
  }
}

/**
 * The context to run a handler in. Each flow has a context of its own, which
 * would defeat the handler's cache of merged contexts; so the caller's context
 * is merged (cached) and the flow added to the result.
 */
export const handlerContext = (
  captured: CapturedContext,
  context: Context.Context<never>
): Context.Context<never> => {
  const flow = Context.get(context, Correlation.Current)
  if (!(flow instanceof Flow) || flow.context !== context) return captured.mergedWith(context)
  const merged = captured.mergedWith(flow.caller)
  return merged === flow.caller ? context : Context.add(merged, Correlation.Current, flow)
}
