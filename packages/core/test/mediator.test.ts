/** Middleware, mediators of one's own, and in which context handlers run. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  Command,
  Correlation,
  EventFlow,
  EventHandler,
  Mediator,
  Middleware,
  Query,
  Telemetry
} from "@event-flow/core"
import { Context, Effect, Exit, Fiber, Layer, Metric, Option, Schedule, Schema, Stream, Tracer } from "effect"
import { A, B, Boom, Do, flow, Journal, News, passTime, RecordingBroker, RecordingLogger } from "./fixtures.ts"

class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}

class User extends Context.Service<User, { readonly name: string }>()("test/User") {}

const bracket = (journal: Journal, name: string) =>
  Middleware.make((effect, info) =>
    journal.note(`${name} before ${info.tag}`).pipe(
      Effect.andThen(effect),
      Effect.onExit((exit) => journal.note(`${name} after ${exit._tag}`))
    )
  )

describe("command middleware", () => {
  it.effect("wraps handler and events, outermost first", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      class Wrapped extends Command.Class<Wrapped>()("Wrapped", {
        emits: [A],
        middleware: [bracket(journal, "outer"), bracket(journal, "inner")]
      }) {}
      const OnA = EventHandler.make("OnA", { on: A })
      const layer = EventFlow.layer({ handlers: [OnA] }).pipe(
        Layer.provideMerge(
          Wrapped.toLayer((_, { collect }) => Effect.andThen(journal.note("handler"), collect(new A({}))))
        ),
        Layer.provide([OnA.toLayer(() => journal.note("event")), Broker.layerNone])
      )
      yield* Mediator.send(new Wrapped()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(journal.entries, [
        "outer before Wrapped",
        "inner before Wrapped",
        "handler",
        "event",
        "inner after Success",
        "outer after Success"
      ])
    }))

  it.effect("sees failures of handler and events", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      class Wrapped extends Command.Class<Wrapped>()("Wrapped", {
        payload: { fails: Schema.Boolean },
        error: Boom,
        emits: [News],
        middleware: [bracket(journal, "it")]
      }) {}
      const layer = EventFlow.layer({ handlers: [] }).pipe(
        Layer.provideMerge(
          Wrapped.toLayer(({ fails }, { collect }) =>
            fails ? Effect.fail(new Boom({ id: "1" })) : collect(new News({ n: 1 }))
          )
        ),
        Layer.provide(Broker.layerNone)
      )
      const own = yield* Effect.flip(Mediator.send(new Wrapped({ fails: true })).pipe(Effect.provide(layer)))
      const ofEvent = yield* Effect.flip(Mediator.send(new Wrapped({ fails: false })).pipe(Effect.provide(layer)))
      assert.deepStrictEqual([own._tag, ofEvent._tag], ["Boom", "BrokerNotFound"])
      assert.deepStrictEqual(journal.entries, [
        "it before Wrapped",
        "it after Failure",
        "it before Wrapped",
        "it after Failure"
      ])
    }))

  it.effect("is a service that adds errors and provides services to handler and events", () =>
    Effect.gen(function*() {
      class Sessions extends Context.Service<Sessions, { readonly user: Option.Option<string> }>()("test/Sessions") {}
      class Authenticate extends Middleware.Service<Authenticate, { provides: User }>()("test/Authenticate", {
        error: Denied
      }) {}
      class WhoAmI extends Query.Class<WhoAmI>()("WhoAmI", { success: Schema.String, middleware: [Authenticate] }) {}
      const layer = (user: Option.Option<string>) =>
        flow({}).pipe(
          Layer.provideMerge(WhoAmI.toLayer(() => User.useSync((user) => user.name))),
          Layer.provide(
            Layer.effect(
              Authenticate,
              Sessions.useSync((sessions) => (effect) =>
                Option.match(sessions.user, {
                  onNone: () => Effect.fail(new Denied()),
                  onSome: (name) => Effect.provideService(effect, User, { name })
                })
              )
            )
          ),
          Layer.provide(Layer.succeed(Sessions)({ user }))
        )
      const ask = (user: Option.Option<string>) => Mediator.send(new WhoAmI()).pipe(Effect.provide(layer(user)))
      assert.strictEqual(yield* ask(Option.some("Ada")), "Ada")
      assert.deepStrictEqual(yield* Effect.flip(ask(Option.none())), new Denied())
    }))
})

describe("ready middleware", () => {
  const failing = (times: number, journal: Journal) => {
    let attempt = 0
    return Effect.suspend(() => {
      attempt++
      return Effect.andThen(
        journal.at(`attempt ${attempt}`),
        attempt <= times ? Effect.fail(new Boom({ id: String(attempt) })) : Effect.succeed(attempt)
      )
    })
  }

  class Retried extends Command.Class<Retried>()("Retried", {
    success: Schema.Int,
    error: Boom,
    emits: [A],
    middleware: [Middleware.retry({ schedule: Schedule.spaced(10).pipe(Schedule.upTo({ times: 2 })) })]
  }) {}
  const OnA = EventHandler.make("OnA", { on: A, error: Boom })
  const noEvents = () => Effect.void

  const retried = (handler: Effect.Effect<number, Boom>, onA: (event: A) => Effect.Effect<void, Boom> = noEvents) =>
    EventFlow.layer({ handlers: [OnA] }).pipe(
      Layer.provideMerge(
        Retried.toLayer((_, { collect }) => Effect.andThen(collect(new A({})), handler))
      ),
      Layer.provide([OnA.toLayer(onA), Broker.layerNone])
    )

  it.effect("F2: retry starts each attempt with an empty collection", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      const layer = retried(failing(2, journal), () => journal.at("A"))
      const exit = yield* passTime(Mediator.send(new Retried()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(exit, Exit.succeed(3))
      assert.deepStrictEqual(journal.entries, ["attempt 1@0", "attempt 2@10", "attempt 3@20", "A@20"])
    }))

  it.effect("retry gives up with the last error", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      const exit = yield* passTime(Mediator.send(new Retried()).pipe(Effect.provide(retried(failing(9, journal)))))
      assert.deepStrictEqual(Exit.findErrorOption(exit), Option.some(new Boom({ id: "3" })))
      assert.strictEqual(journal.entries.length, 3)
    }))

  it.effect("retry covers the events too, with a run of the handler for each", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      const attempts = failing(1, journal)
      const layer = retried(Effect.as(journal.at("handler"), 1), () => Effect.asVoid(attempts))
      const exit = yield* passTime(Mediator.send(new Retried()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(exit, Exit.succeed(1))
      assert.deepStrictEqual(journal.entries, ["handler@0", "attempt 1@0", "handler@10", "attempt 2@10"])
    }))

  it.effect("retry leaves defects alone, and what `while` says", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      const bug = Effect.andThen(journal.note("run"), Effect.die("bug"))
      yield* passTime(Mediator.send(new Retried()).pipe(Effect.provide(retried(bug))))
      assert.deepStrictEqual(journal.entries, ["run"])
      class Picky extends Command.Class<Picky>()("Picky", {
        error: Boom,
        middleware: [Middleware.retry({
          schedule: Schedule.recurs(5),
          while: (error) => error instanceof Boom && error.id === "1"
        })]
      }) {}
      const other = new Journal()
      const attempts = Effect.asVoid(failing(9, other))
      const layer = Layer.provideMerge(flow({}), Picky.toLayer(() => attempts))
      yield* Effect.flip(Mediator.send(new Picky()).pipe(Effect.provide(layer)))
      assert.strictEqual(other.entries.length, 2)
    }))

  for (const where of ["handler", "event"] as const) {
    it.effect(`timeout interrupts the ${where} and fails with CommandTimeout`, () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        class Slow
          extends Command.Class<Slow>()("Slow", { emits: [A], middleware: [Middleware.timeout("2 seconds")] })
        {}
        const layer = EventFlow.layer({ handlers: [OnA] }).pipe(
          Layer.provideMerge(
            Slow.toLayer((_, { collect }) =>
              Effect.andThen(collect(new A({})), where === "handler" ? work("handler", 9000) : Effect.void)
            )
          ),
          Layer.provide([OnA.toLayer(() => work("event", 9000)), Broker.layerNone])
        )
        const exit = yield* passTime(
          Mediator.send(new Slow()).pipe(Effect.onExit(() => at("send ends")), Effect.provide(layer))
        )
        assert.deepStrictEqual(
          Exit.findErrorOption(exit),
          Option.some(new Middleware.CommandTimeout({ command: "Slow", millis: 2000 }))
        )
        assert.deepStrictEqual(entries, [`${where} starts@0`, `${where} interrupted@2000`, "send ends@2000"])
      }))
  }

  it.effect("timeout lets through what is in time", () =>
    Effect.gen(function*() {
      class Quick extends Command.Class<Quick>()("Quick", {
        success: Schema.String,
        middleware: [Middleware.timeout(10)]
      }) {}
      const layer = Layer.provideMerge(flow({}), Quick.toLayer(() => Effect.succeed("quick").pipe(Effect.delay(9))))
      assert.deepStrictEqual(
        yield* passTime(Mediator.send(new Quick()).pipe(Effect.provide(layer))),
        Exit.succeed("quick")
      )
    }))

  it.effect("logging tells successes, failures, defects and interruption apart", () =>
    Effect.gen(function*() {
      const logger = new RecordingLogger("All")
      class Logged extends Command.Class<Logged>()("Logged", {
        payload: { secret: Schema.String },
        error: Boom,
        middleware: [Middleware.logging]
      }) {}
      const outcomes: Record<string, Effect.Effect<void, Boom>> = {
        succeeds: Effect.delay(Effect.void, 5),
        fails: Effect.fail(new Boom({ id: "1" })),
        dies: Effect.die("bug"),
        interrupted: Effect.interrupt
      }
      const layer = Layer.provideMerge(flow({}), Logged.toLayer(({ secret }) => outcomes[secret]!))
      for (const secret of Object.keys(outcomes)) {
        yield* passTime(Mediator.send(new Logged({ secret })).pipe(Effect.provide([layer, logger.layer])))
      }
      assert.deepStrictEqual(logger.entries, [
        "Debug Command Logged succeeded",
        "Warn Command Logged failed",
        "Error Command Logged died",
        "Debug Command Logged was interrupted"
      ])
      assert.deepStrictEqual(logger.annotations[0], { command: "Logged", millis: 5 })
    }))
})

describe("a mediator of one's own", () => {
  it.effect("its middleware wraps that of the commands, adds errors and provides services", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      class Authenticate extends Middleware.Service<Authenticate, { provides: User }>()("test/Authenticate", {
        error: Denied
      }) {}
      class AppMediator extends Mediator.Service<AppMediator>()("test/AppMediator", {
        middleware: [bracket(journal, "mediator"), Authenticate]
      }) {}
      class Rename extends Command.Class<Rename>()("Rename", {
        success: Schema.String,
        requires: [User],
        emits: [A],
        middleware: [bracket(journal, "command")]
      }) {}
      const OnA = EventHandler.make("OnA", { on: A })
      let allowed = true
      const layer = AppMediator.layer().pipe(
        Layer.provideMerge(EventFlow.layer({ handlers: [OnA] })),
        Layer.provideMerge(
          Rename.toLayer((_, { collect }) => Effect.andThen(collect(new A({})), User.useSync((user) => user.name)))
        ),
        Layer.provide([
          OnA.toLayer(() => journal.note("event")),
          Broker.layerNone,
          Layer.succeed(Authenticate)((effect) =>
            allowed ? Effect.provideService(effect, User, { name: "Ada" }) : Effect.fail(new Denied())
          )
        ])
      )
      assert.strictEqual(yield* AppMediator.send(new Rename()).pipe(Effect.provide(layer)), "Ada")
      assert.deepStrictEqual(journal.entries, [
        "mediator before Rename",
        "command before Rename",
        "event",
        "command after Success",
        "mediator after Success"
      ])
      allowed = false
      const error = yield* Effect.flip(AppMediator.send(new Rename()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(error, new Denied())
      // The program's own mediator has none of it: the sender brings the user
      const plain = Mediator.send(new Rename()).pipe(Effect.provideService(User, { name: "Bob" }))
      assert.strictEqual(yield* Effect.provide(plain, layer), "Bob")
    }))

  it.effect("drains on its own", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      class Own extends Mediator.Service<Own>()("test/Own", { middleware: [] }) {}
      const layer = Own.layer({ drainTimeout: 100 }).pipe(
        Layer.provideMerge(flow({ command: () => Effect.never })),
        Layer.provide(new RecordingLogger().layer)
      )
      yield* passTime(
        Effect.scoped(
          Effect.gen(function*() {
            const context = yield* Layer.build(layer)
            yield* Effect.forkDetach(Effect.provideContext(Own.send(new Do()), context), { startImmediately: true })
          })
        ).pipe(Effect.andThen(at("closed")))
      )
      assert.deepStrictEqual(entries, ["closed@100"])
    }))
})

describe("the context of handlers", () => {
  it.effect("`requires` shows in the sender and the handler sees the sender's service", () =>
    Effect.gen(function*() {
      class Greet extends Command.Class<Greet>()("Greet", { success: Schema.String, requires: [User] }) {}
      const layer = Layer.provideMerge(flow({}), Greet.toLayer(() => User.useSync((user) => `Hello ${user.name}`)))
      const greet = (name: string) => Mediator.send(new Greet()).pipe(Effect.provideService(User, { name }))
      assert.deepStrictEqual(yield* Effect.provide(Effect.all([greet("Ada"), greet("Bob")]), layer), [
        "Hello Ada",
        "Hello Bob"
      ])
    }))

  // Two modules, each with a store of its own behind the same tag
  class Store extends Context.Service<Store, { readonly name: string }>()("test/Store") {}
  const store = (name: string) => Layer.succeed(Store)({ name })
  const OnA = EventHandler.make("OnA", { on: A })

  for (const middleware of [[], [Middleware.logging]]) {
    it.effect(`an event's handler has the services of its own layer, ${middleware.length} command middleware`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        class Save extends Command.Class<Save>()("Save", { emits: [A], middleware }) {}
        const noteStore = (who: string) => Effect.flatMap(Store, ({ name }) => note(`${who} in ${name}`))
        const layer = EventFlow.layer({ handlers: [OnA] }).pipe(
          Layer.provideMerge(
            Save.toLayer((_, { collect }) => Effect.andThen(noteStore("command"), collect(new A({})))).pipe(
              Layer.provide(store("orders"))
            )
          ),
          Layer.provide([
            OnA.toLayer(() => noteStore("event")).pipe(Layer.provide(store("billing"))),
            Broker.layerNone
          ])
        )
        yield* Mediator.send(new Save()).pipe(Effect.provide(layer))
        assert.deepStrictEqual(entries, ["command in orders", "event in billing"])
      }))
  }

  it.effect("a nested command's handler has the services of its own layer", () =>
    Effect.gen(function*() {
      class Inner extends Query.Class<Inner>()("Inner", { success: Schema.String }) {}
      class Outer extends Query.Class<Outer>()("Outer", { success: Schema.String }) {}
      const inner = Inner.toLayer(() => Store.useSync(({ name }) => name)).pipe(Layer.provide(store("inner")))
      const outer = Outer.toLayer(() =>
        Effect.andThen(Store, ({ name }) => Effect.map(Mediator.send(new Inner()), (inner) => `${name} ${inner}`))
      ).pipe(Layer.provide(store("outer")))
      const layer = outer.pipe(Layer.provideMerge(flow({})), Layer.provideMerge(inner))
      assert.strictEqual(yield* Mediator.send(new Outer()).pipe(Effect.provide(layer)), "outer inner")
    }))

  it.effect("after a send the sender's fiber has its own context, whatever the outcome", () =>
    Effect.gen(function*() {
      const outcomes: Array<Effect.Effect<string, Boom>> = [
        Effect.succeed(""),
        Effect.fail(new Boom({ id: "" })),
        Effect.die("bug"),
        Effect.interrupt,
        Effect.never
      ]
      for (const concurrency of [1, 3]) {
        for (const inCommand of [true, false]) {
          for (const outcome of outcomes) {
            const layer = inCommand ? flow({ concurrency, command: () => outcome }) : flow({
              concurrency,
              events: [new A({})],
              on: { A: () => Effect.asVoid(outcome) }
            })
            const program = Effect.gen(function*() {
              const before = yield* Effect.context<never>()
              let after: Context.Context<never> | undefined
              yield* Mediator.send(new Do()).pipe(
                Effect.onExit(() =>
                  Effect.sync(() => {
                    after = before
                  }).pipe(
                    Effect.andThen(Effect.context<never>()),
                    Effect.tap((context) =>
                      Effect.sync(() => {
                        after = context
                      })
                    )
                  )
                ),
                Effect.exit
              )
              assert.strictEqual(after, before)
            })
            const fiber = yield* Effect.forkChild(Effect.provide(program, layer), { startImmediately: true })
            yield* Fiber.interrupt(fiber)
            const exit = yield* Fiber.await(fiber)
            assert.isTrue(Exit.isSuccess(exit) || Exit.hasInterrupts(exit), String(exit))
          }
        }
      }
    }))
})

describe("correlation", () => {
  it.effect("is shared by nested sends and their events, and new for each flow", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const see = Effect.flatMap(Correlation.Current, (correlation) =>
        Effect.sync(() => void seen.push(correlation?.correlationId ?? "none")))
      class Outer extends Command.Class<Outer>()("Outer", { emits: [B] }) {}
      const broker = new RecordingBroker()
      const layer = Outer.toLayer((_, { collect }) =>
        see.pipe(
          Effect.andThen(Mediator.send(new Do())),
          Effect.andThen(collect(new B({}))),
          Effect.orDie
        )
      ).pipe(
        Layer.provideMerge(flow({
          broker: broker.layer,
          events: [new A({}), new News({ n: 1 })],
          on: {
            A: () =>
              see,
            B: (_, { collect }) => Effect.andThen(see, collect(new News({ n: 2 })))
          }
        }))
      )
      yield* Effect.provide(Effect.andThen(Mediator.send(new Outer()), Mediator.send(new Outer())), layer)
      assert.strictEqual(seen.length, 6)
      assert.strictEqual(new Set(seen.slice(0, 3)).size, 1)
      assert.strictEqual(new Set(seen.slice(3)).size, 1)
      assert.strictEqual(new Set(seen).size, 2)
      assert.match(seen[0]!, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      assert.deepStrictEqual(
        broker.batches.flat().map(({ attributes }) => attributes["correlationid"]),
        [seen[0], seen[0], seen[3], seen[3]]
      )
      assert.isUndefined(yield* Correlation.Current)
    }))

  it.effect("is shared by commands with middleware, and in their streams", () =>
    Effect.gen(function*() {
      const seen: Array<string | undefined> = []
      const see = Effect.flatMap(Correlation.Current, (correlation) =>
        Effect.sync(() => void seen.push(correlation?.correlationId)))
      const middleware = [Middleware.logging] as const
      class Inner extends Query.Class<Inner>()("Inner", { middleware }) {}
      class Numbers extends Query.Class<Numbers>()("Numbers", { success: Schema.Int, stream: true }) {}
      class Outer extends Query.Class<Outer>()("Outer", { middleware }) {}
      const layer = Outer.toLayer(() =>
        see.pipe(
          Effect.andThen(Mediator.send(new Inner())),
          Effect.andThen(Stream.runDrain(Mediator.stream(new Numbers())))
        )
      ).pipe(
        Layer.provideMerge(flow({})),
        Layer.provideMerge(Layer.mergeAll(
          Inner.toLayer(() =>
            see
          ),
          Numbers.toLayer(() => Stream.fromEffect(Effect.as(see, 1)))
        ))
      )
      yield* Effect.provide(Mediator.send(new Outer()), layer)
      assert.isDefined(seen[0])
      assert.deepStrictEqual(seen, [seen[0], seen[0], seen[0]])
    }))

  it.effect("is that of the sender when it has one", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      yield* Mediator.send(new Do()).pipe(
        Effect.provideService(Correlation.Current, Correlation.make("from-a-header", "cause")),
        Effect.provide(flow({ broker: broker.layer, events: [new News({ n: 1 })] }))
      )
      const { attributes } = broker.batches[0]![0]!
      assert.strictEqual(attributes["correlationid"], "from-a-header")
      assert.strictEqual(attributes["causationid"], "cause")
    }))
})

describe("telemetry", () => {
  const makeTracer = () => {
    const spans: Array<Tracer.Span> = []
    const tracer = Tracer.make({
      span(options) {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    return { spans, tracer }
  }

  it.effect("no span is made when no tracer is set", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const spans: Array<unknown> = []
      const seen = Effect.flatMap(Effect.option(Effect.currentSpan), (span) => Effect.sync(() => void spans.push(span)))
      const layer = flow({
        broker: broker.layer,
        command: (_, { collectAll }) =>
          Effect.as(Effect.andThen(seen, collectAll([new A({}), new News({ n: 1 })])), ""),
        on: { A: () => seen }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(spans, [Option.none(), Option.none()])
      assert.isUndefined(broker.batches[0]![0]!.attributes["traceparent"])
    }))

  it.effect("with a tracer: a span a command and a publish, whose id is the message's traceparent", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const { spans, tracer } = makeTracer()
      const layer = flow({ broker: broker.layer, events: [new A({}), new News({ n: 1 }), new News({ n: 2 })] })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer), Effect.provideService(Tracer.Tracer, tracer))
      assert.deepStrictEqual(spans.map(({ kind, name }) => [name, kind]), [
        ["Command/Do", "internal"],
        ["publish news", "producer"]
      ])
      const publish = spans[1]!
      assert.strictEqual(Option.getOrThrow(publish.parent).spanId, spans[0]!.spanId)
      assert.deepStrictEqual(Object.fromEntries(publish.attributes), {
        "messaging.system": "recording",
        "messaging.destination.name": "news",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 2
      })
      for (const { attributes } of broker.batches[0]!) {
        assert.strictEqual(attributes["traceparent"], `00-${publish.traceId}-${publish.spanId}-01`)
      }
      assert.strictEqual(spans.every((span) => span.status._tag === "Ended"), true)
    }))

  it.effect("a caller's span is the traceparent when no tracer is set", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const span = Tracer.externalSpan({ traceId: "a".repeat(32), spanId: "b".repeat(16), sampled: false })
      yield* Mediator.send(new Do()).pipe(
        Effect.provide(flow({ broker: broker.layer, events: [new News({ n: 1 })] })),
        Effect.provideService(Tracer.ParentSpan, span)
      )
      assert.strictEqual(
        broker.batches[0]![0]!.attributes["traceparent"],
        `00-${span.traceId}-${span.spanId}-00`
      )
    }))

  it.effect("handler spans and metrics are choices of their own", () =>
    Effect.gen(function*() {
      const { spans, tracer } = makeTracer()
      const layer = flow({ events: [new A({})], command: (_, { collect }) => Effect.as(collect(new A({})), "") }).pipe(
        Layer.provide(Telemetry.layer({ handlerSpans: true, metrics: true }))
      )
      const exit = yield* Mediator.send(new Do()).pipe(
        Effect.andThen(
          Metric.value(Metric.withAttributes(Telemetry.commandDuration, { "event_flow.command": "Do" }))
        ),
        Effect.provide(layer),
        Effect.provideService(Tracer.Tracer, tracer),
        Effect.provideService(Metric.MetricRegistry, new Map()),
        Effect.exit
      )
      assert.isTrue(Exit.isSuccess(exit) && exit.value.count === 1)
      assert.deepStrictEqual(spans.map(({ name }) => name), ["Command/Do", "EventHandler/OnA", "EventHandler/OnA2"])
    }))

  it.effect("metrics of commands and of publishing, with what went wrong", () =>
    Effect.gen(function*() {
      const layer = flow({ events: [new News({ n: 1 }), new News({ n: 2 })] }).pipe(
        Layer.provide(Telemetry.layer({ metrics: true }))
      )
      const publishing = {
        "messaging.system": "none",
        "messaging.destination.name": "news",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send"
      }
      const [sent, duration, command] = yield* Effect.flip(Mediator.send(new Do())).pipe(
        Effect.andThen(Effect.all([
          Metric.value(Metric.withAttributes(Telemetry.sentMessages, publishing)),
          Metric.value(
            Metric.withAttributes(Telemetry.operationDuration, { ...publishing, "error.type": "BrokerNotFound" })
          ),
          Metric.value(Metric.withAttributes(Telemetry.commandDuration, {
            "event_flow.command": "Do",
            "error.type": "BrokerNotFound"
          }))
        ])),
        Effect.provide(layer),
        Effect.provideService(Metric.MetricRegistry, new Map())
      )
      assert.deepStrictEqual([sent.count, duration.count, command.count], [2, 1, 1])
    }))
})
