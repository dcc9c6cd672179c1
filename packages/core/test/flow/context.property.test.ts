/**
 * What a handler finds in its context, whoever built its layer and whoever sends: F17. Everything that can tell them
 * apart is different in each of the two, and random in the sender.
 */
import { assert, it } from "@effect/vitest"
import {
  Command,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  Middleware,
  NotificationEvent,
  Query
} from "@event-flow/core"
import { Context, Effect, Layer, LayerMap, Option, References, Schema, Stream, Tracer } from "effect"

// --- what is looked at ---

class Sql extends Context.Service<Sql, { readonly name: string }>()("test/Sql") {}
class Session extends Context.Service<Session, string>()("test/Session") {}
class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}
const CurrentUser = Context.Reference<string>("test/CurrentUser", { defaultValue: () => "anonymous" })

interface View {
  readonly sql: string
  readonly user: string
  readonly annotations: unknown
  readonly logSpans: ReadonlyArray<string>
  /** The outermost span around it. */
  readonly span: string | undefined
}

const rootOf = (span: Tracer.AnySpan): string => {
  if (span._tag === "ExternalSpan") return span.spanId
  return Option.isSome(span.parent) ? rootOf(span.parent.value) : span.name
}

const view = Effect.gen(function*() {
  const { name: sql } = yield* Sql
  const user = yield* CurrentUser
  const annotations = yield* References.CurrentLogAnnotations
  const logSpans = (yield* References.CurrentLogSpans).map(([label]) => label)
  const span = Option.getOrUndefined(Option.map(yield* Effect.serviceOption(Tracer.ParentSpan), rootOf))
  return { sql, user, annotations: { ...annotations }, logSpans, span } satisfies View
})

// --- a flow with every kind of handler ---

class Happened extends DomainEvent.Class<Happened>()("Happened", {}) {}
class News extends NotificationEvent.Class<News>()("News", { from: Schema.String }, { topic: "news" }) {}

const WithTenant = Middleware.make(
  (effect) => Effect.andThen(note("middleware"), Effect.provideService(effect, Tenant, "of the middleware")),
  { provides: [Tenant], requires: [Sql, CurrentUser] }
)
class Outer extends Command.Class<Outer>()("Outer", {
  success: Schema.String,
  emits: [Happened, News],
  sends: ["Inner", "Watch"],
  middleware: [WithTenant],
  requires: [Session]
}) {}
class Inner extends Command.Class<Inner>()("Inner", { emits: [Happened] }) {}
class Watch extends Query.Class<Watch>()("Watch", { success: Schema.Int, stream: true }) {}
const OnHappened = EventHandler.make("OnHappened", { on: Happened, emits: [News], sends: [Watch] })
const OnNews = EventHandler.make("OnNews", { on: News, sends: [Watch] })
class Whole extends EventFlow.make("Whole", { commands: [Outer, Inner, Watch], handlers: [OnHappened, OnNews] }) {}

const views = new Map<string, Array<View>>()
const note = (where: string) =>
  Effect.map(view, (view) => {
    views.set(where, [...views.get(where) ?? [], view])
  })

const sql = (name: string) => Layer.succeed(Sql)({ name })
const watched = Stream.runDrain(Mediator.stream(new Watch()))

const implementations = Layer.mergeAll(
  Outer.toLayer(
    [Sql],
    Effect.fnUntraced(function*(_, { collectAll }) {
      yield* note("command")
      yield* Effect.orDie(Mediator.send(new Inner()))
      yield* collectAll([new Happened(), new News({ from: "command" })])
      return `${yield* Session} ${yield* Tenant}`
    })
  ).pipe(Layer.provide(sql("command"))),
  Inner.toLayer([Sql], (_, { collect }) => Effect.andThen(note("nested"), collect(new Happened()))).pipe(
    Layer.provide(sql("nested"))
  ),
  Watch.toLayer([Sql], () => Stream.tap(Stream.make(1, 2), () => note("stream"))).pipe(Layer.provide(sql("stream"))),
  OnHappened.toLayer(
    [Sql],
    (_, { collect }) => Effect.andThen(note("event"), Effect.andThen(watched, collect(new News({ from: "event" }))))
  ).pipe(Layer.provide(sql("event"))),
  OnNews.toLayer([Sql], () => Effect.andThen(note("consumer"), watched)).pipe(Layer.provide(sql("consumer")))
)

// --- those who build, and those who send ---

const external = (spanId: string) => Tracer.externalSpan({ traceId: spanId.repeat(2), spanId, sampled: true })
const builderSpan = "b".repeat(16)
const senderSpan = "a".repeat(16)

/** A request in which the layer happens to be built. */
const asBuilder = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(
    Effect.provideService(CurrentUser, "builder"),
    Effect.annotateLogs({ phase: "start-up" }),
    Effect.withLogSpan("start-up"),
    Effect.provideService(Tracer.ParentSpan, external(builderSpan)),
    Effect.provideService(Sql, { name: "builder" }),
    Effect.provideService(Session, "builder"),
    Effect.provideService(Tenant, "builder")
  )

const Sender = Schema.Struct({
  user: Schema.UndefinedOr(Schema.Literals(["ada", "bob"])),
  annotations: Schema.UndefinedOr(Schema.Literals(["one", "two"])),
  logSpan: Schema.UndefinedOr(Schema.Literal("request")),
  hasSpan: Schema.Boolean,
  isTraced: Schema.Boolean,
  hasSql: Schema.Boolean,
  hasTenant: Schema.Boolean
})

