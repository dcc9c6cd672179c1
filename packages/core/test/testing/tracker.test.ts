/** What a tracked run records, in one process without a broker. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, Command, EventFlow, EventHandler, FlowObserver, Mediator, Middleware } from "@event-flow/core"
import { Expect, Flow, RecordingBroker, Tracker } from "@event-flow/core/testing"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Schedule, Schema, Stream } from "effect"
import { adjust } from "../fixtures.ts"
import { Book, Full, Greet, GreetingSent, Join, main, nothing, Thank, tracked, UserJoined } from "./support.ts"

describe("Tracker, in process", () => {
  it.effect("a recording has everything since it was made, without a tracked run", () =>
    Effect.gen(function*() {
      const recording = Tracker.makeRecording()
      const app = main().pipe(
        Layer.provide(FlowObserver.layer(recording.observer)),
        Layer.provide(RecordingBroker.layer)
      )
      for (const userId of ["u", "v"]) {
        yield* Mediator.send(new Join({ userId })).pipe(Effect.provide(app, { local: true }))
      }
      assert.deepStrictEqual(recording.flow.commands.map(({ command }) => command), [
        new Join({ userId: "u" }),
        new Join({ userId: "v" })
      ])
      assert.strictEqual(recording.flow.messages[1]!.parent!.parent, recording.flow.commands[1])
    }))

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
      const tree = (greet: Layer.Layer<EventHandler.EventHandlerImplementation<"Greet">>) =>
        Tracker.run(Mediator.send(new Join({ userId: "u" }))).pipe(
          Effect.map(({ flow }) => Flow.toTree(flow)),
          Effect.provide(
            main(greet).pipe(Layer.provide(RecordingBroker.layer), Layer.provideMerge(Tracker.layer))
          )
        )
      const announced = "\n└─ • Announced {\"id\":\"m-u\"}"
      const joined = "\n├─ • UserJoined {\"userId\":\"u\"}\n│  └─ "
      assert.strictEqual(
        yield* tree(Greet.toLayer(() => Effect.fail(new Full({ meetingId: "x" })))),
        "✗ Join {\"userId\":\"u\"}: EventHandlerError: Handler \"Greet\" of event \"UserJoined\" failed: Full: x is full " +
          "{\"meetingId\":\"x\"}" +
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
      class Outer extends Command.Class<Outer>()("Outer", { emits: [UserJoined], error: Full, sends: [Book] }) {}
      const Reserve = EventHandler.make("Reserve", { on: UserJoined, error: Full, sends: [Book] })
      const book = Mediator.send(new Book())
      const layer = EventFlow.make("Nested", { commands: [Book, Outer], handlers: [Reserve] }).layer().pipe(
        Layer.provide([
          Outer.toLayer((_, { collect }) => Effect.andThen(book, collect(new UserJoined({ userId: "u" })))),
          Book.toLayer(() => Effect.succeed(1)),
          Reserve.toLayer(() => Effect.asVoid(book))
        ]),
        Layer.provideMerge(Tracker.layer)
      )
      const { flow } = yield* Tracker.run(Mediator.send(new Outer())).pipe(Effect.provide(layer))
      assert.strictEqual(
        Flow.toTree(flow),
        `✓ Outer
├─ ✓ Book
└─ • UserJoined {"userId":"u"}
   └─ ✓ Reserve
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
      const layer = EventFlow.make("Wrapped", { commands: [Flaky, Refused], handlers: [Thank] }).layer().pipe(
        Layer.provide([
          Thank.toLayer(nothing),
          Flaky.toLayer((_, { collect }) =>
            Effect.andThen(
              collect(new GreetingSent({ userId: "u" })),
              Effect.suspend(() => ++runs < 3 ? Effect.fail(new Full({ meetingId: "m" })) : Effect.void)
            )
          ),
          Refused.toLayer(() => Effect.void)
        ]),
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
      const layer = EventFlow.make("Watching", { commands: [Watch], handlers: [Thank] }).layer().pipe(
        Layer.provide([
          Watch.toLayer((_, { collect }) =>
            Stream.tap(Stream.make(1, 2), (n) => collect(new GreetingSent({ userId: String(n) })))
          ),
          Thank.toLayer(nothing)
        ]),
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
      const layer = EventFlow.make("Doubling", { commands: [Twice], handlers: [Thank] }).layer().pipe(
        Layer.provide([Twice.toLayer((_, { collectAll }) => collectAll([event, event])), Thank.toLayer(nothing)]),
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
      const layer = main(
        Greet.toLayer(() => Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(gate)))
      ).pipe(Layer.provide(RecordingBroker.layer), Layer.provideMerge(Tracker.layer))
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
      const layer = main(Greet.toLayer(() => Effect.sleep("1 minute"))).pipe(
        Layer.provide(RecordingBroker.layer),
        Layer.provideMerge(Tracker.layer)
      )
      yield* Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Tracker.run(Mediator.send(new Join({ userId: "u" }))), {
          startImmediately: true
        })
        yield* adjust("1 minute")
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
