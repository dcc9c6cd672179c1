/** Under which keys a context holds the observers of a flow: each under one of its own, so that they add up. */
import * as Context from "effect/Context"

export const prefix = "@event-flow/core/FlowObserver/"

let added = 0

/** A context with one more observer, a `FlowObserver`. */
export const addObserver = <S>(context: Context.Context<S>, observer: object): Context.Context<S> =>
  Context.addUnsafe(context, `${prefix}${++added}`, observer)
