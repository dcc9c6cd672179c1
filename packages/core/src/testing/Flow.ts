/**
 * What a tracked run has seen: every command, event, handler run, message and
 * delivery, in order, each with what it came from.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import type * as Event from "../Event.ts"
import type { DeliveryOutcome } from "../FlowObserver.ts"
import { describeNamed, describeValue } from "../internal/describe.ts"
import type { Message } from "../Message.ts"

/**
 * How something ended; undefined: it has not.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Outcome = Exit.Exit<unknown, unknown> | undefined

/** What every step has. */
interface StepBase {
  /** What it came from; undefined: from outside of the flow. */
  readonly parent: Step | undefined
  /** What came from it, in order. */
  readonly children: ReadonlyArray<Step>
}

/**
 * A command or query was sent. Its parent is the run in which it was sent, its
 * children are the events that it collected and the commands that it sent.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface CommandStep extends StepBase {
  readonly _tag: "Command"
  readonly command: { readonly _tag: string }
  /** How the dispatch ended, events included. */
  readonly outcome: Outcome
  /** How its handler ended: once, never (middleware refused), or often (middleware retried). */
  readonly attempts: ReadonlyArray<Exit.Exit<unknown, unknown>>
}

/**
 * An event was collected, and went to the processor.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface EventStep extends StepBase {
  readonly _tag: "Event"
  readonly event: Event.Any
}

/**
 * An event handler ran. Its parent is the event, or the delivery that brought it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface HandlerStep extends StepBase {
  readonly _tag: "Handler"
  readonly handler: string
  readonly event: Event.Any
  readonly outcome: Outcome
}

/**
 * A message went to the broker: a notification event, or what a consumer put
 * aside.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface MessageStep extends StepBase {
  readonly _tag: "Message"
  /** Undefined: a consumer put the message aside, as a dead letter or for a retry. */
  readonly event: Event.Any | undefined
  readonly message: Message
  /** What the broker said. */
  readonly outcome: Outcome
}

/**
 * A consumer took a message. Its parent is the message, by its id.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface DeliveryStep extends StepBase {
  readonly _tag: "Delivery"
  readonly message: Message
  readonly group: string
  /** The event that it was decoded to; undefined: it was not decoded. */
  readonly event: Event.Any | undefined
  readonly attempts: number
  readonly outcome: DeliveryOutcome | undefined
}

/**
 * One step of a flow.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Step = CommandStep | EventStep | HandlerStep | MessageStep | DeliveryStep

/**
 * The steps of a run, in the order in which they happened. `String(flow)` is
 * its tree.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export class Flow {
  readonly steps: ReadonlyArray<Step>

  constructor(steps: ReadonlyArray<Step>) {
    this.steps = steps
  }

  /** The commands and queries that were sent. */
  get commands(): ReadonlyArray<CommandStep> {
    return this.steps.filter((step) => step._tag === "Command")
  }

  /** The events that were collected, follow-ups included. */
  get events(): ReadonlyArray<EventStep> {
    return this.steps.filter((step) => step._tag === "Event")
  }

  /** The events that event handlers collected. */
  get followUps(): ReadonlyArray<EventStep> {
    return this.events.filter((step) => step.parent?._tag === "Handler")
  }

  /** The runs of event handlers. */
  get handlerRuns(): ReadonlyArray<HandlerStep> {
    return this.steps.filter((step) => step._tag === "Handler")
  }

  /** What went to the broker. */
  get messages(): ReadonlyArray<MessageStep> {
    return this.steps.filter((step) => step._tag === "Message")
  }

  /** What consumers took from the broker. */
  get consumed(): ReadonlyArray<DeliveryStep> {
    return this.steps.filter((step) => step._tag === "Delivery")
  }

  /** The steps that came from outside of the flow. */
  get roots(): ReadonlyArray<Step> {
    return this.steps.filter((step) => step.parent === undefined)
  }

  /** The steps that failed, died or were interrupted, and deliveries that were not handled. */
  get failures(): ReadonlyArray<Step> {
    return this.steps.filter(isFailure)
  }

  toString(): string {
    return toTree(this)
  }
}

/**
 * The flow as a readable tree.
 *
 * **Details**
 *
 * `✓` succeeded, `✗` failed with a typed error, `‼` died of a defect, `⊘` was
 * interrupted, `…` has not ended, `•` is an event. Ids and times are left out,
 * so that the tree of a deterministic run can be compared with a stored one.
 *
 * @stability unstable
 * @category rendering
 * @since 0.1.0
 */
export const toTree = (flow: Flow): string => {
  if (flow.steps.length === 0) return "(nothing happened)"
  const lines: Array<string> = []
  const draw = (steps: ReadonlyArray<Step>, indent: string): void => {
    for (const [i, step] of steps.entries()) {
      const isLast = i === steps.length - 1
      lines.push(`${indent}${isLast ? "└─ " : "├─ "}${describe(step)}`)
      draw(step.children, `${indent}${isLast ? "   " : "│  "}`)
    }
  }
  for (const root of flow.roots) {
    lines.push(describe(root))
    draw(root.children, "")
  }
  return lines.join("\n")
}

/**
 * A step in one line, as the tree shows it.
 *
 * @stability unstable
 * @category rendering
 * @since 0.1.0
 */
export const describe = (step: Step): string => {
  switch (step._tag) {
    case "Command": {
      const { attempts, outcome } = step
      const note = attempts.length > 1
        ? ` (${attempts.length} attempts)`
        : attempts.length === 0 && outcome !== undefined
        ? " (the handler did not run)"
        : ""
      return `${mark(outcome)} ${describeValue(step.command)}${note}${reason(outcome)}`
    }
    case "Event":
      return `• ${describeValue(step.event)}`
    case "Handler":
      return `${mark(step.outcome)} ${step.handler}${reason(step.outcome)}`
    case "Message": {
      const { key, topic } = step.message
      return `${mark(step.outcome)} published to "${topic}"${typeof key === "string" ? ` with key "${key}"` : ""}${
        reason(step.outcome)
      }`
    }
    case "Delivery": {
      const attempts = step.attempts > 1 ? ` (${step.attempts} attempts)` : ""
      const outcome = step.outcome === undefined ? "" : `: ${step.outcome.replace("_", "-")}`
      return `${isFailure(step) ? "✗" : "✓"} delivered to "${step.group}"${attempts}${outcome}`
    }
  }
}

// --- internal ---

const isFailure = (step: Step): boolean => {
  switch (step._tag) {
    case "Event":
      return false
    case "Delivery":
      return step.outcome !== undefined && step.outcome !== "handled" && step.outcome !== "duplicate"
    default:
      return step.outcome !== undefined && Exit.isFailure(step.outcome)
  }
}

const mark = (outcome: Outcome): string => {
  if (outcome === undefined) return "…"
  if (Exit.isSuccess(outcome)) return "✓"
  if (Cause.hasDies(outcome.cause)) return "‼"
  return Cause.hasFails(outcome.cause) ? "✗" : "⊘"
}

const reason = (outcome: Outcome): string => {
  if (outcome === undefined || Exit.isSuccess(outcome)) return ""
  const { reasons } = outcome.cause
  const died = reasons.find(Cause.isDieReason)
  if (died !== undefined) return `: defect: ${describeNamed(died.defect)}`
  const failed = reasons.find(Cause.isFailReason)
  return failed === undefined ? ": interrupted" : `: ${describeNamed(failed.error)}`
}
