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
 * everything else by what is provided. Undefined: there is none.
 */
export const routeOf = (
  context: Context.Context<never>,
  parent: Flow | undefined,
  definition: Definition
): Route | undefined =>
  // Only the layers of flows write what is read here
  (parent?.routes?.get(definition.tag) ?? Context.getOrUndefined(context, definition.routeKey)) as Route | undefined
