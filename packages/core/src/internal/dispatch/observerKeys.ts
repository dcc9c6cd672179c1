/** Under which keys a context holds the observers of a flow: each under one of its own, so that they add up. */
import * as Context from "effect/Context"

export const prefix = "@event-flow/core/FlowObserver/"

let added = 0

/** A context with one more observer, a `FlowObserver`. */
export const addObserver = <S>(context: Context.Context<S>, observer: object): Context.Context<S> =>
  Context.addUnsafe(context, `${prefix}${++added}`, observer)

/** The run inside which code runs: the parent of a command that is sent there. */
export const CurrentRun = Context.Reference<object | undefined>(
  // Not below `prefix`: it is no observer
  "@event-flow/core/CurrentRun",
  { defaultValue: () => undefined }
)
