/**
 * The way of a command to its implementation: what the layer of a flow provides
 * for each of its commands.
 */
import * as Context from "effect/Context"
import type { Definition } from "../definition/commandClass.ts"
import type { Dispatched, Dispatcher } from "./dispatcher.ts"
import type { Flow } from "./flow.ts"

export interface Route extends Dispatched {
  readonly dispatcher: Dispatcher
}

/**
 * The route of a command: what a handler sends goes by the flow that runs it,
 * unless the handler itself provides another one; everything else by what is
 * provided. Undefined: there is none.
 */
export const routeOf = (
  context: Context.Context<never>,
  flow: Flow | undefined,
  { routeKey, tag }: Definition
): Route | undefined => {
  // Only the layers of flows write what is read here
  const provided = Context.getOrUndefined(context, routeKey) as Route | undefined
  if (flow === undefined) return provided
  const ofFlow = flow.routes?.get(tag) as Route | undefined
  const isNearer = ofFlow === undefined ||
    (provided !== undefined && provided !== Context.getOrUndefined(flow.caller, routeKey))
  return isNearer ? provided : ofFlow
}
