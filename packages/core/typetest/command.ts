/** What the types of commands, their handlers and `send` promise. */
// @effect-diagnostics missingEffectError:off
// @effect-diagnostics missingEffectContext:off
// @effect-diagnostics floatingEffect:off
// @effect-diagnostics multipleEffectProvide:off
import {
  Broker,
  Command,
  DomainEvent,
  EventFlow,
  type EventFlowError,
  Mediator,
  NotificationEvent,
  Query
} from "@event-flow/core"
import { Context, Effect, type Exit, Layer, Schema, Stream } from "effect"
import { check, type Equals, type ErrorOf, type ProvidedBy, type ServicesOf, type SuccessOf } from "./support.ts"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}
class Down extends Schema.TaggedError<Down>()("Down", {}) {}

class Joined extends DomainEvent.Class<Joined>()("Joined", { userId: Schema.String }) {}
class Left extends DomainEvent.Class<Left>()("Left", { userId: Schema.String }) {}
class JoinedLate extends Joined.extend<JoinedLate>()("JoinedLate", { minutes: Schema.Int }) {}
class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, { topic: "t" }) {}

class Rooms extends Context.Service<Rooms, {
  readonly join: (userId: string) => Effect.Effect<number, Full>
  readonly joinUnsafe: (userId: string) => Effect.Effect<number, Full | Down>
}>()("Rooms") {}
class User extends Context.Service<User, { readonly name: string }>()("User") {}

class Join extends Command.Class<Join>()("Join", {
  payload: { userId: Schema.String, on: Schema.DateFromString },
  success: Schema.Int,
  error: Full,
  emits: [Joined, Announced]
}) {}

class Quiet extends Command.Class<Quiet>()("Quiet", { success: Schema.DateFromString, error: Full }) {}
class Bare extends Command.Class<Bare>()("Bare", {}) {}
class Emitting extends Command.Class<Emitting>()("Emitting", { emits: [Joined] }) {}
class Seats
  extends Query.Class<Seats>()("Seats", { payload: { id: Schema.String }, success: Schema.Int, error: Full })
{}
class Watch
  extends Command.Class<Watch>()("Watch", { success: Schema.Int, error: Full, emits: [Joined], stream: true })
{}
class WatchQuery extends Query.Class<WatchQuery>()("WatchQuery", { success: Schema.Int, stream: true }) {}

// --- the success, the errors and the requirements of `send` follow from the command ---

const join = Mediator.send(new Join({ userId: "1", on: new Date() }))
check<Equals<SuccessOf<typeof join>, number>>()
check<Equals<ErrorOf<typeof join>, Full | EventFlowError.EventFlowError>>()
check<Equals<ServicesOf<typeof join>, Command.CommandFlow<"Join">>>()

// The command's own error alone without `emits`
const quiet = Mediator.send(new Quiet())
check<Equals<SuccessOf<typeof quiet>, Date>>()
check<Equals<ErrorOf<typeof quiet>, Full>>()
const bare = Mediator.send(new Bare())
check<Equals<SuccessOf<typeof bare>, void>>()
check<Equals<ErrorOf<typeof bare>, never>>()
const emitting = Mediator.send(new Emitting())
check<Equals<ErrorOf<typeof emitting>, EventFlowError.EventFlowError>>()
const seats = Mediator.send(new Seats({ id: "1" }))
check<Equals<ErrorOf<typeof seats>, Full>>()
check<Equals<ServicesOf<typeof seats>, Command.CommandFlow<"Seats">>>()

// The response beside what became of the events: only the handler's errors fail it
const settled = Mediator.sendSettled(new Join({ userId: "1", on: new Date() }))
check<Equals<SuccessOf<typeof settled>, Mediator.Settled<number, EventFlowError.EventFlowError>>>()
check<Equals<ErrorOf<typeof settled>, Full>>()
check<Equals<ServicesOf<typeof settled>, Command.CommandFlow<"Join">>>()
const settledQuiet = Mediator.sendSettled(new Quiet())
check<Equals<SuccessOf<typeof settledQuiet>["events"], Exit.Exit<void>>>()

// What it can fail with, as a schema for HTTP and RPC
const joinFailure = Command.failureSchema(Join)
check<Equals<typeof joinFailure.Type, Full | EventFlowError.EventFlowError>>()
const quietFailure = Command.failureSchema(Quiet)
check<Equals<typeof quietFailure.Type, Full>>()
const bareFailure = Command.failureSchema(Bare)
check<Equals<typeof bareFailure.Type, never>>()

