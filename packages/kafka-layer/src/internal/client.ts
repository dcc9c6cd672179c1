/** Options of the client's classes, and its callbacks as effects. */
import type { BaseOptions, ClusterMetadata, Connection } from "@platformatic/kafka"
import * as Effect from "effect/Effect"
import * as KafkaError from "./errors.ts"
import type { ConnectionSettings } from "./settings.ts"

/** Retries are made above the client: its own may hang without a bound. */
export const baseOptions = (settings: ConnectionSettings): BaseOptions => ({
  clientId: settings.clientId,
  bootstrapBrokers: [...settings.bootstrapServers],
  connectTimeout: settings.connectTimeout,
  requestTimeout: settings.requestTimeout,
  timeout: settings.requestTimeout,
  metadataMaxAge: settings.metadataMaxAge,
  retries: 0,
  ...(settings.tls === undefined ? undefined : { tls: settings.tls }),
  ...(settings.sasl === undefined ? undefined : { sasl: settings.sasl })
})

export type Callback<A> = (error: Error | null, value?: A) => void

/** A call of the client with a callback. When it is interrupted, its answer is dropped. */
export const call = <A>(run: (callback: Callback<A>) => void): Effect.Effect<A, KafkaError.Failure> =>
  Effect.callback<A, KafkaError.Failure>((resume) => {
    try {
      run((error, value) =>
        resume(
          error === null || error === undefined
            ? Effect.succeed(value as A)
            : Effect.fail(KafkaError.describe(error))
        )
      )
    } catch (error) {
      resume(Effect.fail(KafkaError.describe(error)))
    }
  })

/** A call that gives a promise. */
export const promise = <A>(run: () => Promise<A>): Effect.Effect<A, KafkaError.Failure> =>
  Effect.tryPromise({ try: run, catch: KafkaError.describe })

export type { ClusterMetadata, Connection }
