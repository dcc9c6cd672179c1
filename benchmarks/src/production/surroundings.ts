/**
 * What a program has around its commands, alike for the library and for the program written by hand: services, a
 * request, a tracer and the span of a server.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import * as Layer from "effect/Layer"
import { OtlpSerialization, OtlpTracer } from "effect/observability"
import * as Tracer from "effect/Tracer"
import { seatOf, tally } from "../workload.ts"
import type { Configuration } from "./configurations.ts"

/** Who is signed in, as a program looks it up. */
export class Sessions extends Context.Service<Sessions, {
  readonly user: Effect.Effect<{ readonly id: string }>
}>()("benchmarks/Sessions") {}

export class CurrentUser extends Context.Service<CurrentUser, { readonly id: string }>()("benchmarks/CurrentUser") {}

const CurrentRequest = Context.Reference<object | undefined>("benchmarks/CurrentRequest", {
  defaultValue: () => undefined
})

const Extras = ({ services }: Configuration): Layer.Layer<never> => {
  let context = Context.empty()
  for (let i = 0; i < services; i++) {
    context = Context.add(context, Context.Reference<number>(`benchmarks/Service${i}`, { defaultValue: () => 0 }), i)
  }
  return Layer.succeedContext(context)
}

const exportsNothing = Layer.succeed(Tracer.Tracer)(
  Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })
)

/** The exporter with its batches and its JSON; the server answers at once, in this process. */
const otlp = OtlpTracer.layer({ url: "http://localhost/v1/traces", resource: { serviceName: "benchmarks" } }).pipe(
  Layer.provide(OtlpSerialization.layerJson),
  Layer.provide(
    Layer.succeed(HttpClient.HttpClient)(
      HttpClient.make((request) =>
        Effect.succeed(HttpClientResponse.fromWeb(request, new Response("{}", { status: 200 })))
      )
    )
  )
)

export const Surroundings = (configuration: Configuration): Layer.Layer<Sessions> =>
  Layer.mergeAll(
    Layer.succeed(Sessions)({ user: Effect.succeed({ id: "user-1" }) }),
    Extras(configuration),
    configuration.tracing === undefined ? Layer.empty : configuration.exporter === "otlp" ? otlp : exportsNothing
  )

let units = 0

/** One unit, as a server runs a request. */
const served = <A, E, R>(effect: Effect.Effect<A, E, R>, configuration: Configuration): Effect.Effect<A, E, R> => {
  const requested = configuration.request ? Effect.provideService(effect, CurrentRequest, {}) : effect
  return configuration.tracing === undefined ? requested : Effect.withSpan(requested, "POST /meetings", {
    captureStackTrace: false,
    kind: "server",
    root: true,
    sampled: units++ % configuration.tracing === 0
  })
}

/** Performs units one after another; each answers with a number that the tally adds up. */
export const performing = <E, R>(configuration: Configuration, unit: (seat: number) => Effect.Effect<number, E, R>) =>
  Effect.fnUntraced(function*(units: number) {
    for (let i = 0; i < units; i++) tally.answers += yield* served(unit(seatOf(i)), configuration)
  })

export type Run = (units: number) => Promise<void>