// Any one of several commands
declare const either: Quiet | Seats
const one = Mediator.send(either)
check<Equals<SuccessOf<typeof one>, Date | number>>()
check<Equals<ServicesOf<typeof one>, Command.CommandFlow<"Quiet"> | Command.CommandFlow<"Seats">>>()

// --- what is sent is a command, single by `send` and streaming by `stream` ---

const watch = Mediator.stream(new Watch())
check<Equals<SuccessOf<typeof watch>, number>>()
check<Equals<ErrorOf<typeof watch>, Full | EventFlowError.EventFlowError>>()
check<Equals<ServicesOf<typeof watch>, Command.CommandFlow<"Watch">>>()
check<Equals<ErrorOf<ReturnType<typeof Mediator.stream<WatchQuery>>>, never>>()

// @ts-expect-error a streaming command is not sent
Mediator.send(new Watch())
// @ts-expect-error a streaming query is not sent
Mediator.send(new WatchQuery())
// @ts-expect-error a single command has no stream
Mediator.stream(new Join({ userId: "1", on: new Date() }))
// @ts-expect-error an event is not sent
Mediator.send(new Joined({ userId: "1" }))
// @ts-expect-error nor is an object that looks like a command
Mediator.send({ _tag: "Join", userId: "1" })
// @ts-expect-error nor the class
Mediator.send(Join)

// --- commands are what their schema says ---

check<Equals<Join["on"], Date>>()
check<Equals<Join["_tag"], "Join">>()
check<Equals<Command.Success<Join>, number>>()
check<Equals<Command.Tag<Join>, "Join">>()
// @ts-expect-error a field is missing
new Join({ userId: "1" })
// @ts-expect-error a command without fields takes none
new Bare({ userId: "1" })
// @ts-expect-error Self is missing
export class NoSelf extends Command.Class()("NoSelf", {}) {}
// @ts-expect-error Self is missing
export class NoSelfQuery extends Query.Class()("NoSelfQuery", {}) {}
// @ts-expect-error a query emits nothing
export class Emits extends Query.Class<Emits>()("Emits", { emits: [Joined] }) {}
// @ts-expect-error only events are emitted
export class NoEvents extends Command.Class<NoEvents>()("NoEvents", { emits: [Full] }) {}
// @ts-expect-error only a whole class, whose schema and handlers agree, is a command
export class Extended extends Join.extend("Extended")({}) {}

// --- handlers, in the four ways of writing one ---

const isJoin = (command: Join): Join => command

// An Effect that gives a generator function: its parameters are inferred
const JoinGen = Join.toLayer(Effect.gen(function*() {
  const rooms = yield* Rooms
  return Effect.fnUntraced(function*(command, { collect, collectAll }) {
    check<Equals<typeof command, Join>>()
    const seats = yield* rooms.join(isJoin(command).userId)
    yield* collect(new Joined({ userId: command.userId }))
    yield* collectAll([new Joined({ userId: "1" }), new Announced({ id: "1" })])
    return seats
  })
}))
check<Equals<ProvidedBy<typeof JoinGen>, Command.CommandImplementation<"Join">>>()
check<Equals<ErrorOf<typeof JoinGen>, never>>()
check<Equals<ServicesOf<typeof JoinGen>, Rooms>>()

// A generator function directly
const JoinFn = Join.toLayer(Effect.fnUntraced(function*(command, { collect }) {
  check<Equals<typeof command, Join>>()
  yield* collect(new Joined({ userId: command.userId }))
  return 1
}))
check<Equals<ServicesOf<typeof JoinFn>, never>>()

// A plain function
const JoinPlain = Join.toLayer((command, { collect }) => {
  check<Equals<typeof command, Join>>()
  return Effect.as(collect(new Joined({ userId: command.userId })), 1)
})
check<Equals<ServicesOf<typeof JoinPlain>, never>>()

// Written apart from its layer
const joinHandler = Join.of((command, { collect }) => {
  check<Equals<typeof command, Join>>()
  return Effect.as(collect(new Joined({ userId: command.userId })), 1)
})
export const JoinApart = Join.toLayer(joinHandler)

