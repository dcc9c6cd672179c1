/** What the types of handlers, maps and flows promise. */
// @effect-diagnostics missingEffectError:off
// @effect-diagnostics missingEffectContext:off
// @effect-diagnostics floatingEffect:off
// @effect-diagnostics multipleEffectProvide:off
import {
  Broker,
  Command,
  DomainEvent,
  EventEmitter,
  EventFlow,
  EventHandler,
  EventMap,
  EventProcessor,
  Mediator,
  NotificationEvent,
  type Settings
} from "@event-flow/core"
import { Context, Effect, Layer, Schema } from "effect"
import { check, type Equals, type ErrorOf, type ProvidedBy, type ServicesOf } from "./support.ts"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}
class Down extends Schema.TaggedError<Down>()("Down", {}) {}
class Joined extends DomainEvent.Class<Joined>()("Joined", { userId: Schema.String }) {}
class Greeted extends DomainEvent.Class<Greeted>()("Greeted", { userId: Schema.String }) {}
class GreetedTwice extends Greeted.extend<GreetedTwice>()("GreetedTwice", {}) {}
class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, { topic: "t" }) {}
class Mails extends Context.Service<Mails, { readonly send: (to: string) => Effect.Effect<void> }>()("Mails") {}
class Clocks extends Context.Service<Clocks, { readonly now: number }>()("Clocks") {}

const Greet = EventHandler.make("Greet", { on: Joined, emits: [Greeted, Announced], error: Full })
const Count = EventHandler.make("Count", { on: Joined })
const Log = EventHandler.make("Log", { on: Greeted })
const React = EventHandler.make("React", { on: Announced })

class Join extends Command.Class<Join>()("Join", { emits: [Joined] }) {}

// --- handlers of events ---

const GreetLive = Greet.toLayer((event, { collect }) => {
  check<Equals<typeof event, Joined>>()
  // @ts-expect-error an event that is not declared
  collect(new Joined({ userId: "1" }))
  // @ts-expect-error an event that extends a declared one
  collect(new GreetedTwice({ userId: "1" }))
  return collect(new Greeted({ userId: event.userId }))
})
check<Equals<ProvidedBy<typeof GreetLive>, EventHandler.EventHandlerImplementation<"Greet">>>()
check<Equals<ServicesOf<typeof GreetLive>, never>>()

const GreetGen = Greet.toLayer(Effect.gen(function*() {
  const mails = yield* Mails
  return Effect.fnUntraced(function*(event, { collect }) {
    check<Equals<typeof event, Joined>>()
    yield* mails.send(event.userId)
    yield* collect(new Announced({ id: event.userId }))
  })
}))
check<Equals<ServicesOf<typeof GreetGen>, Mails>>()

const GreetFn = Greet.toLayer(Effect.fnUntraced(function*(event, { collectAll }) {
  check<Equals<typeof event, Joined>>()
  yield* collectAll([new Greeted({ userId: event.userId })])
}))
check<Equals<ServicesOf<typeof GreetFn>, never>>()

// Requirements surface, at build and at run
const GreetServices = Greet.toLayer(
  [Mails],
  Effect.gen(function*() {
    yield* Clocks
    return (event) => Effect.flatMap(Mails, (mails) => mails.send(event.userId))
  })
)
check<Equals<ServicesOf<typeof GreetServices>, Mails | Clocks>>()
const countHandler = Count.of((event) => Effect.flatMap(Mails, (mails) => mails.send(event.userId)))
const CountApart = Count.toLayer([Mails], countHandler)
check<Equals<ServicesOf<typeof CountApart>, Mails>>()
// @ts-expect-error a service that the handler does not list
Count.toLayer(countHandler)

// A handler may send the commands that its definition declares: the flow gives them to it
const Invite = EventHandler.make("Invite", { on: Joined, sends: [Join] })
const InviteLive = Invite.toLayer(() => Effect.orDie(Mediator.send(new Join())))
check<Equals<ServicesOf<typeof InviteLive>, never>>()
const InviteGen = Invite.toLayer(Effect.fnUntraced(function*(event) {
  check<Equals<typeof event, Joined>>()
  yield* Effect.orDie(Mediator.send(new Join()))
}))
check<Equals<ServicesOf<typeof InviteGen>, never>>()
// @ts-expect-error a command that the handler does not declare
Count.toLayer(() => Effect.orDie(Mediator.send(new Join())))

