/**
 * What the flows of one program may not have twice. A program is what one build
 * of layers makes: its layers share a memo map.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Duplicate } from "./models.ts"

interface Claim {
  readonly flow: object
  readonly definition: object
  readonly description: string
}

/** Claims of the program of a memo map, each with the flow layers that hold it. */
const claims = new WeakMap<Layer.MemoMap, Map<string, Array<Claim>>>()

/**
 * Claims a name for a definition until the scope is closed. Another definition
 * of this name, or the same one in another flow, is a duplicate.
 */
export const claim = (
  kind: Duplicate["kind"],
  name: string,
  { definition, description, flow }: Claim
): Effect.Effect<void, Duplicate, Scope.Scope> =>
  Effect.flatMap(Effect.context<never>(), (context) => {
    const memoMap = Context.getOrUndefined(context, Layer.CurrentMemoMap)
    // Built by hand, outside of a program
    if (memoMap === undefined) return Effect.void
    const program = claims.get(memoMap) ?? new Map<string, Array<Claim>>()
    claims.set(memoMap, program)
    const key = `${kind} ${name}`
    const holders = program.get(key) ?? []
    program.set(key, holders)
    const other = holders.find((holder) => holder.definition !== definition || holder.flow !== flow)
    if (other !== undefined) {
      return Effect.fail<Duplicate>({ kind, definition: name, first: other.description, second: description })
    }
    const held: Claim = { flow, definition, description }
    holders.push(held)
    return Effect.addFinalizer(() =>
      Effect.sync(() => {
        holders.splice(holders.indexOf(held), 1)
      })
    )
  })
