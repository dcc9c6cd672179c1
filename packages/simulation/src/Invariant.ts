/**
 * What must hold of a simulated system, and what there is to see of it.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Event from "@event-flow/core/Event"
import type { Message } from "@event-flow/core/Message"
import type * as NotificationEvent from "@event-flow/core/NotificationEvent"
import type * as Context from "effect/Context"
import type { Nodes, ServicesOf } from "./Node.ts"
import type { Table } from "./Store.ts"

/**
 * What there is to see of any system: what is durable. Whoever looks must not change
 * anything.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface View {
  /** Milliseconds of virtual time since the start. */
  readonly now: number
  /** The committed rows of a table. */
  readonly rows: <A>(table: Table<A>) => ReadonlyMap<string, A>
  /** A committed row. */
  readonly row: <A>(table: Table<A>, key: string) => A | undefined
  /** What was published to a topic, in order. */
  readonly messages: (topic: string) => ReadonlyArray<Message>
  /** The events of a class that were published, in order. */
  readonly events: <C extends NotificationEvent.AnyClass>(event: C) => ReadonlyArray<Event.Instance<C>>
  /** How many messages groups have not acknowledged. */
  readonly unacknowledged: number
}

/**
 * What an invariant sees of a system with these nodes.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface NodesView<N extends Nodes = Nodes> extends View {
  /** The services of each instance of a node that is up. */
  readonly services: <Name extends keyof N & string>(
    node: Name
  ) => ReadonlyArray<Context.Context<ServicesOf<N[Name]>>>
}

/**
 * True, or what is wrong.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Verdict = true | string

/**
 * Says whether something holds. It is synchronous.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Invariant<N extends Nodes = Nodes> = (view: NodesView<N>) => Verdict

/**
 * Whether a number, or a text, is the expected one.
 *
 * @stability unstable
 * @category verdicts
 * @since 0.1.0
 */
export const equal = <A extends number | string | boolean | undefined>(what: string, actual: A, expected: A): Verdict =>
  actual === expected ? true : `${what}: ${String(actual)} instead of ${String(expected)}`

/**
 * The first verdict that is not true; true when there is none.
 *
 * @stability unstable
 * @category verdicts
 * @since 0.1.0
 */
export const all = (verdicts: Iterable<Verdict>): Verdict => {
  for (const verdict of verdicts) if (verdict !== true) return verdict
  return true
}

/**
 * The sum of numbers, or of what a function makes of each row.
 *
 * @stability unstable
 * @category calculations
 * @since 0.1.0
 */
export const sum: {
  (numbers: Iterable<number>): number
  <A>(rows: Iterable<A>, of: (row: A) => number): number
} = <A>(rows: Iterable<A>, of: (row: A) => number = (row) => Number(row)): number => {
  let total = 0
  for (const row of rows) total += of(row)
  return total
}

/**
 * Whether no message of a topic was dead-lettered.
 *
 * @stability unstable
 * @category verdicts
 * @since 0.1.0
 */
export const nothingDead = (view: View, topic: string): Verdict =>
  equal(`dead letters of "${topic}"`, view.messages(`${topic}.dead-letter`).length, 0)
