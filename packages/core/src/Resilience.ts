/**
 * Retry, timeout, fallback and circuit breaker for handler functions, of
 * commands and of events alike: each takes a handler and gives a handler, whose
 * type shows which errors are left.
 *
 * **When to use**
 *
 * For the handler alone. To retry or time a whole dispatch, events included,
 * use `Middleware`.
 *
 * **Details**
 *
 * Every attempt collects into a collection of its own, which counts only if the
 * attempt succeeds: what a failed attempt collected is dropped (F2). Defects and
 * interruption are never retried or fallen back from (F13).
 *
 * Each combinator can be called with the handler, or without it in a `pipe`,
 * where the handler types the functions in its options. To use several, write a
 * `pipe`. A combinator whose options hold no function fits any handler:
 * `const thrice = Resilience.retry({ schedule: Schedule.recurs(3) })`.
 * `Resilience.handler` types a handler function whose errors are more than the
 * definition declares, because a combinator around it takes them away.
 *
 * **Example** (A fallback behind a breaker)
 *
 * ```ts
 * import { Command, DomainEvent, Resilience } from "@event-flow/core"
 * import { Effect, pipe, Schedule, Schema } from "effect"
 * import { CircuitBreaker } from "effect/persistence"
 *
 * class JoinQueued extends DomainEvent.Class<JoinQueued>()("JoinQueued", { userId: Schema.String }) {}
 * class JoinMeeting extends Command.Class<JoinMeeting>()("JoinMeeting", {
 *   payload: { userId: Schema.String },
 *   success: Schema.Int,
 *   emits: [JoinQueued]
 * }) {}
 *
 * const JoinMeetingLive = JoinMeeting.toLayer(Effect.gen(function*() {
 *   const breaker = yield* CircuitBreaker.CircuitBreaker
 *   return pipe(
 *     Resilience.handler(JoinMeeting)(() => Effect.succeed(1)), // a call that may take long, or fail
 *     Resilience.timeout("2 seconds"),
 *     Resilience.retry({ schedule: Schedule.recurs(2), while: (error) => error._tag === "HandlerTimeout" }),
 *     Resilience.circuitBreaker(breaker),
 *     Resilience.fallback({
 *       on: ["HandlerTimeout", "CircuitBreakerError"],
 *       to: ({ userId }, { collect }) => Effect.as(collect(new JoinQueued({ userId })), 0)
 *     })
 *   )
 * }))
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { dual, identity } from "effect/Function"
import type * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Predicate from "effect/Predicate"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { ExcludeTag, ExtractTag, Tags } from "effect/Types"
import type { Collect } from "./Collect.ts"
import { attempt } from "./internal/dispatch/attempt.ts"

/**
 * The function of a command handler or of an event handler.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Handler<in Message, out Emits, out A, out E, out R> = (
  message: Message,
  context: Collect<Emits>
) => Effect.Effect<A, E, R>

/**
 * Any message that a handler takes.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface AnyMessage {
  readonly _tag: string
}

/**
 * Types a handler function by its definition, but for its errors: those that
 * the definition does not declare have to be taken away by a combinator, or
 * `toLayer` does not compile. See `fallback` for an example.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const handler = <Message, Success, Emits>(_definition: {
  readonly of: (handler: Handler<Message, Emits, Success, never, never>) => unknown
}): <E, R>(
  handler: Handler<Message, Emits, Success, E, R>
) => Handler<Message, Emits, Success, E, R> => identity

/**
 * Runs the handler again after a typed failure, by a schedule, such as
 * `Schedule.exponential("50 millis").pipe(Schedule.upTo({ times: 3 }))`.
 *
 * @stability unstable
 * @category combinators
 * @since 0.1.0
 */