const makeTracer = () => {
  const spans: Array<string> = []
  return {
    spans,
    tracer: Tracer.make({
      span(options) {
        spans.push(options.name)
        return new Tracer.NativeSpan(options)
      }
    })
  }
}

const asSender = (sender: typeof Sender.Type) => <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  let request = Effect.provideService(effect, Session, "sender") as Effect.Effect<A, E, R>
  if (sender.user !== undefined) request = Effect.provideService(request, CurrentUser, sender.user)
  if (sender.annotations !== undefined) request = Effect.annotateLogs(request, { request: sender.annotations })
  if (sender.logSpan !== undefined) request = Effect.withLogSpan(request, sender.logSpan)
  if (sender.hasSpan) request = Effect.provideService(request, Tracer.ParentSpan, external(senderSpan))
  if (sender.isTraced) request = Effect.provideService(request, Tracer.Tracer, makeTracer().tracer)
  // The handlers have services of their own under these keys
  if (sender.hasSql) request = Effect.provideService(request, Sql, { name: "sender" })
  if (sender.hasTenant) request = Effect.provideService(request, Tenant, "sender")
  return request as Effect.Effect<A, E, Exclude<R, Session>>
}

const Program = Schema.Struct({
  concurrency: Schema.Literals([1, 3]),
  /** When the flow is built: at the start of the program, or in the first request that asks for it. */
  isLazy: Schema.Boolean,
  builderIsTraced: Schema.Boolean,
  senders: Schema.Array(Sender).check(Schema.isMinLength(1), Schema.isMaxLength(3))
})

const send = Mediator.send(new Outer())

it.effect.prop(
  "F17: services of the layer, and everything else of the sender",
  [Program],
  ([program]) =>
    Effect.gen(function*() {
      const { spans: builderSpans, tracer } = makeTracer()
      const build = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        asBuilder(program.builderIsTraced ? Effect.provideService(effect, Tracer.Tracer, tracer) : effect)
      const flow = Whole.layer({ concurrency: program.concurrency }).pipe(
        Layer.provide(implementations),
        Layer.withSpan("start-up")
      )
      class Flows extends LayerMap.Service<Flows>()("test/Flows", {
        lookup: () => flow,
        idleTimeToLive: "1 hour"
      }) {}
      yield* Effect.gen(function*() {
        const memory = yield* MemoryBroker.MemoryBroker
        const whole = program.isLazy ? Flows.get("tenant") : Layer.succeedContext(yield* build(Layer.build(flow)))
        // Builds the flow, if nobody did
        yield* build(Effect.provide(send, whole))
        const consumer = EventConsumer.layer(Whole, { group: "group" }).pipe(
          Layer.provide(implementations),
          Layer.provide(whole)
        )
        yield* build(Layer.build(consumer))
        yield* memory.awaitIdle
        for (const sender of program.senders) {
          views.clear()
          builderSpans.length = 0
          const before = (yield* memory.messages("news")).length
          const answer = yield* asSender(sender)(Effect.provide(send, whole))
          yield* memory.awaitIdle

          // What the definition requires is the sender's, what middleware provides is the middleware's
          assert.strictEqual(answer, "sender of the middleware")
          const span = sender.hasSpan ? senderSpan : sender.isTraced ? "Command/Outer" : undefined
          const ofSender = {
            user: sender.user ?? "anonymous",
            annotations: sender.annotations === undefined ? {} : { request: sender.annotations },
            logSpans: sender.logSpan === undefined ? [] : [sender.logSpan],
            span
          }
          const seen = (where: string) => views.get(where) ?? []
          assert.deepStrictEqual(seen("middleware"), [{ ...ofSender, sql: "command" }])
          assert.deepStrictEqual(seen("command"), [{ ...ofSender, sql: "command" }])
          assert.deepStrictEqual(seen("nested"), [{ ...ofSender, sql: "nested" }])
          assert.deepStrictEqual(seen("event"), [1, 2].map(() => ({ ...ofSender, sql: "event" })))
          // A consumer has nobody's, but for the span that came with the message
          const ofNobody = { user: "anonymous", annotations: {}, logSpans: [] }
          const consumed = seen("consumer").map(({ span, ...rest }) => {
            assert.notStrictEqual(span, builderSpan)
            return rest
          })
          assert.deepStrictEqual(consumed, [1, 2, 3].map(() => ({ ...ofNobody, sql: "consumer" })))
          // Two elements for each run of a handler that sends
          const { span: _, ...inEvent } = ofSender
          const streamed = seen("stream").map(({ span, ...rest }) => {
            assert.notStrictEqual(span, builderSpan)
            return JSON.stringify({ ...rest, sql: rest.sql })
          })
          const expected = [...Array.from({ length: 4 }, () => inEvent), ...Array.from({ length: 6 }, () => ofNobody)]
          assert.deepStrictEqual(
            streamed.sort(),
            expected.map((one) => JSON.stringify({ sql: "stream", ...one })).sort()
          )

          const published = (yield* memory.messages("news")).slice(before)
          assert.strictEqual(published.length, 3)
          for (const { attributes: { traceparent } } of published) {
            if (span === undefined) assert.isUndefined(traceparent)
            else if (sender.hasSpan) assert.include(traceparent, senderSpan.repeat(2))
            else assert.notInclude(traceparent, builderSpan)
          }
          if (!sender.isTraced) assert.notInclude(builderSpans, "Command/Outer")
        }
      }).pipe(Effect.provide(Flows.layer.pipe(Layer.provideMerge(MemoryBroker.layer()))))
    }),
  { arbitrary: { runs: 60, seed: 1 } }
)
