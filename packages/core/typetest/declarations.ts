/**
 * A program whose declarations are emitted, as those of a library are: whatever
 * its exports are inferred to be must have a public name. test/pack.test.ts
 * compiles it against the packed packages and looks for internal paths.
 */
import {
  AsyncApi,
  BrokerLayer,
  Command,
  ConsumerPolicy,
  Correlation,
  DomainEvent,
  Event,
  EventConsumer,
  EventEmitter,
  EventFlow,
  EventHandler,
  EventMap,
  EventProcessor,
  FlowGraph,
  FlowObserver,
  Inbox,
  Mediator,
  MemoryBroker,
  Message,
  MessageCodec,
  Middleware,
  NotificationEvent,
  Query,
  Resilience,
  Settings,
  Telemetry,
  Upcast
} from "@event-flow/core"
import { BrokerSuite, Expect, FailingBroker, Flow, RecordingBroker, Tracker } from "@event-flow/core/testing"
import { Config, Context, Effect, Layer, Schedule, Schema, Stream } from "effect"

// --- definitions ---

export class Full extends Schema.TaggedError<Full>()("Full", {}) {}
export class Late extends Schema.TaggedError<Late>()("Late", {}) {}
export class User extends Context.Service<User, { readonly name: string }>()("User") {}
export class Sessions extends Context.Service<Sessions, { readonly get: Effect.Effect<string> }>()("Sessions") {}

export class Joined extends DomainEvent.Class<Joined>()("Joined", { id: Schema.String }) {}
export class JoinedLate extends Joined.extend<JoinedLate>()("JoinedLate", { minutes: Schema.Int }) {}
export const upcast = Upcast.from(Schema.Struct({ name: Schema.String })).toCurrent(({ name }) => ({ id: name }))
export class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, {
  topic: "announced",
  version: 2,
  upcast
}) {}

export class Authenticate extends Middleware.Service<Authenticate>()("Authenticate", {
  provides: [User],
  requires: [Sessions],
  error: Full
}) {}
export const Limit = Middleware.make((effect) => effect, { error: Late })

export class Join extends Command.Class<Join>()("Join", {
  payload: { id: Schema.String },
  success: Schema.Int,
  error: Schema.Union([Full, Late]),
  emits: [Joined, Announced],
  middleware: [Authenticate, Limit],
  requires: [Sessions]
}) {}
export class Watch
  extends Query.Class<Watch>()("Watch", { success: Schema.Int, sends: [Join, "Later"], stream: true })
{
}
export const Greet = EventHandler.make("Greet", {
  on: [Joined, Announced],
  error: Late,
  emits: [Joined],
  sends: [Join]
})
export class App extends EventFlow.make("App", { commands: [Join, Watch], handlers: [Greet] }) {}
export const Whole = EventFlow.make("Whole", { flows: [App] })
export class AppMediator extends Mediator.Service<AppMediator>()("AppMediator", { middleware: [Authenticate] }) {}

// --- what is made of them ---

export const handler = Join.of(({ id }, { collect }) => Effect.as(collect(new Joined({ id })), 1))
export const JoinLive = Join.toLayer(handler)
export const WatchLive = Watch.toLayer(() => Stream.make(1))
export const GreetLive = Greet.toLayer([Sessions], () => Effect.asVoid(Sessions))
export const implement = { join: Join.toLayer, greet: Greet.toLayer, of: Greet.of, extend: Joined.extend }
export const AppLive = App.layer()
export const AppConfigured = App.layerConfig({ concurrency: Config.Int("CONCURRENCY") })
export const AppByHand = App.layerNoDeps()
export const counts = App.counts
export const Consumer = EventConsumer.layer(App, { group: "app" })
export const ListConsumer = EventConsumer.layer([Greet], { group: "list", dedupe: true })
export const consume = EventConsumer.run(App, { group: "app" })
export const AppMediatorLive = AppMediator.layer()

export const sent = Mediator.send(new Join({ id: "" }))
export const settled = Mediator.sendSettled(new Join({ id: "" }))
export const watched = Mediator.stream(new Watch())
export const sentByOwn = AppMediator.send(new Join({ id: "" }))
export const own = Effect.map(AppMediator, (mediator) => mediator)
export const failure = Command.failureSchema(Join)
export const ownFailure = AppMediator.failureSchema(Join)
export const isInfrastructure = Mediator.isInfrastructureError(Join)
export const answered = Effect.catchIf(sent, Mediator.isInfrastructureError(Join), () => Effect.void)
export const send = <C extends Command.Any<"single">>(command: C) => Mediator.send(command)

