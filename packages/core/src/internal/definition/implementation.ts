/**
 * What commands and event handlers have in common: an implementation that a
 * layer provides, and the services that the layer gives it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { GivenServices } from "./givenServices.ts"

type Keys = ReadonlyArray<Context.Key<unknown, unknown>>

/** The two ways to call `toLayer`: with the services that the handler asks for while it runs, or without. */
export type ToLayerArguments<Run> = readonly [build: Build<Run>] | readonly [services: Keys, build: Build<Run>]

type Build<Run> = Run | Effect.Effect<Run>

/** The definitions that a flow or a consumer lists: the layer of any other one can never run. */
const listed = new WeakSet<object>()

/** Takes note that a flow or a consumer lists this definition. */
export const list = (definition: object): void => {
  listed.add(definition)
}

/** The layer of an implementation, in the context under `key`. */
export const implementationLayer = <Run extends object, Bound>(options: {
  readonly definition: object
  /** `command "Join"`, for what is logged and thrown. */
  readonly name: string
  readonly key: Context.Key<never, Bound>
  readonly arguments: ToLayerArguments<Run>
  readonly bind: (run: Run, services: GivenServices, context: Context.Context<never>) => Bound
}): Layer.Layer<never> => {
  const [services, build] = options.arguments.length === 1 ? [[], options.arguments[0]] : options.arguments
  for (const key of services) {
    if (Context.isReference(key)) {
      throw new Error(
        `The layer of ${options.name} lists "${key.key}" among its services: ` +
          "it is a reference, which a handler finds as its caller has it. Remove it from the list"
      )
    }
  }
  return Layer.effectContext(
    Effect.contextWith((context: Context.Context<never>) =>
      Effect.flatMap(Effect.isEffect(build) ? build : Effect.succeed(build), (run) => {
        const bound = options.bind(run, GivenServices.from(services, context), context)
        return Effect.as(
          listed.has(options.definition) ? Effect.void : Effect.logWarning(
            `The layer of ${options.name} is provided, and no flow lists it: it never runs. ` +
              "List it in EventFlow.make, or in the EventConsumer that handles it"
          ),
          Context.make(options.key, bound)
        )
      })
    )
  )
}
