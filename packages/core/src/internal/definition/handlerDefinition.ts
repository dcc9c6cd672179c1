/**
 * Makes the definitions of event handlers, and keeps what they need at run time
 * and nobody else calls.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Collect } from "../../Collect.ts"
import type * as Event from "../../Event.ts"
import type { GivenServices } from "./givenServices.ts"
import { implementationLayer, type ToLayerArguments } from "./implementation.ts"
import type { HandlerDefinition } from "./models.ts"

export type RunHandler = (event: Event.Any, context: Collect<Event.Any>) => Effect.Effect<void, unknown>

/** A handler's implementation, as its layer provides it. */
export interface BoundHandler {
  readonly definition: HandlerDefinition
  readonly run: RunHandler
  readonly services: GivenServices
}

/** Under which a context holds what the handler's layer provides. */
export const implementationKey = (definition: HandlerDefinition): Context.Key<never, BoundHandler> =>
  Context.Service<never, BoundHandler>(`@event-flow/core/EventHandler/${definition.name}/implementation`)

/** The definition with its methods, which the caller casts to the type that it has computed from the options. */
export const makeHandler = (definition: HandlerDefinition): unknown => {
  const handler = {
    ...definition,
    of: (run: unknown) => run,
    toLayer: (...args: ToLayerArguments<RunHandler>): Layer.Layer<never> =>
      implementationLayer({
        definition: handler,
        name: `event handler "${definition.name}"`,
        key: implementationKey(definition),
        arguments: args,
        bind: (run, services): BoundHandler => ({ definition: handler, run, services })
      })
  }
  return handler
}
