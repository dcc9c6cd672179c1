/**
 * Wraps the whole dispatch of a command: its handler and its events.
 *
 * Typed as effect's `RpcMiddleware` is: a middleware may add errors, may need
 * services and may provide some to what it wraps; it can neither forge the
 * result of a handler nor swallow its errors without saying so.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { unhandled } from "effect/Types"
import type { MiddlewareDefinition as Any } from "./internal/definition/models.ts"
import * as Models from "./internal/definition/models.ts"

/**
 * Stands for the handler's result, which middleware passes on without seeing it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface SuccessValue {
  readonly _: unique symbol
}

/**
 * What a middleware may know of the command that it wraps.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Info {
  /** The command's tag. */
  readonly tag: string
  /** The command itself, with its fields. */
  readonly command: { readonly _tag: string; readonly [field: string]: unknown }
  /** The command's definition, as `Command.AnyClass`. */
  readonly definition: Models.CommandDefinition
}

/**
 * The function of a middleware.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Middleware<Provides, E, Requires> {
  (
    effect: Effect.Effect<SuccessValue, unhandled | E, Provides>,
    info: Info
  ): Effect.Effect<SuccessValue, unhandled | E, Requires>
}

/**
 * Any middleware, as listed in a definition.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type { Any }

/**
 * A middleware that is a service: declared here, implemented by a layer.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface ServiceClass<Self, Id extends string, Provides, E extends Schema.Top, Requires>
  extends Context.Service<Self, Middleware<Provides, E["Type"], Requires>>
{
  new(_: never): Context.ServiceClass.Shape<Id, Middleware<Provides, E["Type"], Requires>>
  readonly [Models.MiddlewareTypeId]: "~@event-flow/core/Middleware"
  readonly error: E
  readonly provides: ReadonlyArray<Context.Key<unknown, unknown>>
  readonly requires: ReadonlyArray<Context.Key<unknown, unknown>>
  readonly "~provides": Provides
  readonly "~requires": Requires
  readonly "~service": Self
}

/**
 * A middleware that is a value.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Inline<Provides, E extends Schema.Top, Requires> extends Any {
  readonly error: E
  readonly apply: Middleware<Provides, E["Type"], Requires>
  readonly "~provides": Provides
  readonly "~requires": Requires
  readonly "~service": never
}

/**
 * What a middleware declares.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options<
  Provides extends ReadonlyArray<Context.Key<unknown, unknown>>,
  E extends Schema.Top,
  Requires extends ReadonlyArray<Context.Key<unknown, unknown>>
> {
  /** The services that it provides to what it wraps. Default: none. */
  readonly provides?: Provides | undefined
  /**
   * The services that it asks for when it runs: what a middleware further out
   * provides or the command `requires` comes from there, the others from the
   * layer of the command's implementation. Default: none.
   */
  readonly requires?: Requires | undefined
  /** Schema of the errors that it adds. Default: `Schema.Never`, none. */
  readonly error?: E | undefined
}

