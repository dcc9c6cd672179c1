/**
 * Expectations of a tracked flow, typed by the definitions. One that does not
 * hold throws an error that shows the flow as a tree, so they work with any test
 * framework.
 *
 * **Details**
 *
 * What is expected is told by kind: commands, events (those that were
 * collected), follow-ups (those that event handlers collected), handlers, and
 * what was published and consumed. An item is a class (any instance of it), an
 * instance (with equal fields), or `where` (a class and a predicate); a handler
 * is its definition.
 *
 * **Example** (What happened)
 *
 * ```ts
 * import { Command, DomainEvent, EventHandler, NotificationEvent } from "@event-flow/core"
 * import { Expect, Flow } from "@event-flow/core/testing"
 * import { Schema } from "effect"
 *
 * class Paid extends DomainEvent.Class<Paid>()("Paid", { order: Schema.String }) {}
 * class Shipped extends NotificationEvent.Class<Shipped>()("Shipped", { order: Schema.String }, { topic: "orders" }) {}
 * class Pay extends Command.Class<Pay>()("Pay", { emits: [Paid] }) {}
 * const Ship = EventHandler.make("Ship", { on: Paid, emits: [Shipped] })
 *
 * const expectShipped = (flow: Flow.Flow) => {
 *   Expect.exactly(flow, { commands: [Pay], events: [new Paid({ order: "7" }), Shipped], handlers: [Ship] })
 *   Expect.includes(flow, { published: [Expect.where(Shipped, (event) => event.order !== "")] })
 * }
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as Predicate from "effect/Predicate"
import type * as Command from "../Command.ts"
import type * as Event from "../Event.ts"
import type * as EventHandler from "../EventHandler.ts"
import { describeValue } from "../internal/describe.ts"
import type * as NotificationEvent from "../NotificationEvent.ts"
import * as Flow from "./Flow.ts"

const TypeId = "~@event-flow/core/testing/Expect/Where"

/**
 * A class and a predicate.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Where<out Self> {
  readonly [TypeId]: (value: unknown) => boolean
  readonly description: string
  readonly "~value"?: Self | undefined
}

/**
 * What is expected, by kind.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Expected {
  readonly commands?: ReadonlyArray<Command.AnyClass | Command.Any | Where<Command.Any>> | undefined
  readonly events?: ReadonlyArray<Event.AnyClass | Event.Any | Where<Event.Any>> | undefined
  readonly followUps?: ReadonlyArray<Event.AnyClass | Event.Any | Where<Event.Any>> | undefined
  /** The runs of event handlers. */
  readonly handlers?: ReadonlyArray<EventHandler.Any> | undefined
  readonly published?: ReadonlyArray<Notification> | undefined
  /** What consumers decoded from deliveries; one that could not be decoded is not among them. */
  readonly consumed?: ReadonlyArray<Notification> | undefined
}

/**
 * A notification event that is expected.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Notification =
  | NotificationEvent.AnyClass
  | NotificationEvent.Any
  | Where<NotificationEvent.Any>

/**
 * Options of an expectation.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Whether the order counts; `"any"` for what runs in parallel. Default: `"kept"`. */
  readonly order?: "kept" | "any" | undefined
}

/**
 * An expectation does not hold. The message has the flow as a tree.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class ExpectationFailed extends Error {
  override readonly name = "ExpectationFailed"
  /** Described, for frameworks that show a difference. */
  readonly expected: ReadonlyArray<string>
  readonly actual: ReadonlyArray<string>
  readonly flow: Flow.Flow

  constructor(options: {
    readonly summary: string
    readonly expected: ReadonlyArray<string>
    readonly actual: ReadonlyArray<string>
    readonly flow: Flow.Flow
  }) {
    super([
      options.summary,
      "Expected:",
      ...indented(options.expected),
      "Actual:",
      ...indented(options.actual),
      "Flow:",
      ...indented(Flow.toTree(options.flow).split("\n"))
    ].join("\n"))
    this.expected = options.expected
    this.actual = options.actual
    this.flow = options.flow
  }
}

/**
 * An instance of a class that fulfils a predicate.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const where = <Self>(
  constructor: (new(...args: never) => Self) & { readonly tag: string },
  predicate: (value: Self) => boolean
): Where<Self> => ({
  // The class decides that the value is a `Self`
  [TypeId]: (value) => isOf(value, constructor) && predicate(value as Self),
  description: `${constructor.tag} where ${String(predicate)}`
})

/**
 * Of each kind that is named, the flow has exactly these, in this order.
 *
 * @stability unstable
 * @category expectations
 * @since 0.1.0
 */
export const exactly = (flow: Flow.Flow, expected: Expected, options?: Options): void =>
  compare(flow, kindsOf(expected), expected, (matches, count) => {
    const isComplete = matches.length === count
    return isComplete &&
      (options?.order === "any" ? isAssignable(matches, count) : matches.every((row, i) => row[i] === true))
  }, options?.order === "any" ? "exactly, in any order" : "exactly, in this order")

/**
 * As `exactly`, and of each kind that is not named there is none.
 *
 * @stability unstable
 * @category expectations
 * @since 0.1.0
 */
