/**
 * The services that a handler's layer was built with, joined to the context of
 * the fiber that runs the handler.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"

/**
 * As in effect/rpc, the caller's services win: that is how middleware hands a
 * request's own service to a handler. A merge costs O(services), so the last
 * one is kept: callers mostly come with the same context again.
 */
export class CapturedContext {
  readonly #captured: Context.Context<never>
  #caller: Context.Context<never> | undefined = undefined
  #merged: Context.Context<never> = Context.empty()

  constructor(buildContext: Context.Context<never>) {
    // The layer's own scope and memo map say nothing about a call
    this.#captured = Context.omit(Scope.Scope, Layer.CurrentMemoMap)(buildContext)
  }

  /** The caller's context itself when it has everything already. */
  mergedWith(caller: Context.Context<never>): Context.Context<never> {
    if (this.#caller === caller) return this.#merged
    const present = caller.mapUnsafe
    let isSubset = true
    for (const key of this.#captured.mapUnsafe.keys()) {
      if (!present.has(key)) {
        isSubset = false
        break
      }
    }
    this.#merged = isSubset ? caller : Context.merge(this.#captured, caller)
    this.#caller = caller
    return this.#merged
  }
}
