import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  Command,
  ConsumerPolicy,
  DomainEvent,
  EventConsumer,
  EventEmitter,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  Message,
  Middleware,
  NotificationEvent
} from "@event-flow/core"
import { Expect, FailingBroker, Flow, RecordingBroker, Tracker } from "@event-flow/core/testing"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Logger, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

class Full extends Schema.TaggedError<Full>()("Full", { meetingId: Schema.String }) {
  override get message(): string {
    return `${this.meetingId} is full`
  }
}

class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}
class GreetingSent extends DomainEvent.Class<GreetingSent>()("GreetingSent", { userId: Schema.String }) {}
class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, {
  topic: "meetings",
  key: (event) => event.id
}) {}
class Shown extends NotificationEvent.Class<Shown>()("Shown", { id: Schema.String }, { topic: "shown" }) {}

class Join extends Command.Class<Join>()("Join", {
  payload: { userId: Schema.String },
  success: Schema.Int,
  error: Full,
  emits: [UserJoined, Announced]
}) {}
class Book extends Command.Class<Book>()("Book", { success: Schema.Int, error: Full }) {}

const Greet = EventHandler.make("Greet", { on: UserJoined, emits: [GreetingSent], error: Full })
const Count = EventHandler.make("Count", { on: UserJoined })
const Thank = EventHandler.make("Thank", { on: GreetingSent })
const Board = EventHandler.make("Board", { on: Announced, emits: [Shown], error: Full })
const Screen = EventHandler.make("Screen", { on: Shown })

const JoinLive = Join.toLayer(Effect.fnUntraced(function*(command, { collect }) {
  if (command.userId === "late") return yield* new Full({ meetingId: "m" })
  yield* collect(new UserJoined({ userId: command.userId }))
  yield* collect(new Announced({ id: `m-${command.userId}` }))
  return 3
}))
const GreetLive = Greet.toLayer((event, { collect }) => collect(new GreetingSent({ userId: event.userId })))
const nothing = () => Effect.void
const quiet = [Count.toLayer(nothing), Thank.toLayer(nothing), Screen.toLayer(nothing)] as const

const main = (handlers?: {
  readonly greet?: Layer.Layer<EventHandler.Handler<"Greet">>
  readonly board?: Layer.Layer<EventHandler.Handler<"Board">>
}) =>
  EventFlow.layer({ handlers: [Greet, Count, Thank, Board, Screen] }).pipe(
    Layer.provideMerge(JoinLive),
    Layer.provide([
      handlers?.greet ?? GreetLive,
      handlers?.board ?? Board.toLayer((event, { collect }) => collect(new Shown({ id: event.id }))),
      ...quiet
    ])
  )

const throws = (run: () => void): Expect.ExpectationFailed => {
  try {
    run()
  } catch (error) {
    assert.instanceOf(error, Expect.ExpectationFailed)
    return error as Expect.ExpectationFailed
  }
  throw new Error("the expectation held")
}

describe("RecordingBroker", () => {
  const flow = main().pipe(Layer.provideMerge(RecordingBroker.layer))

  it.effect("keeps messages, batches, and decodes events", () =>
    Effect.gen(function*() {
      const emitter = yield* EventEmitter.EventEmitter
      yield* emitter.publish([new Announced({ id: "a" }), new Shown({ id: "b" })])
      yield* emitter.publish([new Announced({ id: "c" })])
      const broker = yield* RecordingBroker.RecordingBroker
      assert.deepStrictEqual((yield* broker.published).map((message) => message.topic), [
        "meetings",
        "shown",
        "meetings"
      ])
      assert.deepStrictEqual((yield* broker.batches).map((batch) => batch.length), [2, 1])
      const announced = yield* broker.decoded(Announced)
      assert.deepStrictEqual(announced.map((event) => event.id), ["a", "c"])
      assert.instanceOf(announced[0], Announced)
      yield* broker.clear
      assert.deepStrictEqual(yield* broker.published, [])
      assert.deepStrictEqual(yield* broker.decoded(Announced), [])
    }).pipe(Effect.provide(flow)))

  it.effect("decoding fails for a message of the class that cannot be read", () =>
    Effect.gen(function*() {
      const publisher = yield* Broker.Broker
      yield* publisher.publish([
        Message.make({ topic: "meetings", attributes: { type: "Announced.v1" }, body: new TextEncoder().encode("{}") })
      ])
      const error = yield* Effect.flip((yield* RecordingBroker.RecordingBroker).decoded(Announced))
      assert.strictEqual(error.reason, "InvalidBody")
    }).pipe(Effect.provide(flow)))
})

