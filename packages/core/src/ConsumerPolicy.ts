/**
 * The policy of a consumer: one function that decides what happens to a message
 * that cannot be handled. No message is lost: each ends handled, postponed,
 * dead-lettered, skipped on purpose, or unacknowledged.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type * as Event from "./Event.ts"
import type * as EventFlow from "./EventFlow.ts"
import type { EventFailure, EventFlowError } from "./EventFlowError.ts"
import type * as EventHandler from "./EventHandler.ts"
import type { InboxError } from "./Inbox.ts"
import type { TypeId as EventTypeId } from "./internal/definition/eventClass.ts"
import type { Message } from "./Message.ts"
import type { DecodeError } from "./MessageCodec.ts"

/**
 * A failure, as the policy sees it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Failure = Undecodable | HandlerFailed | HandlerDied | InboxFailed

/**
 * The message cannot be decoded to an event that this program knows.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Undecodable {
  readonly _tag: "Undecodable"
  readonly message: Message
  readonly error: DecodeError
}

/**
 * Handling failed with a typed error: that of a handler, or of a follow-up.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface HandlerFailed {
  readonly _tag: "HandlerFailed"
  readonly message: Message
  readonly event: Event.Any
  readonly error: EventFlowError
}

/**
 * A handler has a bug. The defect is logged at `Error` whatever the decision.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface HandlerDied {
  readonly _tag: "HandlerDied"
  readonly message: Message
  readonly event: Event.Any
  readonly cause: Cause.Cause<unknown>
}

/**
 * The inbox could not be asked, or could not remember: the message was not
 * handled, and it is not its fault. Only `retry`, and `stop` at once or after it, are
 * done. A message is never put aside for this: in place of any other decision it is
 * retried by `inboxSchedule`, without end.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface InboxFailed {
  readonly _tag: "InboxFailed"
  readonly message: Message
  readonly event: Event.Any
  readonly error: InboxError
}

/**
 * What a consumer does after a failure.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Decision =
  /**
   * Handle it again, by the schedule; when that ends, do `otherwise`. Messages of the
   * same lane wait. Of failures of one kind (tag, and tag of the error) of a
   * message, the first decision's schedule counts.
   */
  | {
    readonly _tag: "Retry"
    readonly schedule: Schedule.Schedule<unknown, Failure>
    readonly otherwise: Final | Postpone
  }
  | Postpone
  | Final

/**
 * A decision that ends the handling of a message.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Final =
  /** Publish it with its reason to a topic, then acknowledge it. Default topic: the message's own with `.dead-letter`. */
  | { readonly _tag: "DeadLetter"; readonly topic: string | undefined }
  /** Acknowledge it and log it at `Warn`. */
  | { readonly _tag: "Skip" }
  /** Acknowledge a message that this consumer does not handle, and log it at `Debug`. Counted as skipped. */
  | { readonly _tag: "Ignore" }
  /** Leave it unacknowledged and end the consumer with `ConsumerStopped`. */
  | { readonly _tag: "Stop" }

/**
 * Publish the message to a topic from which the broker's layer delivers it
 * again after the delay, then acknowledge it. Its headers say where it comes
 * from (`BrokerLayer.RetryHeaders`). Modules of such layers (`KafkaRetry`) make this
 * decision, and make sure that the topic is consumed.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Postpone {
  readonly _tag: "Postpone"
  readonly topic: string
  /** Which delay this is; the first is 1. */
  readonly step: number
  readonly delay: Duration.Duration
}

/**
 * The policy of a consumer.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface ConsumerPolicy {
  (failure: Failure): Decision
  /**
   * Where it publishes dead letters, for the check when a consumer starts; undefined in the list: `deadLetterTopic` of
   * the message's own topic. The policies of this module and of broker layers say so; a function cannot.
   */
  readonly deadLetterTopics?: ReadonlyArray<string | undefined> | undefined
}

/**
 * The topic of the dead letters of a topic, unless a policy names another one: with
 * `.dead-letter` at its end.
 *
 * @stability unstable
 * @category decisions
 * @since 0.1.0
 */
export const deadLetterTopic = (topic: string): string => `${topic}.dead-letter`