// One handler of several events
const Audit = EventHandler.make("Audit", { on: [Joined, Greeted, Announced] })
export const AuditLive = Audit.toLayer((event) => {
  check<Equals<typeof event, Joined | Greeted | Announced>>()
  return Effect.void
})
// @ts-expect-error at least one event
EventHandler.make("Wrong", { on: [] })

const ReactLive = React.toLayer((event) => {
  check<Equals<typeof event, Announced>>()
  return Effect.void
})
const LogLive = Log.toLayer(() => Effect.void)

// @ts-expect-error an error that is not declared
Greet.toLayer(() => Effect.fail(new Down()))
// @ts-expect-error a handler without `error` cannot fail
Count.toLayer(() => Effect.fail(new Full()))
// @ts-expect-error a handler without `emits` collects nothing
Count.toLayer((_, { collect }) => collect(new Greeted({ userId: "1" })))
// @ts-expect-error the handler of another event
Count.toLayer((event: Greeted) => Effect.log(event.userId))
// @ts-expect-error only events are handled
EventHandler.make("Wrong", { on: Join })
// @ts-expect-error a definition needs its event
EventHandler.make("Wrong", {})

// --- a map requires the implementations of the handlers of domain events in its list ---

const map = EventMap.layer([Greet, Count, React])
check<
  Equals<
    ServicesOf<typeof map>,
    EventHandler.EventHandlerImplementation<"Greet"> | EventHandler.EventHandlerImplementation<"Count">
  >
>()
check<Equals<ErrorOf<typeof map>, EventMap.DuplicateDefinition>>()
check<Equals<ProvidedBy<typeof map>, EventMap.EventMap>>()
// @ts-expect-error only handlers are listed
EventMap.layer([Joined])
// @ts-expect-error their definitions, and not their layers
EventMap.layer([GreetLive])

// --- a flow requires what its members need, and provides what can be sent ---

class Meetings extends EventFlow.make("Meetings", { commands: [Join], handlers: [Greet, Count, Log, React] }) {}
const meetings = Meetings.layer({ concurrency: 8, onFailure: "accumulate", maxDepth: 9 })
check<
  Equals<
    ServicesOf<typeof meetings>,
    // Greet announces
    | Broker.Broker
    | Command.CommandImplementation<"Join">
    | EventHandler.EventHandlerImplementation<"Greet">
    | EventHandler.EventHandlerImplementation<"Count">
    // And not that of React, which handles a notification event: it belongs to a consumer
    | EventHandler.EventHandlerImplementation<"Log">
  >
>()
check<Equals<ProvidedBy<typeof meetings>, Command.CommandFlow<"Join"> | EventFlow.RunningFlow<"Meetings">>>()
check<Equals<ErrorOf<typeof meetings>, EventMap.DuplicateDefinition | Settings.InvalidSetting>>()
check<Equals<typeof Meetings.commands, ReadonlyArray<typeof Join>>>()

// A flow that publishes nothing asks for no broker
class Quiet extends EventFlow.make("Quiet", { commands: [Join], handlers: [Count] }) {}
check<
  Equals<
    ServicesOf<ReturnType<typeof Quiet.layer>>,
    Command.CommandImplementation<"Join"> | EventHandler.EventHandlerImplementation<"Count">
  >
>()
class Empty extends EventFlow.make("Empty", {}) {}
check<Equals<ServicesOf<ReturnType<typeof Empty.layer>>, never>>()
check<Equals<ProvidedBy<ReturnType<typeof Empty.layer>>, EventFlow.RunningFlow<"Empty">>>()

