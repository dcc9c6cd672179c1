/** What the types of the testing entry and of `FlowGraph` promise. Checked by `tsc`, never run. */
// @effect-diagnostics missingEffectContext:off missingEffectError:off missingLayerContext:off
import {
  Broker,
  Command,
  DomainEvent,
  EventHandler,
  FlowGraph,
  Mediator,
  type MemoryBroker,
  NotificationEvent,
  type Subscriber
} from "@event-flow/core"
import { BrokerSuite, Expect, FailingBroker, type Flow, RecordingBroker, Tracker } from "@event-flow/core/testing"
import { type Effect, Layer, Schema } from "effect"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}
class Joined extends DomainEvent.Class<Joined>()("Joined", { userId: Schema.String }) {}
class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, { topic: "t" }) {}
class Join extends Command.Class<Join>()("Join", {
  payload: { userId: Schema.String },
  success: Schema.Int,
  error: Full
}) {}
const Greet = EventHandler.make("Greet", { on: Joined })

declare const flow: Flow.Flow

// --- Expect: each kind takes what can be of that kind ---

Expect.exactly(flow, {
  commands: [Join, new Join({ userId: "u" }), Expect.where(Join, (command) => command.userId === "u")],
  events: [Joined, Announced, new Joined({ userId: "u" }), Expect.where(Announced, (event) => event.id === "m")],
  followUps: [Joined],
  handlers: [Greet],
  published: [Announced, new Announced({ id: "m" }), Expect.where(Announced, (event) => event.id === "m")],
  consumed: [Announced]
}, { order: "any" })

// @ts-expect-error an event is not a command
Expect.exactly(flow, { commands: [Joined] })
// @ts-expect-error a command is not an event
Expect.includes(flow, { events: [Join] })
// @ts-expect-error nor is its instance
Expect.includes(flow, { events: [new Join({ userId: "u" })] })
// @ts-expect-error a domain event is not published
Expect.only(flow, { published: [Joined] })
// @ts-expect-error whatever its fields
Expect.only(flow, { consumed: [Expect.where(Joined, () => true)] })
// @ts-expect-error a handler is told by its definition
Expect.exactly(flow, { handlers: ["Greet"] })
// @ts-expect-error there is no such kind
Expect.exactly(flow, { queries: [] })
// @ts-expect-error the event has no such field
Expect.where(Announced, (event) => event.userId === "u")

// --- Tracker ---

/** The errors of the program are in its exit; a tracker is required besides what the program requires. */
export const tracked: Effect.Effect<
  Tracker.Tracked<number, Full>,
  never,
  Tracker.Tracker | Command.CommandFlow<"Join">
> = Tracker.run(Mediator.send(new Join({ userId: "u" })))

// @ts-expect-error the tracker is missing
export const untracked: Effect.Effect<unknown, unknown, Command.CommandFlow<"Join">> = Tracker.run(
  Mediator.send(new Join({ userId: "u" }))
)

export const withBroker: Layer.Layer<
  Tracker.Tracker | Broker.Broker | Subscriber.Subscriber | MemoryBroker.MemoryBroker
> = Tracker.layerMemoryBroker({ capacity: 10 })

// --- brokers ---

declare const recording: RecordingBroker.RecordingBroker["Service"]

export const decoded: Effect.Effect<ReadonlyArray<Announced>, unknown> = recording.decoded(Announced)

// @ts-expect-error a domain event is not published
export const undecoded = recording.decoded(Joined)

const unreachable = new Broker.Unreachable({ detail: "gone" })

// @ts-expect-error a failing broker needs one to pass on to
export const alone: Layer.Layer<Broker.Broker> = FailingBroker.layer(FailingBroker.nth(1, unreachable))

export const around: Layer.Layer<Broker.Broker | FailingBroker.FailingBroker | RecordingBroker.RecordingBroker> =
  FailingBroker.layer((call, messages) => call > 1 && messages[0].topic === "t" ? unreachable : undefined).pipe(
    Layer.provideMerge(RecordingBroker.layer)
  )

// @ts-expect-error no way to fail
FailingBroker.nth(1, new Full())

// --- BrokerSuite ---

declare const pair: Layer.Layer<Broker.Broker | Subscriber.Subscriber>
declare const publisher: Layer.Layer<Broker.Broker>

const features: BrokerSuite.Features = { persistentTopics: true, ephemeralGroups: false }

export const cases: ReadonlyArray<BrokerSuite.Case> = BrokerSuite.make("pair", pair, features).cases

// @ts-expect-error a broker without a subscriber is no pair
BrokerSuite.make("publisher", publisher)
// @ts-expect-error no such promise
BrokerSuite.make("pair", pair, { exactlyOnce: true })

// --- MemoryBroker ---

declare const memory: MemoryBroker.MemoryBroker["Service"]

export const unsubscribed: Effect.Effect<void, MemoryBroker.GroupInUse> = memory.unsubscribe("group")
// @ts-expect-error a group that is in use stays
export const always: Effect.Effect<void> = memory.unsubscribe("group")

// --- FlowGraph ---

const graph = FlowGraph.make({ commands: [Join], handlers: [Greet] })

// @ts-expect-error an event is not a command
FlowGraph.make({ commands: [Joined] })
// @ts-expect-error an event is not a handler
FlowGraph.make({ handlers: [Joined] })

FlowGraph.toMermaid(graph, Join)
FlowGraph.toMermaid(graph, Announced)
// @ts-expect-error no flow starts at a handler
FlowGraph.toMermaid(graph, Greet)
