/** What the types of middleware and of mediators with middleware promise. */
// @effect-diagnostics missingEffectError:off
// @effect-diagnostics missingEffectContext:off
// @effect-diagnostics floatingEffect:off
// @effect-diagnostics multipleEffectProvide:off
import { Command, DomainEvent, type EventFlowError, Mediator, Middleware, Query, type Settings } from "@event-flow/core"
import { Context, Effect, Layer, Schedule, Schema } from "effect"
import { check, type Equals, type ErrorOf, type ServicesOf } from "./support.ts"

class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
class Full extends Schema.TaggedError<Full>()("Full", {}) {}
class Joined extends DomainEvent.Class<Joined>()("Joined", { userId: Schema.String }) {}
class User extends Context.Service<User, { readonly name: string }>()("User") {}
class Tenant extends Context.Service<Tenant, { readonly id: string }>()("Tenant") {}
class Rooms extends Context.Service<Rooms, { readonly join: Effect.Effect<number, Full> }>()("Rooms") {}

class Authenticate extends Middleware.Service<Authenticate>()("Authenticate", { provides: [User], error: Denied }) {}
class PerTenant extends Middleware.Service<PerTenant>()("PerTenant", { provides: [Tenant], requires: [User] }) {}
class Audit extends Middleware.Service<Audit>()("Audit", { requires: [User] }) {}

// --- what it provides, requires and may fail with ---

check<Equals<typeof Authenticate["~provides"], User>>()
check<Equals<typeof Authenticate["~requires"], never>>()
check<Equals<typeof Authenticate["error"], typeof Denied>>()
check<Equals<typeof PerTenant["error"], Schema.Never>>()

// --- a command with middleware ---

class Rename extends Command.Class<Rename>()("Rename", {
  success: Schema.String,
  error: Full,
  emits: [Joined],
  middleware: [Authenticate, PerTenant]
}) {}

const rename = Mediator.send(new Rename())
check<Equals<ErrorOf<typeof rename>, Full | Denied | EventFlowError.EventFlowError>>()
check<Equals<ServicesOf<typeof rename>, Command.CommandFlow<"Rename">>>()

// The handler may use what is provided; its layer requires the middleware instead
const RenameLive = Rename.toLayer(() => Effect.flatMap(User, (user) => Effect.as(Tenant, user.name)))
check<Equals<ServicesOf<typeof RenameLive>, Authenticate | PerTenant>>()
const RenameFn = Rename.toLayer(Effect.fnUntraced(function*(command) {
  check<Equals<typeof command, Rename>>()
  const user = yield* User
  const tenant = yield* Tenant
  return user.name + tenant.id
}))
check<Equals<ServicesOf<typeof RenameFn>, Authenticate | PerTenant>>()
const RenameMore = Rename.toLayer([Rooms], () => Effect.flatMap(Rooms, (rooms) => Effect.map(rooms.join, String)))
check<Equals<ServicesOf<typeof RenameMore>, Authenticate | PerTenant | Rooms>>()

// A service that middleware requires and nobody provides surfaces in the layer
class Audited extends Command.Class<Audited>()("Audited", { middleware: [Audit] }) {}
const AuditedLive = Audited.toLayer(() => Effect.void)
check<Equals<ServicesOf<typeof AuditedLive>, Audit | User>>()
// What the inner one requires, one further out provides (`Rename`); not the other way round
class Swapped extends Command.Class<Swapped>()("Swapped", { middleware: [PerTenant, Authenticate] }) {}
const SwappedLive = Swapped.toLayer(() => Effect.void)
check<Equals<ServicesOf<typeof SwappedLive>, PerTenant | Authenticate | User>>()
// Unless the sender brings it
class AuditedUser extends Command.Class<AuditedUser>()("AuditedUser", { middleware: [Audit], requires: [User] }) {}
const AuditedUserLive = AuditedUser.toLayer(() => Effect.void)
check<Equals<ServicesOf<typeof AuditedUserLive>, Audit>>()
check<
  Equals<
    ServicesOf<ReturnType<typeof Mediator.send<AuditedUser>>>,
    Command.CommandFlow<"AuditedUser"> | User
  >
>()

// @ts-expect-error the middleware's error is not the handler's to fail with
Rename.toLayer(() => Effect.fail(new Denied()))
// @ts-expect-error only middleware is listed
export class NoMiddleware extends Command.Class<NoMiddleware>()("NoMiddleware", { middleware: [User] }) {}

// --- its implementation ---

