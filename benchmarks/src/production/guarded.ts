/** The commands of `flow.ts` with logging and authentication around them, and handlers that use the current user. */
import * as Command from "@event-flow/core/Command"
import * as Middleware from "@event-flow/core/Middleware"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { SeatTaken, StepTaken, UserJoined } from "../flow.ts"
import { CurrentUser, Sessions } from "./surroundings.ts"

class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}

class Authentication extends Middleware.Service<Authentication>()("benchmarks/Authentication", {
  provides: [CurrentUser],
  error: Denied
}) {}

export const AuthenticationLive = Layer.effect(
  Authentication,
  Effect.map(
    Sessions,
    ({ user }) => (effect) => Effect.flatMap(user, (current) => Effect.provideService(effect, CurrentUser, current))
  )
)

const options = {
  payload: { meetingId: Schema.String, userId: Schema.String, seat: Schema.Number },
  success: Schema.Number,
  middleware: [Middleware.logging, Authentication]
} as const

export class Join extends Command.Class<Join>()("GuardedJoin", options) {}
export class JoinOne extends Command.Class<JoinOne>()("GuardedJoinOne", { ...options, emits: [UserJoined] }) {}
export class JoinMany extends Command.Class<JoinMany>()("GuardedJoinMany", { ...options, emits: [UserJoined] }) {}
export class JoinStep extends Command.Class<JoinStep>()("GuardedJoinStep", { ...options, emits: [StepTaken] }) {}
export class JoinNotify extends Command.Class<JoinNotify>()("GuardedJoinNotify", { ...options, emits: [SeatTaken] }) {}
export class JoinAll extends Command.Class<JoinAll>()("GuardedJoinAll", { ...options, error: Denied, sends: [Join] }) {}

/** A handler that looks at the current user first. */
export const signedIn = <Args extends ReadonlyArray<unknown>, A, E, R>(
  handle: (...args: Args) => Effect.Effect<A, E, R>
) =>
(...args: Args): Effect.Effect<A, E, R | CurrentUser> =>
  Effect.flatMap(CurrentUser, ({ id }) => id === "user-1" ? handle(...args) : Effect.die("another user"))