// What its members send and another flow lists is asked for
class Charge extends Command.Class<Charge>()("Charge", {}) {}
class Order extends Command.Class<Order>()("Order", { sends: [Charge, "Cancel"] }) {}
class Cancel extends Command.Class<Cancel>()("Cancel", { sends: [Order] }) {}
class Shop extends EventFlow.make("Shop", { commands: [Order, Cancel] }) {}
const shop = Shop.layer()
check<
  Equals<
    ServicesOf<typeof shop>,
    | Command.CommandImplementation<"Order">
    | Command.CommandImplementation<"Cancel">
    | Command.CommandFlow<"Charge">
  >
>()

// Flows are joined to one
class Billing extends EventFlow.make("Billing", { commands: [Charge], handlers: [Count] }) {}
class All extends EventFlow.make("All", { flows: [Shop, Billing], commands: [Join] }) {}
check<
  Equals<
    ServicesOf<ReturnType<typeof All.layer>>,
    | Command.CommandImplementation<"Order">
    | Command.CommandImplementation<"Cancel">
    | Command.CommandImplementation<"Charge">
    | Command.CommandImplementation<"Join">
    | EventHandler.EventHandlerImplementation<"Count">
  >
>()

// @ts-expect-error commands are listed, and no events
EventFlow.make("Wrong", { commands: [Joined] })
// @ts-expect-error handlers are listed, and no layers
EventFlow.make("Wrong", { handlers: [GreetLive] })
// @ts-expect-error there is no such policy
Meetings.layer({ onFailure: "ignore" })
// @ts-expect-error there is no such concurrency
Meetings.layer({ concurrency: "many" })

// --- a program runs when nothing is missing ---

const JoinLive = Join.toLayer((_, { collect }) => collect(new Joined({ userId: "1" })))
const CountLive = Count.toLayer(() => Effect.void)
const handlers = Layer.mergeAll(GreetLive, CountLive, LogLive)
declare const run: <A, E>(effect: Effect.Effect<A, E>) => void
const send = Mediator.send(new Join())

run(send.pipe(Effect.provide(meetings.pipe(Layer.provide([JoinLive, handlers, Broker.layerNone])))))
// @ts-expect-error no broker was chosen
run(send.pipe(Effect.provide(meetings.pipe(Layer.provide([JoinLive, handlers])))))
// @ts-expect-error the implementation of the command is missing
run(send.pipe(Effect.provide(meetings.pipe(Layer.provide([handlers, Broker.layerNone])))))
const withoutLog = meetings.pipe(Layer.provide([JoinLive, GreetLive, CountLive, Broker.layerNone]))
// @ts-expect-error the layer of an event handler is missing
run(send.pipe(Effect.provide(withoutLog)))
const needsMails = meetings.pipe(Layer.provide([JoinLive, GreetGen, CountLive, LogLive, Broker.layerNone]))
// @ts-expect-error a handler of the flow needs a service
run(send.pipe(Effect.provide(needsMails)))
const withoutCharge = shop.pipe(
  Layer.provide([Order.toLayer(() => Mediator.send(new Charge())), Cancel.toLayer(() => Effect.void)])
)
// @ts-expect-error a command that a member sends is in no flow that is provided
run(Mediator.send(new Order()).pipe(Effect.provide(withoutCharge)))
const billing = Billing.layer().pipe(Layer.provide([Charge.toLayer(() => Effect.void), CountLive]))
run(Mediator.send(new Order()).pipe(Effect.provide(withoutCharge.pipe(Layer.provide(billing)))))
export const unlisted = ReactLive

// --- the parts can be replaced, and run in a dispatch alone ---

const parts = Meetings.layerNoDeps().pipe(
  Layer.provide(EventProcessor.layer({ concurrency: "unbounded" })),
  Layer.provide(EventEmitter.layer),
  Layer.provide(EventMap.layer(Meetings.handlers))
)
check<Equals<ServicesOf<typeof parts>, ServicesOf<typeof meetings>>>()
const emitting = EventEmitter.EventEmitter.use((emitter) => emitter.emit(new Joined({ userId: "1" })))
check<Equals<ServicesOf<typeof emitting>, EventEmitter.EventEmitter | Mediator.Mediator>>()
const processing = EventProcessor.EventProcessor.use((processor) => processor.process([]))
check<Equals<ServicesOf<typeof processing>, EventProcessor.EventProcessor | Mediator.Mediator>>()