describe("FailingBroker", () => {
  const unreachable = new Broker.Unreachable({ detail: "gone" })
  const failing = (plan: FailingBroker.Plan) =>
    main().pipe(
      Layer.provideMerge(FailingBroker.layer(plan)),
      Layer.provideMerge(RecordingBroker.layer)
    )
  const join = Mediator.send(new Join({ userId: "u" }))
  const published = Effect.gen(function*() {
    return (yield* (yield* RecordingBroker.RecordingBroker).published).length
  })

  it.effect("fails the nth publish with a reason, and passes the others on", () =>
    Effect.gen(function*() {
      const exits = [yield* Effect.exit(join), yield* Effect.exit(join), yield* Effect.exit(join)]
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false, true])
      const error = yield* Effect.flip(exits[1]!)
      assert.isTrue(error._tag === "PublishError" && error.reason._tag === "Unreachable" && error.isRetryable)
      assert.strictEqual(yield* published, 2)
      const calls = yield* (yield* FailingBroker.FailingBroker).calls
      assert.deepStrictEqual(calls.map((call) => call.failure), [undefined, unreachable, undefined])
      assert.strictEqual(calls[1]!.messages[0].topic, "meetings")
    }).pipe(Effect.provide(failing(FailingBroker.nth(2, unreachable)))))

  it.effect("by a plan that looks at the messages", () =>
    Effect.gen(function*() {
      const exits = [
        yield* Effect.exit(Mediator.send(new Join({ userId: "a" }))),
        yield* Effect.exit(Mediator.send(new Join({ userId: "b" })))
      ]
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false])
    }).pipe(Effect.provide(failing((_, [message]) => message.key === "m-b" ? unreachable : undefined))))

  it.effect("the first n, or always", () =>
    Effect.gen(function*() {
      const first = Effect.gen(function*() {
        return [yield* Effect.exit(join), yield* Effect.exit(join)].map(Exit.isSuccess)
      })
      assert.deepStrictEqual(
        yield* first.pipe(Effect.provide(failing(FailingBroker.first(1, unreachable)))),
        [false, true]
      )
      assert.deepStrictEqual(
        yield* first.pipe(Effect.provide(failing(FailingBroker.always(unreachable)))),
        [false, false]
      )
    }))

  it.effect("F8, F13: BrokerNotFound, a defect, a hang", () =>
    Effect.gen(function*() {
      const notFound = yield* Effect.flip(join).pipe(
        Effect.provide(failing(FailingBroker.always(FailingBroker.brokerNotFound)))
      )
      assert.strictEqual(notFound._tag, "BrokerNotFound")
      const died = yield* Effect.exit(join).pipe(
        Effect.provide(failing(FailingBroker.always(FailingBroker.die("bug"))))
      )
      assert.isTrue(Exit.isFailure(died) && Cause.hasDies(died.cause))
      const fiber = yield* Effect.forkChild(
        Effect.timeoutOption(join, "1 hour").pipe(Effect.provide(failing(FailingBroker.always(FailingBroker.hang)))),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "None")
    }))

  it.effect("after publishing: the message arrived, and the caller does not know", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(join)
      assert.strictEqual(error._tag, "PublishError")
      assert.strictEqual(yield* published, 1)
    }).pipe(
      Effect.provide(
        failing(FailingBroker.nth(1, FailingBroker.afterPublishing(new Broker.Timeout({ detail: "no confirm" }))))
      )
    ))
})