/**
 * Publish the message to a dead-letter topic with the reason, then acknowledge it.
 * Default topic: that of the message with `.dead-letter`.
 *
 * @stability unstable
 * @category decisions
 * @since 0.1.0
 */
export const deadLetter = (topic?: string): Final => ({ _tag: "DeadLetter", topic })

/**
 * Publish the message to a retry topic, which delivers it again after the delay,
 * then acknowledge it.
 *
 * **Gotchas**
 *
 * The message waits forever when nobody consumes the topic: leave this decision
 * to the modules of broker layers.
 *
 * @stability unstable
 * @category decisions
 * @since 0.1.0
 */
export const postpone = (options: {
  readonly topic: string
  readonly step: number
  readonly delay: Duration.Input
}): Postpone => ({
  _tag: "Postpone",
  topic: options.topic,
  step: options.step,
  delay: Duration.fromInputUnsafe(options.delay)
})

/**
 * Acknowledge the message and log it at `Warn`. It is not handled.
 *
 * @stability unstable
 * @category decisions
 * @since 0.1.0
 */
export const skip: Final = { _tag: "Skip" }

/**
 * Acknowledge a message that this consumer does not handle, and log it at `Debug`.
 *
 * @stability unstable
 * @category decisions
 * @since 0.1.0
 */
export const ignore: Final = { _tag: "Ignore" }

/**
 * Leave the message unacknowledged and end the consumer with `ConsumerStopped`.
 *
 * @stability unstable
 * @category decisions
 * @since 0.1.0
 */
export const stop: Extract<Final, { readonly _tag: "Stop" }> = { _tag: "Stop" }

/**
 * Handle the message again, by a schedule; when the schedule ends, do `otherwise`.
 * Meanwhile later messages of its key wait. Default for `otherwise`: `deadLetter()`.
 *
 * @stability unstable
 * @category decisions
 * @since 0.1.0
 */
export const retry = (
  schedule: Schedule.Schedule<unknown, Failure>,
  otherwise: Final | Postpone = deadLetter()
): Extract<Decision, { readonly _tag: "Retry" }> => ({
  _tag: "Retry",
  schedule,
  otherwise
})

/**
 * The schedule of the default policy: 5 retries after 100 ms, 200 ms, 400 ms,
 * 800 ms and 1.6 s, each jittered.
 *
 * @stability unstable
 * @category schedules
 * @since 0.1.0
 */
export const defaultSchedule: Schedule.Schedule<Duration.Duration, unknown> = Schedule.exponential(
  Duration.millis(100)
).pipe(Schedule.jittered, Schedule.upTo({ times: 5 }))

/**
 * The schedule of retries after a failure of the inbox: after 200 ms, 400 ms, ...
 * and then every 30 seconds, each jittered, without end.
 *
 * @stability unstable
 * @category schedules
 * @since 0.1.0
 */
export const inboxSchedule: Schedule.Schedule<Duration.Duration | number, unknown> = Schedule.min([
  Schedule.exponential("200 millis"),
  Schedule.spaced("30 seconds")
]).pipe(Schedule.jittered)

/**
 * The default policy. Typed failures are retried by `defaultSchedule`, then
 * dead-lettered. Messages that cannot be decoded, and defects, are
 * dead-lettered at once, because they would fail in the same way again. It
 * loses no message and never blocks forever. Tombstones that the consumer does
 * not handle (messages without a body, of a compacted topic) are ignored: they
 * carry no event. For a topic with types that this consumer does not handle, see
 * `ignoreUnknownTypes`.
 *
 * @stability unstable
 * @category policies
 * @since 0.1.0
 */
export const defaultPolicy: ConsumerPolicy = Object.assign((failure: Failure): Decision => {
  if (failure._tag === "Undecodable" && failure.error.reason === "Tombstone") return ignore
  if (failure._tag === "InboxFailed") return retry(inboxSchedule)
  return failure._tag === "HandlerFailed" ? retry(defaultSchedule) : deadLetter()
}, { deadLetterTopics: [undefined] })