export const retry: {
  // Options that do not look at the handler's errors: a function for every handler
  <E2 = never, R2 = never>(
    options: RetryOptions<unknown, E2, R2> & { readonly while?: undefined }
  ): <Message extends AnyMessage, Emits, A, E, R>(
    handler: Handler<Message, Emits, A, E, R>
  ) => Handler<Message, Emits, A, E | E2, R | R2>
  // NoInfer, here and below: the types come from the handler, and the options are checked against them
  <E, E2 = never, R2 = never>(
    options: RetryOptions<NoInfer<E>, E2, R2>
  ): <Message extends AnyMessage, Emits, A, R>(
    handler: Handler<Message, Emits, A, E, R>
  ) => Handler<Message, Emits, A, E | E2, R | R2>
  <Message extends AnyMessage, Emits, A, E, R, E2 = never, R2 = never>(
    handler: Handler<Message, Emits, A, E, R>,
    options: RetryOptions<NoInfer<E>, E2, R2>
  ): Handler<Message, Emits, A, E | E2, R | R2>
} = dual(
  2,
  <Message extends AnyMessage, Emits, A, E, R, E2, R2>(
    handler: Handler<Message, Emits, A, E, R>,
    options: RetryOptions<E, E2, R2>
  ): Handler<Message, Emits, A, E | E2, R | R2> => {
    const policy = { schedule: options.schedule, while: options.while ?? (() => true) }
    return (message, context) => Effect.retry(attempt(context, (own) => handler(message, own)), policy)
  }
)

/**
 * Options of `retry`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface RetryOptions<in E, out E2 = never, out R2 = never> {
  /** When and how often. */
  readonly schedule: Schedule.Schedule<unknown, E, E2, R2>
  /** Which failures to retry. Default: all typed failures. */
  readonly while?: ((error: E) => boolean) | undefined
}

/**
 * A handler took longer than its timeout.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class HandlerTimeout extends Schema.TaggedError<HandlerTimeout>("@event-flow/core/Resilience/HandlerTimeout")(
  "HandlerTimeout",
  {
    /** The tag of the command or event that was handled. */
    handling: Schema.String,
    millis: Schema.Number
  }
) {
  override get message(): string {
    return `Handling "${this.handling}" was not done after ${this.millis} ms: it was interrupted`
  }
}

/**
 * Interrupts the handler after a duration and fails with `HandlerTimeout`.
 *
 * **Gotchas**
 *
 * It waits for the interrupted handler's finalizers to end.
 *
 * @stability unstable
 * @category combinators
 * @since 0.1.0
 */
export const timeout: {
  (
    duration: Duration.Input
  ): <Message extends AnyMessage, Emits, A, E, R>(
    handler: Handler<Message, Emits, A, E, R>
  ) => Handler<Message, Emits, A, E | HandlerTimeout, R>
  <Message extends AnyMessage, Emits, A, E, R>(
    handler: Handler<Message, Emits, A, E, R>,
    duration: Duration.Input
  ): Handler<Message, Emits, A, E | HandlerTimeout, R>
} = dual(
  2,
  <Message extends AnyMessage, Emits, A, E, R>(
    handler: Handler<Message, Emits, A, E, R>,
    input: Duration.Input
  ): Handler<Message, Emits, A, E | HandlerTimeout, R> => {
    const duration = Duration.fromInputUnsafe(input)
    return (message, context) =>
      attempt(context, (own) =>
        Effect.timeoutOrElse(handler(message, own), {
          duration,
          orElse: () => Effect.fail(new HandlerTimeout({ handling: message._tag, millis: Duration.toMillis(duration) }))
        }))
  }
)