/**
 * Declares a middleware that is a service.
 *
 * **Example** (Who is it?)
 *
 * ```ts
 * import { Command, Middleware } from "@event-flow/core"
 * import { Context, Effect, Layer, Schema } from "effect"
 *
 * class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
 * class CurrentUser extends Context.Service<CurrentUser, { readonly name: string }>()("app/CurrentUser") {}
 * class Sessions extends Context.Service<Sessions, {
 *   readonly user: Effect.Effect<{ readonly name: string }, Denied>
 * }>()("app/Sessions") {}
 *
 * class Authenticate extends Middleware.Service<Authenticate>()("app/Authenticate", {
 *   provides: [CurrentUser],
 *   error: Denied
 * }) {}
 *
 * const AuthenticateLive = Layer.effect(
 *   Authenticate,
 *   Effect.map(Sessions, (sessions) => (effect) => Effect.provideServiceEffect(effect, CurrentUser, sessions.user))
 * )
 *
 * // Sending it may fail with Denied; its handler finds CurrentUser
 * class WhoAmI extends Command.Class<WhoAmI>()("WhoAmI", { success: Schema.String, middleware: [Authenticate] }) {}
 * const WhoAmILive = WhoAmI.toLayer(() => Effect.map(CurrentUser, (user) => user.name)).pipe(
 *   Layer.provide(AuthenticateLive)
 * )
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const Service = <Self>() =>
<
  const Id extends string,
  const Provides extends ReadonlyArray<Context.Key<unknown, unknown>> = readonly [],
  E extends Schema.Top = Schema.Never,
  const Requires extends ReadonlyArray<Context.Key<unknown, unknown>> = readonly []
>(
  id: Id,
  options?: Options<Provides, E, Requires> | undefined
): ServiceClass<Self, Id, Provides[number]["Identifier"], E, Requires[number]["Identifier"]> => {
  const service = Context.Service<Self, unknown>(id)
  return Object.assign(service, {
    [Models.MiddlewareTypeId]: Models.MiddlewareTypeId,
    error: options?.error ?? Schema.Never,
    provides: options?.provides ?? [],
    requires: options?.requires ?? []
    // The members whose names begin with "~" exist in types alone
  }) as never
}

/**
 * A middleware from a function.
 *
 * **Example** (A service for what it wraps)
 *
 * ```ts
 * import { Middleware } from "@event-flow/core"
 * import { Context, Effect } from "effect"
 *
 * class RequestId extends Context.Service<RequestId, string>()("app/RequestId") {}
 *
 * const requestId = Middleware.make(
 *   (effect) => Effect.provideServiceEffect(effect, RequestId, Effect.sync(() => crypto.randomUUID())),
 *   { provides: [RequestId] }
 * )
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  const Provides extends ReadonlyArray<Context.Key<unknown, unknown>> = readonly [],
  E extends Schema.Top = Schema.Never,
  const Requires extends ReadonlyArray<Context.Key<unknown, unknown>> = readonly []
>(
  apply: Middleware<Provides[number]["Identifier"], E["Type"], Requires[number]["Identifier"]>,
  options?: Options<Provides, E, Requires> | undefined
): Inline<Provides[number]["Identifier"], E, Requires[number]["Identifier"]> =>
  ({
    [Models.MiddlewareTypeId]: Models.MiddlewareTypeId,
    apply,
    error: options?.error ?? Schema.Never,
    provides: options?.provides ?? [],
    requires: options?.requires ?? []
    // As in `Service`
  }) as unknown as Inline<Provides[number]["Identifier"], E, Requires[number]["Identifier"]>

/**
 * Retries the whole dispatch, handler and events, on a typed failure; each
 * attempt starts with an empty collection (F2). Defects and interruption are
 * never retried.
 *
 * **Gotchas**
 *
 * Events of a failed attempt that were already processed are not undone: narrow
 * with `while`, or retry the handler alone with `Resilience.retry`.
 *
 * @stability unstable
 * @category middleware
 * @since 0.1.0
 */
export const retry = (options: {
  /** When and how often, such as `Schedule.exponential("50 millis").pipe(Schedule.upTo({ times: 3 }))`. */
  readonly schedule: Schedule.Schedule<unknown, unknown>
  /** Which failures to retry. Default: all typed failures. */
  readonly while?: ((error: unknown) => boolean) | undefined
}): Inline<never, typeof Schema.Never, never> =>
  make((effect) =>
    Effect.retry(effect, {
      schedule: options.schedule,
      while: options.while ?? (() => true)
    })
  )

/**
 * The dispatch of a command took longer than it may.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class CommandTimeout extends Schema.TaggedError<CommandTimeout>("@event-flow/core/Middleware/CommandTimeout")(
  "CommandTimeout",
  { command: Schema.String, millis: Schema.Number }
) {
  override get message(): string {
    return `Command "${this.command}" was not done after ${this.millis} ms: it was interrupted`
  }
}

/**
 * Interrupts the dispatch after a duration and fails with `CommandTimeout`.
 *
 * @stability unstable
 * @category middleware
 * @since 0.1.0
 */
export const timeout = (duration: Duration.Input): Inline<never, typeof CommandTimeout, never> =>
  make((effect, info) =>
    Effect.timeoutOrElse(effect, {
      duration,
      orElse: () =>
        Effect.fail(
          new CommandTimeout({ command: info.tag, millis: Duration.toMillis(Duration.fromInputUnsafe(duration)) })
        )
    }), { error: CommandTimeout })

/**
 * Logs each command with its outcome and duration: successes at `Debug`,
 * failures at `Warn`, defects at `Error`. Payloads are not logged.
 *
 * @stability unstable
 * @category middleware
 * @since 0.1.0
 */
export const logging: Inline<never, typeof Schema.Never, never> = make((effect, info) =>
  Effect.flatMap(
    Clock.currentTimeMillis,
    (start) =>
      Effect.onExit(effect, (exit) =>
        Effect.flatMap(Clock.currentTimeMillis, (end) => {
          const annotate = Effect.annotateLogs({ command: info.tag, millis: end - start })
          if (Exit.isSuccess(exit)) return annotate(Effect.logDebug(`Command ${info.tag} succeeded`))
          if (Cause.hasInterruptsOnly(exit.cause)) {
            return annotate(Effect.logDebug(`Command ${info.tag} was interrupted`))
          }
          return Cause.hasDies(exit.cause)
            ? annotate(Effect.logError(`Command ${info.tag} died`, exit.cause))
            : annotate(Effect.logWarning(`Command ${info.tag} failed`, exit.cause))
        }))
  )
)
