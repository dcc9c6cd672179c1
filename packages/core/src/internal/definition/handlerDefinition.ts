/**
 * Makes the definitions of event handlers, and keeps what they need at run time
 * and nobody else calls.
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Collect } from "../../Collect.ts"
import type * as Event from "../../Event.ts"
import type { GivenServices } from "./givenServices.ts"
import { implementationLayer, type ToLayerArguments } from "./implementation.ts"
import type { HandlerDefinition } from "./models.ts"

export type RunHandler = (event: Event.Any, context: Collect<Event.Any>) => Effect.Effect<void, unknown>

export type RunBatch = (events: Arr.NonEmptyReadonlyArray<Event.Any>) => Effect.Effect<void, unknown>

/** A handler's implementation, as its layer provides it. */
export interface BoundHandler {
  readonly definition: HandlerDefinition
  readonly run: RunHandler
  /** Of a handler of batches: `run` gives it one of one event. */
  readonly runAll: RunBatch | undefined
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
    toLayer: (...args: ToLayerArguments<RunHandler | RunBatch>): Layer.Layer<never> =>
      implementationLayer({
        definition: handler,
        name: `event handler "${definition.name}"`,
        key: implementationKey(definition),
        arguments: args,
        bind: (run, services): BoundHandler => ({ definition: handler, services, ...runs(definition, run) })
      })
  }
  return handler
}

/** The mode of a definition says what its function takes. */
const runs = ({ mode }: HandlerDefinition, run: RunHandler | RunBatch): Pick<BoundHandler, "run" | "runAll"> => {
  if (mode === "single") return { run: run as RunHandler, runAll: undefined }
  const runAll = run as RunBatch
  return { run: (event) => runAll([event]), runAll }
}