/**
 * A policy that ignores messages of types that the consumer has no handler for,
 * and asks another policy about all other failures (default: `defaultPolicy`).
 *
 * **When to use**
 *
 * For a topic that carries events of several types, of which this consumer
 * handles some. Without it the messages of the other types are dead-lettered,
 * and so are those of each type that a producer adds later.
 *
 * **Gotchas**
 *
 * A handler that is missing from the consumer's source by mistake looks the same: its
 * messages are acknowledged. They are logged at `Debug`, and counted as
 * `skipped`. A version of a known event that this program cannot read is still
 * a failure.
 *
 * **Example** (A topic with other people's events)
 *
 * ```ts
 * import { ConsumerPolicy, EventConsumer, EventHandler, NotificationEvent } from "@event-flow/core"
 *
 * class Delayed extends NotificationEvent.Class<Delayed>()("Delayed", {}, { topic: "flights" }) {}
 * const Show = EventHandler.make("Show", { on: Delayed })
 *
 * // Its topic, "flights", carries events of other types as well
 * const Board = EventConsumer.layer([Show], { group: "delay-board", policy: ConsumerPolicy.ignoreUnknownTypes() })
 * ```
 *
 * @stability unstable
 * @category policies
 * @since 0.1.0
 */
export const ignoreUnknownTypes = (policy: ConsumerPolicy = defaultPolicy): ConsumerPolicy =>
  Object.assign(
    (failure: Failure): Decision =>
      failure._tag === "Undecodable" && failure.error.reason === "UnknownType" ? ignore : policy(failure),
    { deadLetterTopics: policy.deadLetterTopics }
  )

/**
 * The errors that the handlers of a flow or of a list declare.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Errors<S extends EventFlow.Any | ReadonlyArray<EventHandler.Any>> = HandlersOf<
  S
>["errorSchema"]["Type"]

/**
 * What to do about one kind of failure: a decision, or a function of the error
 * and the failure that makes it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Choice<Error, F extends Failure, D = Decision> = D | ((error: Error, failure: F) => D)

/**
 * One decision for everything that can go wrong in the handlers of `S`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Choices<S extends EventFlow.Any | ReadonlyArray<EventHandler.Any>> =
  & {
    /** For each tag of the errors that the handlers declare, those of follow-ups included. */
    readonly errors: {
      readonly [Tag in TagOf<Errors<S>>]: Choice<Extract<Errors<S>, { readonly _tag: Tag }>, HandlerFailed>
    }
    /** The message cannot be decoded. */
    readonly undecodable: Choice<DecodeError, Undecodable>
    /** A handler has a bug, or its follow-ups go in a circle (`CascadeTooDeep`). */
    readonly defect: Choice<unknown, HandlerDied | HandlerFailed>
    /** The inbox could not be asked. It never puts a message aside. */
    readonly inbox: Choice<InboxError, InboxFailed, Extract<Decision, { readonly _tag: "Retry" | "Stop" }>>
  }
  & (Untagged<Errors<S>> extends never ? {} : {
    /** An error without a tag. */
    readonly untagged: Choice<Untagged<Errors<S>>, HandlerFailed>
  })
  & ("Notification" extends HandlersOf<S>["emits"][number][typeof EventTypeId] ? {
      /** What a handler collected could not be published. */
      readonly publish: Choice<
        Extract<EventFailure, { readonly _tag: "PublishError" | "BrokerNotFound" }>,
        HandlerFailed
      >
    } :
    {})

