/**
 * A list of middleware as one function.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Middleware from "../../Middleware.ts"
import { GivenServices } from "./givenServices.ts"

type Apply = (effect: Effect.Effect<unknown, unknown>, info: Middleware.Info) => Effect.Effect<unknown, unknown>

/** The composed functions, outermost first, and the services that their layer gives them. */
export interface ComposedMiddleware {
  readonly apply: Apply
  readonly services: GivenServices
}

/**
 * The implementations of a list; undefined for an empty one. What a middleware
 * requires comes from `context`, unless the sender brings it (`fromSender`) or
 * middleware further out provides it.
 */
export const composeMiddleware = (
  middleware: ReadonlyArray<Middleware.Any>,
  context: Context.Context<never>,
  fromSender: ReadonlyArray<Context.Key<unknown, unknown>>
): ComposedMiddleware | undefined => {
  if (middleware.length === 0) return undefined
  const fromCaller = new Set(fromSender.map(({ key }) => key))
  const given: Array<Context.Key<unknown, unknown>> = []
  for (const one of middleware) {
    for (const key of one.requires) {
      // A reference is its sender's, as in a handler (F17)
      if (!fromCaller.has(key.key) && !Context.isReference(key)) given.push(key)
    }
    for (const { key } of one.provides) fromCaller.add(key)
  }
  const functions = middleware.map((one) => implementation(one, context))
  return {
    apply: (effect, info) => functions.reduceRight((inner, apply) => apply(inner, info), effect),
    services: GivenServices.from(given, context)
  }
}

const implementation = (middleware: Middleware.Any, context: Context.Context<never>): Apply =>
  "apply" in middleware
    // The services of these functions are erased: `composeMiddleware` provides them
    ? middleware.apply as Apply
    // A definition's types promise that the service is in the context of its layer
    : Context.getUnsafe(context, middleware as unknown as Context.Key<never, Apply>)