/**
 * Runs another handler when the primary one fails: with any typed error, or
 * with those of the tags in `on`; the type shows which errors are left. What the
 * primary collected is dropped.
 *
 * **Example** (A cached price)
 *
 * ```ts
 * import { Query, Resilience } from "@event-flow/core"
 * import { Effect, Schema } from "effect"
 *
 * class PricesDown extends Schema.TaggedError<PricesDown>()("PricesDown", {}) {}
 * class FindPrice extends Query.Class<FindPrice>()("FindPrice", {
 *   payload: { sku: Schema.String },
 *   success: Schema.Int
 * }) {}
 *
 * // The query declares no error, so `toLayer` takes this handler only in a fallback
 * const lookup = Resilience.handler(FindPrice)(() => Effect.fail(new PricesDown()))
 * const FindPriceLive = FindPrice.toLayer(Resilience.fallback(lookup, {
 *   on: ["PricesDown"],
 *   to: ({ sku }) => Effect.succeed(sku.length) // from a cache
 * }))
 * ```
 *
 * @stability unstable
 * @category combinators
 * @since 0.1.0
 */
export const fallback: {
  <Message extends AnyMessage, Emits, E, A2, E2, R2, const On extends ErrorTag<E> = never>(
    options: FallbackOptions<NoInfer<Message>, NoInfer<Emits>, E, On, A2, E2, R2>
  ): <A, R>(
    handler: Handler<Message, Emits, A, E, R>
  ) => Handler<Message, Emits, A | A2, ErrorsLeft<E, On> | E2, R | R2>
  <Message extends AnyMessage, Emits, A, E, R, A2, E2, R2, const On extends ErrorTag<E> = never>(
    handler: Handler<Message, Emits, A, E, R>,
    options: FallbackOptions<NoInfer<Message>, NoInfer<Emits>, E, On, A2, E2, R2>
  ): Handler<Message, Emits, A | A2, ErrorsLeft<E, On> | E2, R | R2>
} = dual(
  2,
  <Message extends AnyMessage, Emits, A, E, R, A2, E2, R2>(
    handler: Handler<Message, Emits, A, E, R>,
    { on, to }: {
      readonly on?: ReadonlyArray<string> | undefined
      readonly to: (message: Message, context: Collect<Emits>, error: E) => Effect.Effect<A2, E2, R2>
    }
  ): Handler<Message, Emits, A | A2, E | E2, R | R2> => {
    const isCaught = (error: E) => on === undefined || on.some((tag) => Predicate.isTagged(error, tag))
    return (message, context) =>
      Effect.catchIf(attempt(context, (own) => handler(message, own)), isCaught, (error) => to(message, context, error))
  }
)

/**
 * Options of `fallback`. `On` is the union of the tags to fall back from;
 * `never` means all errors.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface FallbackOptions<Message, Emits, E, On extends string, A2, E2, R2> {
  /** The tags of the errors to fall back from. Default: all typed errors. */
  readonly on?: Arr.NonEmptyReadonlyArray<On> | undefined
  /** What to run instead: a handler that is also told the error. */
  readonly to: (
    message: Message,
    context: Collect<Emits>,
    error: ErrorsCaught<E, NoInfer<On>>
  ) => Effect.Effect<A2, E2, R2>
}

/**
 * The tags of the errors of a handler. Any text while the compiler does not know
 * the errors yet: it looks at the options before it looks at a handler that is
 * itself the result of a combinator.
 */
type ErrorTag<E> = unknown extends E ? string : Tags<E>

/** The errors that a fallback takes. */
type ErrorsCaught<E, On extends string> = [On] extends [never] ? E : ExtractTag<E, On>

/** The errors of the primary handler that a fallback does not handle. */
// By a lookup, into which the compiler does not infer: where a layer asks for the
// handler, what is left says nothing about the errors that the primary has
type ErrorsLeft<E, On extends string> = {
  readonly all: never
  readonly some: ExcludeTag<E, On>
}[[On] extends [never] ? "all" : "some"]