export const spread = (command: Join, joined: Joined, announced: Announced) => [
  { ...command },
  { ...joined },
  { ...announced }
]
export const ofCommand = (definition: Command.AnyClass) => ({ ...definition })
export const ofHandler = (definition: EventHandler.Any) => ({ ...definition })
export const ofMiddleware = (definition: Middleware.Any) => ({ ...definition })
export const ofFlows = (definition: EventFlow.Any, graph: FlowGraph.FlowGraph) => [{ ...definition }, { ...graph }]
export const ofMembers = (definition: EventFlow.Any) =>
  definition.commands.map(({ middleware, sends }) => [middleware, sends])
export const ofEvent = (event: Event.Any) =>
  NotificationEvent.isNotificationEvent(event) && NotificationEvent.classOf(event)
export const routes = [Announced.route, Event.match, Upcast.from(Schema.String).to]

export const emit = (event: Event.Any) => EventEmitter.EventEmitter.use((emitter) => emitter.emit(event))
export const process = EventProcessor.EventProcessor.use(({ process }) => process([]))
export const entries = EventMap.EventMap.useSync((map) => map.entries)
export const parts = [EventMap.layer([Greet]), EventProcessor.layer(), EventEmitter.layer]

export const resilient = [
  Resilience.retry({ schedule: Schedule.recurs(3) }),
  Resilience.timeout("1 second"),
  Resilience.fallback(Resilience.handler(Join)(() => Effect.fail(new Late())), { to: () => Effect.succeed(0) })
]

// --- the rest, by its values ---

export const settings = Settings.make("App", {
  prefix: "APP",
  schema: Schema.Struct({ size: Settings.withDefault(Settings.wholeNumber(), 1) })
})
export const fields = { ...EventFlow.fields, ...EventConsumer.fields, ...EventProcessor.fields }
export const graph = FlowGraph.make(App)
export const report = FlowGraph.check(graph)
export const document = AsyncApi.make({ info: { title: "App", version: "1.0.0" }, flows: [App] })
export const observer = FlowObserver.layer(FlowObserver.make({ isSampled: (work) => work._tag === "Command" }))
export const brokers = [MemoryBroker.layer(), RecordingBroker.layer, Inbox.layerMemory()]
export const failing = FailingBroker.layer(FailingBroker.first(1, FailingBroker.afterPublishing(FailingBroker.hang)))
export const failures = [FailingBroker.die, FailingBroker.brokerNotFound, FailingBroker.nth, FailingBroker.always]
export const message = Message.make({ topic: "t", body: new Uint8Array() })
export const layering = [new BrokerLayer.Waiters(), BrokerLayer.decodeRetry, BrokerLayer.fromHeaders]
export const codec = Effect.map(MessageCodec.MessageCodec, ({ decode }) => decode)
export const policy = [ConsumerPolicy.deadLetter(), ConsumerPolicy.defaultPolicy, ConsumerPolicy.retry]
export const around = [Correlation.current, Correlation.provide, Telemetry.layer({ metrics: true })]
export const tracked = Tracker.run(sent)
export const expectations = [Expect.exactly, Expect.where, Expect.noFailures, Flow.toTree, Flow.describe]
export const suite = BrokerSuite.make("memory", MemoryBroker.layer())
export const provided = Layer.provide(AppLive, [JoinLive, WatchLive])
export const orZero = <Message extends Resilience.AnyMessage, Emits, E extends { readonly _tag: string }, R>(
  handler: Resilience.Handler<Message, Emits, number, E | Late, R>
) => Resilience.fallback(handler, { on: ["Late"], to: () => Effect.succeed(0) })
export const publishes = <C extends Command.AnyClass, H extends EventHandler.Any>(
  flow: EventFlow.EventFlow<"F", C, H>
) => [flow.layer(), flow.layerNoDeps(), EventConsumer.layer(flow, { group: "g" }), EventMap.layer(flow.handlers)]
export const joinOf = <M extends ReadonlyArray<Middleware.Any>>(middleware: M) =>
  Command.Class<Join>()("Join", { payload: { id: Schema.String }, middleware })
export const handlerOf = <On extends Event.AnyClass>(on: On) => EventHandler.make("H", { on })