describe("Tracker, in process", () => {
  const tracked = main().pipe(Layer.provide(RecordingBroker.layer), Layer.provideMerge(Tracker.layer))

  it.effect("records every step in order, with its parent", () =>
    Effect.gen(function*() {
      const { exit, flow } = yield* Tracker.run(Mediator.send(new Join({ userId: "u" })))
      assert.deepStrictEqual(exit, Exit.succeed(3))
      assert.deepStrictEqual(
        flow.steps.map((step) => `${Flow.describe(step)} < ${step.parent === undefined ? "-" : step.parent._tag}`),
        [
          "✓ Join {\"userId\":\"u\"} < -",
          "• UserJoined {\"userId\":\"u\"} < Command",
          "• Announced {\"id\":\"m-u\"} < Command",
          "✓ Greet < Event",
          "• GreetingSent {\"userId\":\"u\"} < Handler",
          "✓ Count < Event",
          "✓ published to \"meetings\" with key \"m-u\" < Event",
          "✓ Thank < Event"
        ]
      )
      assert.strictEqual(
        Flow.toTree(flow),
        `✓ Join {"userId":"u"}
├─ • UserJoined {"userId":"u"}
│  ├─ ✓ Greet
│  │  └─ • GreetingSent {"userId":"u"}
│  │     └─ ✓ Thank
│  └─ ✓ Count
└─ • Announced {"id":"m-u"}
   └─ ✓ published to "meetings" with key "m-u"`
      )
      assert.strictEqual(String(flow), Flow.toTree(flow))
    }).pipe(Effect.provide(tracked)))

  it.effect("accessors", () =>
    Effect.gen(function*() {
      const { flow } = yield* Tracker.run(Mediator.send(new Join({ userId: "u" })))
      assert.deepStrictEqual(flow.commands.map((step) => step.command._tag), ["Join"])
      assert.deepStrictEqual(flow.events.map((step) => step.event._tag), ["UserJoined", "Announced", "GreetingSent"])
      assert.deepStrictEqual(flow.followUps.map((step) => step.event._tag), ["GreetingSent"])
      assert.deepStrictEqual(flow.handlerRuns.map((step) => step.handler), ["Greet", "Count", "Thank"])
      assert.deepStrictEqual(flow.messages.map((step) => step.message.topic), ["meetings"])
      assert.deepStrictEqual(flow.consumed, [])
      assert.deepStrictEqual(flow.failures, [])
      assert.deepStrictEqual(flow.roots, flow.commands)
    }).pipe(Effect.provide(tracked)))

  it.effect("F2: a command that fails, with its error and no events", () =>
    Effect.gen(function*() {
      const { exit, flow } = yield* Tracker.run(Mediator.send(new Join({ userId: "late" })))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(Flow.toTree(flow), "✗ Join {\"userId\":\"late\"}: Full: m is full")
    }).pipe(Effect.provide(tracked)))

  it.effect("handlers that fail, die and are interrupted; a publish that fails", () =>
    Effect.gen(function*() {
      const tree = (greet: Layer.Layer<EventHandler.Handler<"Greet">>) =>
        Tracker.run(Mediator.send(new Join({ userId: "u" }))).pipe(
          Effect.map(({ flow }) => Flow.toTree(flow)),
          Effect.provide(
            main({ greet }).pipe(Layer.provide(RecordingBroker.layer), Layer.provideMerge(Tracker.layer))
          )
        )
      const announced = "\n└─ • Announced {\"id\":\"m-u\"}"
      const joined = "\n├─ • UserJoined {\"userId\":\"u\"}\n│  └─ "
      assert.strictEqual(
        yield* tree(Greet.toLayer(() => Effect.fail(new Full({ meetingId: "x" })))),
        "✗ Join {\"userId\":\"u\"}: EventHandlerError: Handler \"Greet\" of event \"UserJoined\" failed: x is full" +
          joined + "✗ Greet: Full: x is full" + announced
      )
      assert.strictEqual(
        yield* tree(Greet.toLayer(() => Effect.die(new Error("a bug")))),
        "‼ Join {\"userId\":\"u\"}: defect: Error: a bug" + joined + "‼ Greet: defect: Error: a bug" + announced
      )
      assert.strictEqual(
        yield* tree(Greet.toLayer(() => Effect.interrupt)),
        "⊘ Join {\"userId\":\"u\"}: interrupted" + joined + "⊘ Greet: interrupted" + announced
      )
      const refused = yield* Tracker.run(Mediator.send(new Join({ userId: "u" }))).pipe(
        Effect.provide(main().pipe(Layer.provide(Broker.layerNone), Layer.provideMerge(Tracker.layer)))
      )
      assert.include(
        Flow.toTree(refused.flow),
        "✗ published to \"meetings\" with key \"m-u\": BrokerNotFound: No broker"
      )
    }))

  it.effect("commands sent in handlers are children of those", () =>
    Effect.gen(function*() {
      class Outer extends Command.Class<Outer>()("Outer", { emits: [UserJoined], error: Full }) {}
      // The mediator needs its handlers, so a handler finds the mediator in whoever sends
      const book = Mediator.send(new Book()) as Effect.Effect<number, Full>
      const layer = EventFlow.layer({ handlers: [Greet] }).pipe(
        Layer.provideMerge(
          Outer.toLayer((_, { collect }) => Effect.andThen(book, collect(new UserJoined({ userId: "u" }))))
        ),
        Layer.provideMerge(Book.toLayer(() => Effect.succeed(1))),
        Layer.provide([Greet.toLayer(() => Effect.asVoid(book)), Broker.layerNone]),
        Layer.provideMerge(Tracker.layer)
      )
      const { flow } = yield* Tracker.run(Mediator.send(new Outer())).pipe(Effect.provide(layer))
      assert.strictEqual(
        Flow.toTree(flow),
        `✓ Outer
├─ ✓ Book
└─ • UserJoined {"userId":"u"}
   └─ ✓ Greet
      └─ ✓ Book`
      )
    }))

  it.effect("middleware: attempts are counted, a refusal is seen", () =>
    Effect.gen(function*() {
      let runs = 0
      class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
      const deny = Middleware.make((effect, info) => info.tag === "Refused" ? Effect.fail(new Denied()) : effect, {
        error: Denied
      })
      const retry = Middleware.retry({ schedule: Schedule.recurs(5) })
      class Flaky
        extends Command.Class<Flaky>()("Flaky", { error: Full, emits: [GreetingSent], middleware: [retry] })
      {}
      class Refused extends Command.Class<Refused>()("Refused", { middleware: [deny] }) {}
      const layer = EventFlow.layer({ handlers: [Thank] }).pipe(
        Layer.provideMerge([
          Flaky.toLayer((_, { collect }) =>
            Effect.andThen(
              collect(new GreetingSent({ userId: "u" })),
              Effect.suspend(() => ++runs < 3 ? Effect.fail(new Full({ meetingId: "m" })) : Effect.void)
            )
          ),
          Refused.toLayer(() => Effect.void)
        ]),
        Layer.provide([Thank.toLayer(nothing), Broker.layerNone]),
        Layer.provideMerge(Tracker.layer)
      )
      yield* Effect.gen(function*() {
        const flaky = yield* Tracker.run(Mediator.send(new Flaky()))
        const refused = yield* Tracker.run(Mediator.send(new Refused()))
        assert.strictEqual(
          Flow.toTree(flaky.flow),
          "✓ Flaky (3 attempts)\n└─ • GreetingSent {\"userId\":\"u\"}\n   └─ ✓ Thank"
        )
        assert.deepStrictEqual(flaky.flow.commands[0]!.attempts.map(Exit.isSuccess), [false, false, true])
        assert.strictEqual(Flow.toTree(refused.flow), "✗ Refused (the handler did not run): Denied")
      }).pipe(Effect.provide(layer))
    }))

  it.effect("streaming commands: the events of each element", () =>
    Effect.gen(function*() {
      class Watch extends Command.Class<Watch>()("Watch", {
        success: Schema.Int,
        emits: [GreetingSent],
        stream: true
      }) {}
      const layer = EventFlow.layer({ handlers: [Thank] }).pipe(
        Layer.provideMerge(
          Watch.toLayer((_, { collect }) =>
            Stream.tap(Stream.make(1, 2), (n) => collect(new GreetingSent({ userId: String(n) })))
          )
        ),
        Layer.provide([Thank.toLayer(nothing), Broker.layerNone]),
        Layer.provideMerge(Tracker.layer)
      )
      const { exit, flow } = yield* Tracker.run(Stream.runCollect(Mediator.stream(new Watch()))).pipe(
        Effect.provide(layer)
      )
      assert.deepStrictEqual(exit, Exit.succeed([1, 2]))
      assert.strictEqual(
        Flow.toTree(flow),
        `✓ Watch
├─ • GreetingSent {"userId":"1"}
│  └─ ✓ Thank
└─ • GreetingSent {"userId":"2"}
   └─ ✓ Thank`
      )
    }))

  it.effect("an event object that is collected twice is two events", () =>
    Effect.gen(function*() {
      const event = new GreetingSent({ userId: "u" })
      class Twice extends Command.Class<Twice>()("Twice", { emits: [GreetingSent] }) {}
      const layer = EventFlow.layer({ handlers: [Thank] }).pipe(
        Layer.provideMerge(Twice.toLayer((_, { collectAll }) => collectAll([event, event]))),
        Layer.provide([Thank.toLayer(nothing), Broker.layerNone]),
        Layer.provideMerge(Tracker.layer)
      )
      const { flow } = yield* Tracker.run(Mediator.send(new Twice())).pipe(Effect.provide(layer))
      assert.strictEqual(
        Flow.toTree(flow),
        `✓ Twice
├─ • GreetingSent {"userId":"u"}
│  └─ ✓ Thank
└─ • GreetingSent {"userId":"u"}
   └─ ✓ Thank`
      )
    }))

  it.effect("waits for commands of detached fibers", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const layer = main({
        greet: Greet.toLayer(() => Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(gate)))
      }).pipe(Layer.provide(RecordingBroker.layer), Layer.provideMerge(Tracker.layer))
      yield* Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(
          Tracker.run(Effect.asVoid(Effect.forkDetach(Mediator.send(new Join({ userId: "u" })), {
            startImmediately: true
          })))
        )
        yield* Deferred.await(started)
        yield* Effect.yieldNow
        assert.isUndefined(fiber.pollUnsafe())
        const { soFar } = yield* Tracker.Tracker
        assert.strictEqual(
          String(yield* soFar),
          "… Join {\"userId\":\"u\"}\n├─ • UserJoined {\"userId\":\"u\"}\n│  └─ … Greet\n└─ • Announced {\"id\":\"m-u\"}"
        )
        yield* Deferred.succeed(gate, undefined)
        const { flow } = yield* Fiber.join(fiber)
        assert.strictEqual(flow.handlerRuns.length, 2)
        Expect.noFailures(flow)
      }).pipe(Effect.provide(layer))
    }))

  it.effect("TestClock drives what waits for time", () =>
    Effect.gen(function*() {
      const layer = main({ greet: Greet.toLayer(() => Effect.sleep("1 minute")) }).pipe(
        Layer.provide(RecordingBroker.layer),
        Layer.provideMerge(Tracker.layer)
      )
      yield* Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Tracker.run(Mediator.send(new Join({ userId: "u" }))), {
          startImmediately: true
        })
        yield* TestClock.adjust("1 minute")
        const { exit } = yield* Fiber.join(fiber)
        assert.deepStrictEqual(exit, Exit.succeed(3))
      }).pipe(Effect.provide(layer))
    }))

  it.effect("each run has its own flow; runs wait for one another; one inside another is an error", () =>
    Effect.gen(function*() {
      const join = (userId: string) => Tracker.run(Mediator.send(new Join({ userId })))
      const flows = yield* Effect.forEach(["a", "b", "late"], join, { concurrency: 3 })
      assert.deepStrictEqual(flows.map(({ flow }) => flow.commands.length), [1, 1, 1])
      const untracked = yield* Mediator.send(new Join({ userId: "c" }))
      assert.strictEqual(untracked, 3)
      const { soFar } = yield* Tracker.Tracker
      assert.deepStrictEqual((yield* soFar).steps, [])
      const { exit } = yield* Tracker.run(join("d"))
      assert.isTrue(Exit.isFailure(exit) && Cause.pretty(exit.cause).includes("inside of another Tracker.run"))
    }).pipe(Effect.provide(tracked)))
})

