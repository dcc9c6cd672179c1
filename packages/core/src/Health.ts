/**
 * What a program is connected to, for readiness checks and dashboards: one port
 * for all broker layers.
 *
 * Each publisher, subscription, consumer and relay reports its state to the registry for as
 * long as it is open. Asking reads memory: it costs nothing, and works while no
 * server can be reached. Like the metrics of Effect, the registry is one for the
 * process, unless `layer` gives a program its own.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/**
 * The state of a connection:
 *
 * - `"connecting"`: it connects or joins its consumer group, for the first time or after a rebalance.
 * - `"connected"`: it works, as far as is known.
 * - `"disconnected"`: it was lost, refused or blocked, for the reason in `detail`; it goes on by itself.
 * - `"paused"`: a consumer waits for a dependency of its handlers, such as a database; `detail` is how they fail.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type State = "connecting" | "connected" | "disconnected" | "paused"

/**
 * What reports its health.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Subject {
  /** What it connects to: the value of `messaging.system` in spans, such as `kafka`; of a relay, its database. */
  readonly system: string
  readonly component: "publisher" | "subscription" | "consumer" | "relay"
  /** The consumer group of a subscription or a consumer. */
  readonly group: string | undefined
  /** The topics of a subscription or a consumer. */
  readonly topics: ReadonlyArray<string>
}

/**
 * The health of one publisher or subscription. Broker layers add what they know
 * beside it, such as partitions and their lag.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Health extends Subject {
  readonly state: State
  /** Since when it has this state, in milliseconds since 1970. */
  readonly since: number
  /** Why it is not connected. */
  readonly detail: string | undefined
}

/**
 * Where health is reported to and read from. Default: one registry for the
 * process.
 *
 * @stability unstable
 * @category references
 * @since 0.1.0
 */
export const Registry: Context.Reference<Set<() => Health>> = Context.Reference<Set<() => Health>>(
  "@event-flow/core/Health/Registry",
  { defaultValue: () => new Set() }
)

/**
 * A registry of its own for a program, and for tests. Provide it to the broker
 * layers and to whoever asks.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.sync(Registry)(() => new Set<() => Health>())

/**
 * The health of everything that is open, in the order of opening. Objects of a
 * broker layer have its own fields as well.
 *
 * **Example** (What an endpoint for readiness answers)
 *
 * ```ts
 * import { Health, MemoryBroker } from "@event-flow/core"
 * import { Console, Effect } from "effect"
 *
 * const readiness = Effect.gen(function*() {
 *   const isReady = yield* Health.isConnected
 *   return { status: isReady ? 200 : 503, body: yield* Health.all }
 * })
 *
 * const program = Effect.flatMap(readiness, ({ body, status }) => Console.log(status, body[0]?.state))
 *
 * Effect.runPromise(program.pipe(Effect.provide(MemoryBroker.layer()))) // prints "200 connected"
 * ```
 *
 * @stability unstable
 * @category reading
 * @since 0.1.0
 */
export const all: Effect.Effect<ReadonlyArray<Health>> = Effect.map(
  Registry,
  (registry) => Array.from(registry, (current) => current())
)

/**
 * Whether everything that is open is connected. True where nothing is open. A
 * consumer that is paused is connected.
 *
 * @stability unstable
 * @category reading
 * @since 0.1.0
 */
export const isConnected: Effect.Effect<boolean> = Effect.map(
  all,
  (all) => all.every(({ state }) => state === "connected" || state === "paused")
)

/**
 * Reports the health of one subject.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Report<Details> {
  /** The state now, with the details of the layer. */
  readonly current: () => Health & Details
  /** Changes the state. `since` changes only when the state does. */
  readonly set: (state: State, detail?: string) => void
}

/**
 * For authors of broker layers: reports a subject as `"connecting"` until its
 * scope closes. `details` gives what the layer knows beside it.
 *
 * @stability unstable
 * @category reporting
 * @since 0.1.0
 */
export const report = Effect.fnUntraced(function*<Details extends object>(
  subject: Subject,
  details: () => Details
): Effect.fn.Return<Report<Details>, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const registry = yield* Registry
  let state: State = "connecting"
  let since = clock.currentTimeMillisUnsafe()
  let detail: string | undefined
  const current = () => ({ ...subject, state, since, detail, ...details() })
  yield* Effect.acquireRelease(
    Effect.sync(() => registry.add(current)),
    () => Effect.sync(() => registry.delete(current))
  )
  return {
    current,
    set: (next, why) => {
      if (next !== state) since = clock.currentTimeMillisUnsafe()
      state = next
      detail = next === "connected" ? undefined : why
    }
  }
})
