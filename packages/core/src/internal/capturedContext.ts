/**
 * The services that a handler's layer was built with, joined to the context of
 * the fiber that runs the handler.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"

type AnyContext = Context.Context<never>

/** What is in a context only because a handler that runs further up was built with it. */
const Brought = Context.Reference<ReadonlyMap<string, unknown> | undefined>("@event-flow/core/internal/Brought", {
  defaultValue: () => undefined
})

/**
 * As in effect/rpc, the caller's services win: that is how middleware hands a
 * request's own service to a handler. What another handler brought is not the
 * caller's: a nested command's handler, or an event's, has those of its own
 * layer.
 *
 * A merge costs O(services), so the last one is kept: callers mostly come with
 * the same context again.
 */
export class CapturedContext {
  readonly #captured: ReadonlyMap<string, unknown>
  #caller: AnyContext | undefined = undefined
  #merged: AnyContext = Context.empty()

  constructor(buildContext: AnyContext) {
    // The layer's own scope and memo map say nothing about a call
    this.#captured = Context.omit(Scope.Scope, Layer.CurrentMemoMap)(buildContext).mapUnsafe
  }

  /** The caller's context itself when there is nothing to add. */
  mergedWith(caller: AnyContext): AnyContext {
    if (this.#caller !== caller) {
      this.#merged = merge(this.#captured, caller)
      this.#caller = caller
    }
    return this.#merged
  }
}

const merge = (captured: ReadonlyMap<string, unknown>, caller: AnyContext): AnyContext => {
  const callers = caller.mapUnsafe
  const brought = Context.get(caller, Brought)
  const added = new Map<string, unknown>()
  for (const [key, service] of captured) {
    const isCallers = callers.has(key) && !(brought?.has(key) === true && brought.get(key) === callers.get(key))
    if (!isCallers) added.set(key, service)
  }
  if (added.size === 0) return caller
  const services = new Map<string, unknown>(callers)
  for (const [key, service] of added) services.set(key, service)
  services.set(Brought.key, brought === undefined ? added : new Map([...brought, ...added]))
  return Context.makeUnsafe(services)
}