/**
 * A policy with one decision for each tag of the errors that the handlers declare,
 * and for everything else that can go wrong. A tag that is added to a handler does
 * not compile until somebody has decided.
 *
 * **Details**
 *
 * The decisions that are no functions say where dead letters go; that is checked when
 * the consumer starts, where the broker can tell (Kafka).
 *
 * Of several failures at once (`onFailure: "accumulate"`) the most careful decision
 * is done: stop, else retry, postpone, dead-letter, skip, ignore.
 *
 * **Example** (Every failure is decided)
 *
 * ```ts
 * import { ConsumerPolicy, EventConsumer, EventHandler, NotificationEvent } from "@event-flow/core"
 * import { Schema } from "effect"
 *
 * class Ordered extends NotificationEvent.Class<Ordered>()("Ordered", {}, { topic: "orders" }) {}
 * class PaymentDeclined extends Schema.TaggedError<PaymentDeclined>()("PaymentDeclined", {}) {}
 * class BankAway extends Schema.TaggedError<BankAway>()("BankAway", {}) {}
 * const Charge = EventHandler.make("Charge", { on: Ordered, error: Schema.Union([PaymentDeclined, BankAway]) })
 *
 * const policy = ConsumerPolicy.total([Charge], {
 *   errors: {
 *     PaymentDeclined: ConsumerPolicy.deadLetter("orders.declined"),
 *     BankAway: ConsumerPolicy.retry(ConsumerPolicy.defaultSchedule)
 *   },
 *   undecodable: ConsumerPolicy.deadLetter(),
 *   defect: ConsumerPolicy.deadLetter(),
 *   inbox: ConsumerPolicy.retry(ConsumerPolicy.inboxSchedule)
 * })
 *
 * const Charging = EventConsumer.layer([Charge], { group: "charging", policy })
 * ```
 *
 * @stability unstable
 * @category policies
 * @since 0.1.0
 */
export const total = <const S extends EventFlow.Any | ReadonlyArray<EventHandler.Any>>(
  _source: S,
  choices: Choices<S>
): ConsumerPolicy => {
  // The types of `Choices` say which of them there are
  const all = choices as AnyChoices
  const decide = (error: EventFailure, failure: HandlerFailed): Decision => {
    switch (error._tag) {
      case "PublishError":
      case "BrokerNotFound":
        return made(all.publish ?? all.defect, error, failure)
      case "CascadeTooDeep":
        return made(all.defect, error, failure)
      case "EventHandlerError": {
        const { cause } = error
        const tag = Predicate.hasProperty(cause, "_tag") ? String(cause._tag) : undefined
        const choice = tag === undefined || !Object.hasOwn(all.errors, tag) ? all.untagged : all.errors[tag]
        return made(choice ?? all.defect, cause, failure)
      }
    }
  }
  const { errors, inbox: _, ...others } = all
  const policy = (failure: Failure): Decision => {
    switch (failure._tag) {
      case "Undecodable":
        return made(all.undecodable, failure.error, failure)
      case "HandlerDied":
        return made(all.defect, Cause.squash(failure.cause), failure)
      case "InboxFailed":
        return made(all.inbox, failure.error, failure)
      case "HandlerFailed": {
        const { error } = failure
        if (error._tag !== "EventsFailed") return decide(error, failure)
        const decisions = error.failures.map((one) => decide(one, failure))
        return decisions.reduce((a, b) => careful.indexOf(b._tag) < careful.indexOf(a._tag) ? b : a)
      }
    }
  }
  return Object.assign(policy, {
    deadLetterTopics: [
      ...new Set(
        [...Object.values(errors), ...Object.values(others)].flatMap((choice: AnyChoice) =>
          typeof choice === "function" ? [] : deadLettersOf(choice)
        )
      )
    ]
  })
}

// --- internal ---

const deadLettersOf = (decision: Decision): ReadonlyArray<string | undefined> => {
  const last = decision._tag === "Retry" ? decision.otherwise : decision
  return last._tag === "DeadLetter" ? [last.topic] : []
}

const careful: ReadonlyArray<Decision["_tag"]> = ["Stop", "Retry", "Postpone", "DeadLetter", "Skip", "Ignore"]

type HandlersOf<S> = S extends EventFlow.Any ? S["handlers"][number]
  : S extends ReadonlyArray<infer H extends EventHandler.Any> ? H
  : never

type TagOf<E> = E extends { readonly _tag: infer Tag extends string } ? Tag : never

type Untagged<E> = E extends { readonly _tag: string } ? never : E

type AnyChoice = Decision | ((error: never, failure: never) => Decision)

interface AnyChoices {
  readonly errors: Readonly<Record<string, AnyChoice>>
  readonly undecodable: AnyChoice
  readonly defect: AnyChoice
  readonly inbox: AnyChoice
  readonly untagged?: AnyChoice
  readonly publish?: AnyChoice
}

const made = (choice: AnyChoice, error: unknown, failure: Failure): Decision =>
  // Each is called with what it is for
  typeof choice === "function" ? choice(error as never, failure as never) : choice
