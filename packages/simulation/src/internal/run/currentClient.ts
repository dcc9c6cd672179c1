/** The client whose steps a fiber does. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { NodeUnavailable } from "./unavailable.ts"

export interface CurrentClient {
  readonly call: <A, E>(node: string, effect: Effect.Effect<A, E>) => Effect.Effect<A, E | NodeUnavailable>
}

export const CurrentClient: Context.Reference<CurrentClient | undefined> = Context.Reference<CurrentClient | undefined>(
  "@event-flow/simulation/internal/CurrentClient",
  { defaultValue: () => undefined }
)
