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
  MessageCodec,
  NotificationEvent
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
check<Equals<ProvidedBy<typeof GreetLive>, EventHandler.Handler<"Greet">>>()
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
const GreetServices = Greet.toLayer(Effect.gen(function*() {
  yield* Clocks
  return (event) => Effect.flatMap(Mails, (mails) => mails.send(event.userId))
}))
check<Equals<ServicesOf<typeof GreetServices>, Mails | Clocks>>()
const countHandler = Count.of((event) => Effect.flatMap(Mails, (mails) => mails.send(event.userId)))
const CountApart = Count.toLayer(countHandler)
check<Equals<ServicesOf<typeof CountApart>, Mails>>()
// A handler may send commands: the handlers of what it sends are required, the mediator is at hand
const CountSends = Count.toLayer(() => Effect.orDie(Mediator.send(new Join())))
check<Equals<ServicesOf<typeof CountSends>, Command.Handler<"Join">>>()
const CountSendsGen = Count.toLayer(Effect.fnUntraced(function*(event) {
  check<Equals<typeof event, Joined>>()
  yield* Effect.orDie(Mediator.send(new Join()))
}))
check<Equals<ServicesOf<typeof CountSendsGen>, Command.Handler<"Join">>>()
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

// --- a map requires the services of exactly what it lists ---

const map = EventMap.layer(Greet, Count)
check<Equals<ServicesOf<typeof map>, EventHandler.Handler<"Greet"> | EventHandler.Handler<"Count">>>()
check<Equals<ErrorOf<typeof map>, EventMap.DuplicateDefinition>>()
check<Equals<ProvidedBy<typeof map>, EventMap.EventMap>>()
const none = EventMap.layer()
check<Equals<ServicesOf<typeof none>, never>>()
const list = [Greet, Count]
const dynamic = EventMap.layer(...list)
check<Equals<ServicesOf<typeof dynamic>, EventHandler.Handler<"Greet"> | EventHandler.Handler<"Count">>>()
// @ts-expect-error only handlers are listed
EventMap.layer(Joined)
// @ts-expect-error their definitions, and not their layers
EventMap.layer(GreetLive)

// --- so does a flow, and a broker ---

const flow = EventFlow.layer({ handlers: [Greet, Count, Log], concurrency: 8, onFailure: "accumulate", maxDepth: 9 })
check<
  Equals<
    ServicesOf<typeof flow>,
    | Broker.Broker
    | EventHandler.Handler<"Greet">
    | EventHandler.Handler<"Count">
    | EventHandler.Handler<"Log">
  >
>()
check<
  Equals<
    ProvidedBy<typeof flow>,
    Mediator.Mediator | EventProcessor.EventProcessor | EventEmitter.EventEmitter | EventMap.EventMap
  >
>()
check<Equals<ErrorOf<typeof flow>, EventMap.DuplicateDefinition>>()
const quietFlow = EventFlow.layer({ handlers: [] })
check<Equals<ServicesOf<typeof quietFlow>, Broker.Broker>>()
// A codec of one's own is set from outside: no layer requires one
const ownCodec = EventFlow.layer({ handlers: [] }).pipe(
  Layer.provide(Layer.succeed(MessageCodec.MessageCodec)(MessageCodec.cloudEvents({ source: "/own" })))
)
check<Equals<ServicesOf<typeof ownCodec>, Broker.Broker>>()
// @ts-expect-error a codec encodes and decodes
Layer.succeed(MessageCodec.MessageCodec)({ encode: MessageCodec.cloudEvents().encode })

// @ts-expect-error a flow lists its handlers, if only none
EventFlow.layer({})
// @ts-expect-error there is no such policy
EventFlow.layer({ handlers: [], onFailure: "ignore" })
// @ts-expect-error there is no such concurrency
EventFlow.layer({ handlers: [], concurrency: "many" })

// --- a program runs when nothing is missing ---

const JoinLive = Join.toLayer((_, { collect }) => collect(new Joined({ userId: "1" })))
const CountLive = Count.toLayer(() => Effect.void)
const handlers = Layer.mergeAll(GreetLive, CountLive, LogLive)
declare const run: <A, E>(effect: Effect.Effect<A, E>) => void
const send = Mediator.send(new Join())
const base = flow.pipe(Layer.provideMerge(JoinLive), Layer.provide(handlers))

run(send.pipe(Effect.provide(base.pipe(Layer.provide(Broker.layerNone)))))
// @ts-expect-error no broker was chosen
run(send.pipe(Effect.provide(base)))
// @ts-expect-error the handler of the command is missing
run(send.pipe(Effect.provide(flow.pipe(Layer.provide([handlers, Broker.layerNone])))))
const withoutLog = flow.pipe(Layer.provideMerge(JoinLive), Layer.provide([GreetLive, CountLive, Broker.layerNone]))
// @ts-expect-error the layer of an event handler is missing
run(send.pipe(Effect.provide(withoutLog)))
const needsMails = flow.pipe(
  Layer.provideMerge(JoinLive),
  Layer.provide([GreetGen, CountLive, LogLive, Broker.layerNone])
)
// @ts-expect-error a handler of the flow needs a service
run(send.pipe(Effect.provide(needsMails)))
export const unlisted = ReactLive

// --- each part can be replaced ---

const parts = Mediator.layer().pipe(
  Layer.provideMerge(EventProcessor.layer({ concurrency: "unbounded" })),
  Layer.provideMerge(EventEmitter.layer),
  Layer.provideMerge(EventMap.layer(Greet))
)
check<Equals<ServicesOf<typeof parts>, Broker.Broker | EventHandler.Handler<"Greet">>>()
