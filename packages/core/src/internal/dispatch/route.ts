/**
 * The way of a command to its implementation: what the layer of a flow provides
 * for each of its commands.
 */
import type { BoundCommand, Definition } from "../definition/commandClass.ts"
import type { Dispatcher } from "./dispatcher.ts"

export interface Route {
  readonly definition: Definition
  readonly bound: BoundCommand
  readonly dispatcher: Dispatcher
  /** How the dispatches of the command ended. */
  readonly counts: { started: number; succeeded: number; failed: number; interrupted: number }
}

/** By tag. */
export type Routes = ReadonlyMap<string, Route>