export const only = (flow: Flow.Flow, expected: Expected, options?: Options): void =>
  exactly(flow, {
    commands: expected.commands ?? [],
    events: expected.events ?? [],
    // Every follow-up is among the events
    followUps: expected.followUps,
    handlers: expected.handlers ?? [],
    published: expected.published ?? [],
    consumed: expected.consumed ?? []
  }, options)

/**
 * Of each kind that is named, the flow has these among others, in this order.
 *
 * @stability unstable
 * @category expectations
 * @since 0.1.0
 */
export const includes = (flow: Flow.Flow, expected: Expected, options?: Options): void =>
  compare(
    flow,
    kindsOf(expected),
    expected,
    (matches, count) => options?.order === "any" ? isAssignable(matches, count) : isSubsequence(matches, count),
    options?.order === "any" ? "among others, in any order" : "among others, in this order"
  )

/**
 * Nothing in the flow failed, died or was interrupted, and every delivery was
 * handled.
 *
 * @stability unstable
 * @category expectations
 * @since 0.1.0
 */
export const noFailures = (flow: Flow.Flow): void => {
  const failures = flow.failures
  if (failures.length === 0) return
  throw new ExpectationFailed({
    summary: "The flow has failures",
    expected: ["no failures"],
    actual: failures.map(Flow.describe),
    flow
  })
}

// --- internal ---

type Kind = keyof Expected

const kinds: ReadonlyArray<Kind> = ["commands", "events", "followUps", "handlers", "published", "consumed"]

const kindsOf = (expected: Expected): ReadonlyArray<Kind> => kinds.filter((kind) => expected[kind] !== undefined)

/** `matches[i][j]`: whether the i-th expected item is the j-th of `count` actual ones. */
type Holds = (matches: ReadonlyArray<ReadonlyArray<boolean>>, count: number) => boolean

const compare = (
  flow: Flow.Flow,
  kinds: ReadonlyArray<Kind>,
  expected: Expected,
  holds: Holds,
  how: string
): void => {
  for (const kind of kinds) {
    const items = kind === "handlers" ? (expected.handlers ?? []).map(ofHandler) : (expected[kind] ?? []).map(ofValue)
    const actual = actualOf(flow, kind)
    const matches = items.map((item) => actual.map(item.matches))
    if (holds(matches, actual.length)) continue
    throw new ExpectationFailed({
      summary: `The ${kind === "followUps" ? "follow-ups" : kind} are not the expected ones (${how})`,
      expected: items.map((item) => item.description),
      actual: actual.map((value) => typeof value === "string" ? value : describeValue(value)),
      flow
    })
  }
}

/** Handlers are their names. */
const actualOf = (flow: Flow.Flow, kind: Kind): ReadonlyArray<string | { readonly _tag: string }> => {
  switch (kind) {
    case "commands":
      return flow.commands.map((step) => step.command)
    case "events":
      return flow.events.map((step) => step.event)
    case "followUps":
      return flow.followUps.map((step) => step.event)
    case "handlers":
      return flow.handlerRuns.map((step) => step.handler)
    case "published":
      return flow.messages.flatMap((step) => step.event === undefined ? [] : [step.event])
    case "consumed":
      return flow.consumed.flatMap((step) => step.event === undefined ? [] : [step.event])
  }
}

/** An expected item of any kind. */
interface Item {
  readonly description: string
  readonly matches: (value: string | { readonly _tag: string }) => boolean
}

type AnyClass = Command.AnyClass | Event.AnyClass
type AnyWhere = Where<Command.Any> | Where<Event.Any>

const ofHandler = ({ name }: EventHandler.Any): Item => ({ description: name, matches: (value) => value === name })

const ofValue = (item: AnyClass | AnyWhere | Command.Any | Event.Any): Item => {
  if (isWhere(item)) return { description: item.description, matches: item[TypeId] }
  if (isClass(item)) return { description: item.tag, matches: (value) => isOf(value, item) }
  return {
    description: describeValue(item),
    matches: (value) => isOf(value, item.constructor) && Equal.equals(value, item)
  }
}

const isWhere = (item: object): item is AnyWhere => TypeId in item

const isClass = (item: object): item is AnyClass => typeof item === "function"

const isOf = (value: unknown, constructor: unknown): boolean =>
  Predicate.isObject(value) && value.constructor === constructor

const indented = (lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length === 0 ? ["  (none)"] : lines.map((line) => `  ${line}`)

const isSubsequence: Holds = (matches, count) => {
  let from = 0
  for (const row of matches) {
    while (from < count && row[from] !== true) from++
    if (from++ >= count) return false
  }
  return true
}

/** Whether every expected item can have an actual one of its own (augmenting paths). */
const isAssignable: Holds = (matches) => {
  const takenBy = new Map<number, number>()
  const assign = (item: number, tried: Set<number>): boolean =>
    matches[item]!.some((isMatch, value) => {
      if (!isMatch || tried.has(value)) return false
      tried.add(value)
      const owner = takenBy.get(value)
      if (owner !== undefined && !assign(owner, tried)) return false
      takenBy.set(value, item)
      return true
    })
  return matches.every((_, item) => assign(item, new Set()))
}