describe("Tracker, through the memory broker", () => {
  const consumer = (options?: Partial<EventConsumer.Options<false>>) =>
    EventConsumer.layer({ group: "board", ...options })
  const app = (board?: Layer.Layer<EventHandler.Handler<"Board">>, options?: Partial<EventConsumer.Options<false>>) =>
    consumer(options).pipe(
      Layer.provideMerge(main(board === undefined ? {} : { board })),
      Layer.provideMerge(Tracker.layerMemoryBroker())
    )
  const join = (userId = "u") => Mediator.send(new Join({ userId }))

  it.effect("waits for consumers and for what they publish in turn, and links it", () =>
    Effect.gen(function*() {
      const { exit, flow } = yield* Tracker.run(join())
      assert.deepStrictEqual(exit, Exit.succeed(3))
      Expect.noFailures(flow)
      Expect.exactly(flow, {
        commands: [Join],
        published: [Announced, Shown],
        consumed: [Announced, Shown],
        followUps: [GreetingSent, Shown]
      })
      Expect.includes(flow, { handlers: [Greet, Board, Screen] })
      assert.strictEqual(
        Flow.toTree(flow),
        `✓ Join {"userId":"u"}
├─ • UserJoined {"userId":"u"}
│  ├─ ✓ Greet
│  │  └─ • GreetingSent {"userId":"u"}
│  │     └─ ✓ Thank
│  └─ ✓ Count
└─ • Announced {"id":"m-u"}
   └─ ✓ published to "meetings" with key "m-u"
      └─ ✓ delivered to "board": handled
         └─ ✓ Board
            └─ • Shown {"id":"m-u"}
               └─ ✓ published to "shown"
                  └─ ✓ delivered to "board": handled
                     └─ ✓ Screen`
      )
      const screen = flow.handlerRuns.find((step) => step.handler === "Screen")
      const path: Array<string> = []
      for (let step: Flow.Step | undefined = screen; step !== undefined; step = step.parent) path.unshift(step._tag)
      assert.deepStrictEqual(path, [
        "Command",
        "Event",
        "Message",
        "Delivery",
        "Handler",
        "Event",
        "Message",
        "Delivery",
        "Handler"
      ])
      const { pending } = yield* MemoryBroker.MemoryBroker
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(app())))

  it.effect("also when consuming takes its time", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const slow = Board.toLayer(() => Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(gate)))
      yield* Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Tracker.run(join()))
        yield* Deferred.await(started)
        for (let i = 0; i < 10; i++) yield* Effect.yieldNow
        assert.isUndefined(fiber.pollUnsafe())
        yield* Deferred.succeed(gate, undefined)
        const { flow } = yield* Fiber.join(fiber)
        Expect.exactly(flow, { handlers: [Greet, Count, Thank, Board] }, { order: "any" })
        Expect.noFailures(flow)
      }).pipe(Effect.provide(app(slow)))
    }))

  it.effect("TestClock drives the retries of a consumer", () =>
    Effect.gen(function*() {
      let attempts = 0
      const flaky = Board.toLayer(() =>
        Effect.suspend(() => ++attempts < 3 ? Effect.fail(new Full({ meetingId: "m" })) : Effect.void)
      )
      const policy: ConsumerPolicy.ConsumerPolicy = () =>
        ConsumerPolicy.retry(Schedule.spaced("1 minute").pipe(Schedule.upTo({ times: 5 })))
      yield* Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Tracker.run(join()), { startImmediately: true })
        yield* TestClock.adjust("1 hour")
        const { flow } = yield* Fiber.join(fiber)
        const runs = flow.handlerRuns.filter((step) => step.handler === "Board")
        assert.deepStrictEqual(runs.map((step) => Exit.isSuccess(step.outcome!)), [false, false, true])
        assert.deepStrictEqual(flow.consumed.map(Flow.describe), ["✓ delivered to \"board\" (3 attempts): handled"])
      }).pipe(Effect.provide(app(flaky, { policy })))
    }))

  it.effect("a dead letter ends the wait", () =>
    Effect.gen(function*() {
      const { flow } = yield* Tracker.run(join())
      assert.deepStrictEqual(flow.failures.filter((step) => step._tag === "Handler").map((step) => step.handler), [
        "Board"
      ])
      assert.deepStrictEqual(flow.consumed.map(Flow.describe), ["✗ delivered to \"board\": dead-lettered"])
      const broker = yield* MemoryBroker.MemoryBroker
      assert.strictEqual((yield* broker.messages("meetings.dead-letter")).length, 1)
    }).pipe(
      Effect.provide(
        app(Board.toLayer(() => Effect.die(new Error("a bug"))), { policy: () => ConsumerPolicy.deadLetter() })
      )
    ))

  it.effect("with a failing broker between", () =>
    Effect.gen(function*() {
      const { exit, flow } = yield* Tracker.run(join())
      assert.isTrue(Exit.isFailure(exit))
      // It arrived all the same
      Expect.exactly(flow, { published: [Announced, Shown], consumed: [Announced, Shown] })
      assert.deepStrictEqual(flow.messages.map((step) => Exit.isSuccess(step.outcome!)), [false, true])
    }).pipe(Effect.provide(
      consumer().pipe(
        Layer.provideMerge(main()),
        Layer.provideMerge(
          FailingBroker.layer(
            FailingBroker.nth(1, FailingBroker.afterPublishing(new Broker.Timeout({ detail: "no confirm" })))
          )
        ),
        Layer.provideMerge(Tracker.layerMemoryBroker())
      )
    )))

  it.effect("says what it was waiting for when it is interrupted", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => {
        logged.push(String(message))
      })])
      const started = yield* Deferred.make<void>()
      const stuck = Board.toLayer(() => Effect.andThen(Deferred.succeed(started, undefined), Effect.never))
      yield* Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Tracker.run(join()))
        yield* Deferred.await(started)
        for (let i = 0; i < 10; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
      }).pipe(Effect.provide(app(stuck, { drainTimeout: 0 }).pipe(Layer.provideMerge(logger))))
      const warning = logged.find((line) => line.startsWith("A tracked run was interrupted"))
      assert.include(warning, "1 outstanding message(s)")
      assert.include(warning, "… Board")
    }))
})

