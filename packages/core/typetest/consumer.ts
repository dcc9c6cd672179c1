/** What the types of consumers promise. */
// @effect-diagnostics missingEffectContext:off
// @effect-diagnostics missingEffectError:off
// @effect-diagnostics floatingEffect:off
// @effect-diagnostics multipleEffectProvide:off
import {
  type Broker,
  Command,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Inbox,
  MemoryBroker,
  NotificationEvent,
  type Subscriber
} from "@event-flow/core"
import { Effect, Layer } from "effect"
import { check, type Equals, type ErrorOf, type ProvidedBy, type ServicesOf } from "./support.ts"

class Delayed extends NotificationEvent.Class<Delayed>()("Delayed", {}, { topic: "flights" }) {}
class Alarmed extends DomainEvent.Class<Alarmed>()("Alarmed", {}) {}
class Report extends Command.Class<Report>()("Report", {}) {}
class Rebook extends Command.Class<Rebook>()("Rebook", {}) {}

const Show = EventHandler.make("Show", { on: Delayed, emits: [Alarmed], sends: [Report] })
const Alarm = EventHandler.make("Alarm", { on: Alarmed })
const Help = EventHandler.make("Help", { on: Delayed, sends: [Rebook] })
const Count = EventHandler.make("Count", { on: Delayed })
class Board extends EventFlow.make("Board", { commands: [Report], handlers: [Show, Alarm] }) {}

// --- of a flow: the handlers of its notification events, and the flow, which runs the others ---

const ofFlow = EventConsumer.layer(Board, { group: "board" })
check<
  Equals<
    ServicesOf<typeof ofFlow>,
    | Subscriber.Subscriber
    | Broker.Broker
    | EventFlow.RunningFlow<"Board">
    | EventHandler.EventHandlerImplementation<"Show">
  >
>()
check<Equals<ErrorOf<typeof ofFlow>, EventConsumer.StartError>>()
check<Equals<ProvidedBy<typeof ofFlow>, EventConsumer.EventConsumer>>()

// --- handlers of batches: of notification events alone, with all of their events ---

const StoreAll = EventHandler.batch("StoreAll", { on: [Delayed] })
const ofBatches = EventConsumer.layer([StoreAll], { group: "store", batch: true })
check<
  Equals<
    ServicesOf<typeof ofBatches>,
    Subscriber.Subscriber | Broker.Broker | EventHandler.EventHandlerImplementation<"StoreAll">
  >
>()
StoreAll.toLayer((events) => {
  check<Equals<(typeof events)[0], Delayed>>()
  return Effect.void
})
// @ts-expect-error a domain event is handled in its dispatch, which makes no batches
EventHandler.batch("AlarmAll", { on: Alarmed })
// @ts-expect-error its errors are those that it declares
StoreAll.toLayer(() => Effect.fail("full"))

// --- of a list: its handlers, and the flows of what they send ---

const ofList = EventConsumer.layer([Show, Help], { group: "board" })
check<
  Equals<
    ServicesOf<typeof ofList>,
    | Subscriber.Subscriber
    | Broker.Broker
    | EventHandler.EventHandlerImplementation<"Show">
    | EventHandler.EventHandlerImplementation<"Help">
    | Command.CommandFlow<"Report">
    | Command.CommandFlow<"Rebook">
  >
>()

// --- an inbox, when duplicates are dropped ---

const once = EventConsumer.layer([Count], { group: "board", dedupe: true })
check<Equals<Extract<ServicesOf<typeof once>, Inbox.Inbox>, Inbox.Inbox>>()
check<Equals<Extract<ServicesOf<typeof ofList>, Inbox.Inbox>, never>>()

// --- a consumer runs when nothing is missing ---

declare const run: <A, E>(effect: Effect.Effect<A, E>) => void
const board = Board.layer().pipe(Layer.provide([Report.toLayer(() => Effect.void), Alarm.toLayer(() => Effect.void)]))
const CountLive = Count.toLayer(() => Effect.void)
const ShowLive = Show.toLayer(() => Effect.void)

run(Layer.launch(ofFlow.pipe(Layer.provide(board), Layer.provide([ShowLive, MemoryBroker.layer()]))))
// @ts-expect-error the implementation of its handler is missing
run(Layer.launch(ofFlow.pipe(Layer.provide(board), Layer.provide(MemoryBroker.layer()))))
// @ts-expect-error the flow is missing
run(Layer.launch(ofFlow.pipe(Layer.provide([ShowLive, MemoryBroker.layer()]))))
// @ts-expect-error a broker and a subscriber are missing
run(Layer.launch(ofFlow.pipe(Layer.provide(board), Layer.provide(ShowLive))))
// @ts-expect-error an inbox is missing
run(Layer.launch(once.pipe(Layer.provide([CountLive, MemoryBroker.layer()]))))
run(Layer.launch(once.pipe(Layer.provide([CountLive, MemoryBroker.layer(), Inbox.layerMemory()]))))
// @ts-expect-error a consumer has a group
EventConsumer.layer(Board, {})
// @ts-expect-error handlers are consumed, and no events
EventConsumer.layer([Delayed], { group: "board" })