export const AuthenticateLive = Layer.succeed(Authenticate)((effect) =>
  Effect.provideService(effect, User, { name: "Ada" })
)
export const AuthenticateDenies = Layer.succeed(Authenticate)(() => Effect.fail(new Denied()))
// @ts-expect-error it does not provide what it says
Layer.succeed(Authenticate)((effect) => effect)
// @ts-expect-error it fails with an error that it does not declare
Layer.succeed(Authenticate)(() => Effect.fail(new Full()))
// @ts-expect-error it cannot forge the result of a handler
Layer.succeed(Authenticate)(() => Effect.succeed("forged"))
// @ts-expect-error it requires what it does not say
Layer.succeed(Authenticate)((effect) => Effect.provideServiceEffect(effect, User, Effect.as(Rooms, { name: "" })))
// @ts-expect-error it cannot swallow the errors of a handler
Layer.succeed(Audit)((effect) => Effect.catch(effect, () => Effect.void))

// --- middleware from a function ---

const inline = Middleware.make((effect, info) => Effect.andThen(Effect.log(info.tag), effect))
check<Equals<typeof inline["error"], Schema.Never>>()
check<Equals<typeof inline["~service"], never>>()
const denying = Middleware.make(() => Effect.fail(new Denied()), { error: Denied })
check<Equals<typeof denying["error"], typeof Denied>>()
const requiring = Middleware.make((effect) => Effect.andThen(User, effect), { requires: [User] })
check<Equals<typeof requiring["~requires"], User>>()
// @ts-expect-error an error that is not declared
Middleware.make(() => Effect.fail(new Denied()))
const providing = Middleware.make((effect) => Effect.provideService(effect, User, { name: "Ada" }), {
  provides: [User]
})
check<Equals<typeof providing["~provides"], User>>()
// @ts-expect-error a service that it does not require
Middleware.make((effect) => Effect.andThen(User, effect))
// @ts-expect-error a forged result
Middleware.make(() => Effect.succeed(1))

// --- ready ones ---

check<Equals<ReturnType<typeof Middleware.timeout>["error"], typeof Middleware.CommandTimeout>>()
class Timed extends Query.Class<Timed>()("Timed", {
  success: Schema.Int,
  middleware: [Middleware.logging, Middleware.retry({ schedule: Schedule.recurs(2) }), Middleware.timeout("1 second")]
}) {}
const timed = Mediator.send(new Timed())
check<Equals<ErrorOf<typeof timed>, Middleware.CommandTimeout>>()
const TimedLive = Timed.toLayer(() => Effect.succeed(1))
check<Equals<ServicesOf<typeof TimedLive>, never>>()

// --- a mediator of one's own ---

class AppMediator extends Mediator.Service<AppMediator>()("AppMediator", { middleware: [Authenticate] }) {}
class Greet extends Command.Class<Greet>()("Greet", { success: Schema.String, requires: [User, Tenant] }) {}
class Watch extends Query.Class<Watch>()("Watch", { success: Schema.Int, requires: [User], stream: true }) {}

// Its errors are everyone's; what it provides is no longer asked of the sender.
const greet = AppMediator.send(new Greet())
check<Equals<ErrorOf<typeof greet>, Denied>>()
check<Equals<ServicesOf<typeof greet>, AppMediator | Command.CommandFlow<"Greet"> | Tenant>>()
const own = AppMediator.send(new Rename())
check<Equals<ErrorOf<typeof own>, Full | Denied | EventFlowError.EventFlowError>>()
const watch = AppMediator.stream(new Watch())
check<Equals<ErrorOf<typeof watch>, Denied>>()
check<Equals<ServicesOf<typeof watch>, AppMediator | Command.CommandFlow<"Watch">>>()
// @ts-expect-error a streaming query is not sent
AppMediator.send(new Watch())
// @ts-expect-error a single command has no stream
AppMediator.stream(new Greet())

const greetSettled = AppMediator.sendSettled(new Greet())
check<Equals<ErrorOf<typeof greetSettled>, Denied>>()
const greetFailure = AppMediator.failureSchema(Rename)
check<Equals<typeof greetFailure.Type, Full | Denied | EventFlowError.EventFlowError>>()

const layer = AppMediator.layer({ drainTimeout: "1 second" })
check<Equals<ServicesOf<typeof layer>, Authenticate>>()
check<Equals<ErrorOf<typeof layer>, Settings.InvalidSetting>>()
class Audits extends Mediator.Service<Audits>()("Audits", { middleware: [Audit] }) {}
const auditsLayer = Audits.layer()
check<Equals<ServicesOf<typeof auditsLayer>, Audit | User>>()
// The mediator without middleware adds nothing
const plain = Mediator.send(new Greet())
check<Equals<ErrorOf<typeof plain>, never>>()
check<Equals<ServicesOf<typeof plain>, Command.CommandFlow<"Greet"> | User | Tenant>>()