describe("Expect", () => {
  const tracked = main().pipe(Layer.provide(RecordingBroker.layer), Layer.provideMerge(Tracker.layer))
  const joined = Effect.map(Tracker.run(Mediator.send(new Join({ userId: "u" }))), ({ flow }) => flow).pipe(
    Effect.provide(tracked)
  )

  it.effect("exactly: classes, instances, predicates and handlers, in order", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      Expect.exactly(flow, {
        commands: [Join],
        events: [UserJoined, new Announced({ id: "m-u" }), Expect.where(GreetingSent, (event) => event.userId === "u")],
        followUps: [GreetingSent],
        handlers: [Greet, Count, Thank],
        published: [Announced],
        consumed: []
      })
      Expect.exactly(flow, { commands: [new Join({ userId: "u" })] })
      throws(() => Expect.exactly(flow, { commands: [new Join({ userId: "other" })] }))
      throws(() => Expect.exactly(flow, { events: [UserJoined, GreetingSent, Announced] }))
      throws(() => Expect.exactly(flow, { events: [UserJoined, Announced] }))
      throws(() => Expect.exactly(flow, { events: [] }))
      throws(() => Expect.exactly(flow, { published: [Expect.where(Announced, (event) => event.id === "x")] }))
      throws(() => Expect.exactly(flow, { handlers: [Greet, Thank, Count] }))
    }))

  it.effect("in any order", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      const any = { order: "any" } as const
      Expect.exactly(flow, { handlers: [Thank, Greet, Count] }, any)
      Expect.includes(flow, { handlers: [Thank, Greet] }, any)
      throws(() => Expect.exactly(flow, { handlers: [Thank, Greet] }, any))
      throws(() => Expect.exactly(flow, { handlers: [Thank, Greet, Greet] }, any))
      throws(() => Expect.includes(flow, { handlers: [Greet, Greet] }, any))
    }))

  it.effect("in any order: an item that matches much leaves the one to the item that needs it", () =>
    Effect.gen(function*() {
      const { flow } = yield* Tracker.run(
        Effect.andThen(Mediator.send(new Join({ userId: "a" })), Mediator.send(new Join({ userId: "b" })))
      ).pipe(Effect.provide(tracked))
      Expect.exactly(flow, { commands: [Join, new Join({ userId: "a" })] }, { order: "any" })
      throws(() => Expect.exactly(flow, { commands: [new Join({ userId: "a" }), new Join({ userId: "a" })] }))
    }))

  it.effect("includes: among others, in order", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      Expect.includes(flow, { events: [UserJoined, GreetingSent], handlers: [Greet, Thank] })
      Expect.includes(flow, { events: [], published: [Announced] })
      throws(() => Expect.includes(flow, { events: [GreetingSent, UserJoined] }))
      throws(() => Expect.includes(flow, { events: [UserJoined, UserJoined] }))
      throws(() => Expect.includes(flow, { consumed: [Announced] }))
    }))

  it.effect("only: nothing of the kinds that are not named", () =>
    Effect.gen(function*() {
      const { flow } = yield* Tracker.run(Effect.exit(Mediator.send(new Join({ userId: "late" })))).pipe(
        Effect.provide(tracked)
      )
      Expect.only(flow, { commands: [Join] })
      throws(() => Expect.only(flow, {}))
      const joinedFlow = yield* joined
      throws(() => Expect.only(joinedFlow, { commands: [Join] }))
    }))

  it.effect("a failing expectation says what was expected, what there was, and prints the flow", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      const error = throws(() => Expect.exactly(flow, { events: [UserJoined, new GreetingSent({ userId: "x" })] }))
      assert.strictEqual(
        error.message,
        `The events are not the expected ones (exactly, in this order)
Expected:
  UserJoined
  GreetingSent {"userId":"x"}
Actual:
  UserJoined {"userId":"u"}
  Announced {"id":"m-u"}
  GreetingSent {"userId":"u"}
Flow:
  ✓ Join {"userId":"u"}
  ├─ • UserJoined {"userId":"u"}
  │  ├─ ✓ Greet
  │  │  └─ • GreetingSent {"userId":"u"}
  │  │     └─ ✓ Thank
  │  └─ ✓ Count
  └─ • Announced {"id":"m-u"}
     └─ ✓ published to "meetings" with key "m-u"`
      )
      assert.deepStrictEqual(error.expected, ["UserJoined", "GreetingSent {\"userId\":\"x\"}"])
      assert.strictEqual(error.flow, flow)
      const empty = throws(() => Expect.exactly(flow, { consumed: [Expect.where(Announced, (e) => e.id === "")] }))
      assert.include(empty.message, "Expected:\n  Announced where (e) => e.id === \"\"\nActual:\n  (none)\nFlow:")
    }))

  it.effect("noFailures", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      Expect.noFailures(flow)
      const failed = yield* Tracker.run(Mediator.send(new Join({ userId: "late" }))).pipe(Effect.provide(tracked))
      const error = throws(() => Expect.noFailures(failed.flow))
      assert.include(error.message, "The flow has failures")
      assert.include(error.message, "Actual:\n  ✗ Join {\"userId\":\"late\"}: Full: m is full")
    }))

  it("an empty flow has a tree too", () => {
    assert.strictEqual(Flow.toTree(new Flow.Flow([])), "(nothing happened)")
  })
})