// What building the handler requires is required by its layer, and so are the services that it lists for its runs
const JoinServices = Join.toLayer(
  [Rooms],
  Effect.gen(function*() {
    yield* User
    return (command) => Effect.flatMap(Rooms, (rooms) => rooms.join(command.userId))
  })
)
check<Equals<ServicesOf<typeof JoinServices>, Rooms | User>>()
const JoinFnServices = Join.toLayer(
  [Rooms],
  Effect.fnUntraced(function*(command) {
    check<Equals<typeof command, Join>>()
    const rooms = yield* Rooms
    return yield* rooms.join(command.userId)
  })
)
check<Equals<ServicesOf<typeof JoinFnServices>, Rooms>>()
// @ts-expect-error a service that it does not list
Join.toLayer((command) => Effect.flatMap(Rooms, (rooms) => rooms.join(command.userId)))
// @ts-expect-error nor in a list of others
Join.toLayer([User], (command) => Effect.flatMap(Rooms, (rooms) => rooms.join(command.userId)))

// A handler may send the commands that its definition declares, and its own: the flow gives them to it
class Relay extends Command.Class<Relay>()("Relay", { sends: [Quiet, "Later"] }) {}
class Later extends Command.Class<Later>()("Later", { sends: [Relay] }) {}
const RelayLive = Relay.toLayer(Effect.fnUntraced(function*(command) {
  yield* Effect.ignore(Mediator.send(new Quiet()))
  yield* Mediator.send(new Later())
  yield* Mediator.send(command)
}))
check<Equals<ServicesOf<typeof RelayLive>, never>>()
check<Equals<typeof Relay["sends"], readonly [typeof Quiet, "Later"]>>()
// @ts-expect-error a command that the definition does not send
Later.toLayer(() => Effect.ignore(Mediator.send(new Quiet())))
// @ts-expect-error a tag or a class is sent, and no event
export class SendsEvents extends Command.Class<SendsEvents>()("SendsEvents", { sends: [Joined] }) {}

// Errors of building, and a scope for it
const JoinBuild = Join.toLayer(
  Effect.as(Effect.andThen(Effect.addFinalizer(() => Effect.void), new Down()), () => Effect.succeed(1))
)
check<Equals<ErrorOf<typeof JoinBuild>, Down>>()
check<Equals<ServicesOf<typeof JoinBuild>, never>>()

// A streaming handler
const WatchLive = Watch.toLayer((command, { collect }) => {
  check<Equals<typeof command, Watch>>()
  return Stream.fromEffect(Effect.as(collect(new Joined({ userId: "1" })), 1))
})
check<Equals<ProvidedBy<typeof WatchLive>, Command.CommandImplementation<"Watch">>>()
const WatchServices = Watch.toLayer([Rooms], () => Stream.fromEffect(Effect.as(Rooms, 1)))
check<Equals<ServicesOf<typeof WatchServices>, Rooms>>()

// --- a handler does what its command says and nothing else ---

// @ts-expect-error an error that the command does not declare
Join.toLayer(() => Effect.fail(new Down()))
Join.toLayer(
  [Rooms],
  // @ts-expect-error the same in a generator function
  Effect.fnUntraced(function*(command: Join) {
    const rooms = yield* Rooms
    return yield* rooms.joinUnsafe(command.userId)
  })
)
// @ts-expect-error the same, from an Effect that gives the function
Join.toLayer(Effect.succeed(() => Effect.fail(new Down())))
// @ts-expect-error the same, written apart
Join.of(() => Effect.fail(new Down()))
// @ts-expect-error another success
Join.toLayer(() => Effect.succeed("1"))
// @ts-expect-error the encoded form of the success
Quiet.toLayer(() => Effect.succeed("2026-01-01"))
// @ts-expect-error a command without an error cannot fail
Bare.toLayer(() => Effect.fail(new Full()))
// @ts-expect-error the handler of another command
Bare.toLayer((command: Join) => Effect.log(command.userId))
// @ts-expect-error a streaming command's handler gives a stream
Watch.toLayer(() => Effect.succeed(1))
// @ts-expect-error a single command's handler does not
Join.toLayer(() => Stream.make(1))
// @ts-expect-error a stream of another element
Watch.toLayer(() => Stream.make("1"))
// @ts-expect-error a stream with an error that is not declared
Watch.toLayer(() => Stream.fail(new Down()))

// --- `collect` takes only the declared events ---