/**
 * Options of `circuitBreaker`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface CircuitBreakerOptions<in Message, in A, in E, out R = never> {
  /** Which circuit of the breaker: one name, or one for each message. Default: the message's tag. */
  readonly key?: string | ((message: Message) => string) | undefined
  /**
   * What an outcome means for the circuit. Default: every failure counts, so
   * say which failures are not the fault of the dependency (`CircuitBreaker.ignored`).
   */
  readonly classify?:
    | ((exit: Exit.Exit<A, E>) => CircuitBreaker.Outcome | Effect.Effect<CircuitBreaker.Outcome, never, R>)
    | undefined
}

/**
 * Runs the handler through a circuit of effect's `CircuitBreaker`: while the
 * circuit is open, handling fails with `CircuitBreakerError` at once. Use
 * `fallback` to do something else instead.
 *
 * **Example** (A circuit for each room)
 *
 * ```ts
 * import { Command, Resilience } from "@event-flow/core"
 * import { Cause, Effect, Exit, Schema } from "effect"
 * import { CircuitBreaker } from "effect/persistence"
 *
 * class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", {}) {}
 * class Reserve extends Command.Class<Reserve>()("Reserve", {
 *   payload: { roomId: Schema.String },
 *   error: Schema.Union([SoldOut, CircuitBreaker.CircuitBreakerError])
 * }) {}
 *
 * const ReserveLive = Reserve.toLayer(Effect.gen(function*() {
 *   const breaker = yield* CircuitBreaker.CircuitBreaker
 *   return Resilience.circuitBreaker(Reserve.of(() => Effect.fail(new SoldOut())), breaker, {
 *     key: (command) => command.roomId,
 *     // "Sold out" is an answer: it does not mean that the service is down
 *     classify: (exit) => {
 *       if (Exit.isSuccess(exit)) return CircuitBreaker.success
 *       return Cause.squash(exit.cause) instanceof SoldOut ? CircuitBreaker.ignored : CircuitBreaker.failure()
 *     }
 *   })
 * }))
 * ```
 *
 * @stability unstable
 * @category combinators
 * @since 0.1.0
 */
export const circuitBreaker: {
  // Options that do not look at the handler's types: a function for every handler
  (
    breaker: CircuitBreaker.CircuitBreaker,
    options?: { readonly key?: string | undefined; readonly classify?: undefined }
  ): <Message extends AnyMessage, Emits, A, E, R>(
    handler: Handler<Message, Emits, A, E, R>
  ) => Handler<Message, Emits, A, E | CircuitBreaker.CircuitBreakerError, R>
  <Message extends AnyMessage, A, E, R2 = never>(
    breaker: CircuitBreaker.CircuitBreaker,
    options: CircuitBreakerOptions<NoInfer<Message>, NoInfer<A>, NoInfer<E>, R2>
  ): <Emits, R>(
    handler: Handler<Message, Emits, A, E, R>
  ) => Handler<Message, Emits, A, E | CircuitBreaker.CircuitBreakerError, R | R2>
  <Message extends AnyMessage, Emits, A, E, R, R2 = never>(
    handler: Handler<Message, Emits, A, E, R>,
    breaker: CircuitBreaker.CircuitBreaker,
    options?: CircuitBreakerOptions<NoInfer<Message>, NoInfer<A>, NoInfer<E>, R2>
  ): Handler<Message, Emits, A, E | CircuitBreaker.CircuitBreakerError, R | R2>
} = dual(
  (args) => typeof args[0] === "function",
  <Message extends AnyMessage, Emits, A, E, R, R2>(
    handler: Handler<Message, Emits, A, E, R>,
    breaker: CircuitBreaker.CircuitBreaker,
    options: CircuitBreakerOptions<Message, A, E, R2> = {}
  ): Handler<Message, Emits, A, E | CircuitBreaker.CircuitBreakerError, R | R2> => {
    const { classify, key } = options
    const keyOf = typeof key === "function" ? key : (message: Message) => key ?? message._tag
    return (message, context) =>
      attempt(
        context,
        (own) => breaker.execute(Effect.suspend(() => handler(message, own)), { key: keyOf(message), classify })
      )
  }
)