export const collects = Join.toLayer((_, { collect, collectAll }) => {
  collect(new Joined({ userId: "1" }))
  collect(new Announced({ id: "1" }))
  // @ts-expect-error an event that is not declared
  collect(new Left({ userId: "1" }))
  // @ts-expect-error an event that extends a declared one is another event
  collect(new JoinedLate({ userId: "1", minutes: 1 }))
  // @ts-expect-error an event's fields are no event
  collect({ _tag: "Joined", userId: "1" })
  // @ts-expect-error nor is a command
  collect(new Bare())
  // @ts-expect-error one of several is not declared
  collectAll([new Joined({ userId: "1" }), new Left({ userId: "1" })])
  return Effect.succeed(1)
})

export const collectsNothing = Seats.toLayer((_, { collect }) => {
  // @ts-expect-error a query collects nothing
  collect(new Joined({ userId: "1" }))
  return Effect.succeed(1)
})

export const generatorCollects = Join.toLayer(Effect.gen(function*() {
  yield* Rooms
  return Effect.fnUntraced(function*(_, { collect }) {
    // @ts-expect-error an event that is not declared
    yield* collect(new Left({ userId: "1" }))
    return 1
  })
}))

export const streamCollects = Watch.toLayer((_, { collect }) =>
  // @ts-expect-error an event that is not declared
  Stream.fromEffect(Effect.as(collect(new Announced({ id: "1" })), 1))
)

// --- `requires`: services that the sender brings ---

class Rename extends Command.Class<Rename>()("Rename", { success: Schema.String, requires: [User] }) {}
const rename = Mediator.send(new Rename())
check<Equals<ServicesOf<typeof rename>, Command.CommandFlow<"Rename"> | User>>()
const RenameLive = Rename.toLayer(() => Effect.map(User, (user) => user.name))
check<Equals<ServicesOf<typeof RenameLive>, never>>()
const RenameFn = Rename.toLayer(Effect.fnUntraced(function*() {
  const user = yield* User
  return user.name
}))
check<Equals<ServicesOf<typeof RenameFn>, never>>()
const RenameMore = Rename.toLayer([Rooms], () => Effect.flatMap(Rooms, () => Effect.map(User, (user) => user.name)))
check<Equals<ServicesOf<typeof RenameMore>, Rooms>>()
class RenameBoth extends Command.Class<RenameBoth>()("RenameBoth", { requires: [User, Rooms] }) {}
const both = Mediator.send(new RenameBoth())
check<Equals<ServicesOf<typeof both>, Command.CommandFlow<"RenameBoth"> | User | Rooms>>()

class WatchUser
  extends Query.Class<WatchUser>()("WatchUser", { success: Schema.String, requires: [User], stream: true })
{}
const watchUser = Mediator.stream(new WatchUser())
check<Equals<ServicesOf<typeof watchUser>, Command.CommandFlow<"WatchUser"> | User>>()
const WatchUserLive = WatchUser.toLayer(() => Stream.fromEffect(Effect.map(User, (user) => user.name)))
check<Equals<ServicesOf<typeof WatchUserLive>, never>>()

// --- a flow that nobody provides, or that misses an implementation, does not compile ---

declare const needsNothing: <A, E>(effect: Effect.Effect<A, E>) => void
class Meetings extends EventFlow.make("Meetings", { commands: [Join, Bare] }) {}
const BareLive = Bare.toLayer(() => Effect.void)
const meetings = Meetings.layer().pipe(Layer.provide([JoinFn, BareLive, Broker.layerNone]))
needsNothing(join.pipe(Effect.provide(meetings)))
// @ts-expect-error the flow is missing: the implementation alone is not sent to
needsNothing(join.pipe(Effect.provide(JoinFn)))
// @ts-expect-error a command that is in no flow
needsNothing(quiet.pipe(Effect.provide(meetings)))
// @ts-expect-error an implementation of the flow is missing
needsNothing(join.pipe(Effect.provide(Meetings.layer().pipe(Layer.provide([JoinFn, Broker.layerNone])))))
// @ts-expect-error no broker was chosen, and Join announces
needsNothing(join.pipe(Effect.provide(Meetings.layer().pipe(Layer.provide([JoinFn, BareLive])))))

// --- errors are handled by their tags ---

const handled = join.pipe(Effect.catchTag("BrokerNotFound", (error) => {
  check<Equals<typeof error, Broker.BrokerNotFound>>()
  return Effect.succeed(0)
}))
check<Equals<ErrorOf<typeof handled>, Full | Exclude<EventFlowError.EventFlowError, Broker.BrokerNotFound>>>()
