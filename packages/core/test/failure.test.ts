/** What fails, and what then happens: F2, F6, F7, F8. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, EventFlow, EventHandler, Mediator, Telemetry } from "@event-flow/core"
import { Effect, Exit, Fiber, Layer, Metric, Option } from "effect"
import { A, B, Boom, C, D, Do, flow, Journal, News, passTime, RecordingBroker, RecordingLogger } from "./fixtures.ts"

const rejected = (topic: string) =>
  new Broker.PublishError({ topic, messageType: "News.v1", reason: new Broker.Rejected({ detail: "no" }) })

describe("F2: who fails emits nothing", () => {
  const outcomes = {
    fails: Effect.fail(new Boom({ id: "command" })),
    dies: Effect.die("bug"),
    "is interrupted": Effect.interrupt
  }
  for (const concurrency of [1, 3]) {
    for (const [name, outcome] of Object.entries(outcomes)) {
      it.effect(`F2: a command's handler that ${name}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          const { entries, note } = new Journal()
          const broker = new RecordingBroker()
          const layer = flow({
            concurrency,
            broker: broker.layer,
            command: (_, { collectAll }) => Effect.andThen(collectAll([new A({}), new News({ n: 1 })]), outcome),
            on: { A: () => note("A") }
          })
          const exit = yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer)))
          assert.isTrue(Exit.isFailure(exit))
          assert.deepStrictEqual(entries, [])
          assert.deepStrictEqual(broker.batches, [])
        }))

      it.effect(`F2: an event's handler that ${name} leads to no follow-ups, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          const { entries, note } = new Journal()
          const broker = new RecordingBroker()
          const layer = flow({
            concurrency,
            onFailure: "log",
            broker: broker.layer,
            events: [new A({})],
            on: {
              A: (_, { collectAll }) => Effect.andThen(collectAll([new B({}), new News({ n: 1 })]), outcome),
              B: () => note("B")
            }
          })
          yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide([layer, new RecordingLogger().layer])))
          assert.deepStrictEqual(entries, [])
          assert.deepStrictEqual(broker.batches, [])
        }))
    }
  }

  it.effect("F2: a command interrupted from outside", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const layer = flow({
        command: (_, { collect }) => Effect.andThen(collect(new A({})), Effect.never),
        on: { A: () => note("A") }
      })
      const fiber = yield* Effect.forkChild(Mediator.send(new Do()).pipe(Effect.provide(layer)), {
        startImmediately: true
      })
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(entries, [])
    }))

  it.effect("F2: a handler that recovers from its own failure emits what it collected", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const layer = flow({
        command: (_, { collect }) =>
          Effect.andThen(collect(new A({})), Effect.fail(new Boom({ id: "inner" }))).pipe(
            Effect.catch(() => Effect.succeed("recovered"))
          ),
        on: { A: () => note("A") }
      })
      assert.strictEqual(yield* Mediator.send(new Do()).pipe(Effect.provide(layer)), "recovered")
      assert.deepStrictEqual(entries, ["A"])
    }))
})

describe("F6: failing fast", () => {
  it.effect("F6: interrupts the running siblings, waits for their finalizers and starts nothing new", () =>
    Effect.gen(function*() {
      const { at, entries, work } = new Journal()
      const layer = flow({
        concurrency: 3,
        events: [new A({}), new B({}), new C({}), new D({}), new D({})],
        on: {
          A: () => Effect.andThen(work("A", 10), Effect.fail(new Boom({ id: "A" }))),
          A2: () => work("A2", 1),
          B: () => work("B", 100).pipe(Effect.onInterrupt(() => Effect.andThen(Effect.sleep(50), at("B cleaned up")))),
          C: (_, { collect }) => Effect.andThen(collect(new D({})), work("C", 100)),
          D: () => work("D", 100)
        }
      })
      const exit = yield* passTime(
        Mediator.send(new Do()).pipe(Effect.onExit(() => at("send ends")), Effect.provide(layer))
      )
      assert.deepStrictEqual(entries, [
        "A starts@0",
        "B starts@0",
        "C starts@0",
        "A ends@10",
        "B interrupted@10",
        "C interrupted@10",
        "B cleaned up@60",
        "send ends@60"
      ])
      const error = Option.getOrThrow(Exit.findErrorOption(exit))
      assert.strictEqual(error._tag, "EventHandlerError")
    }))

  for (const concurrency of [1, 3]) {
    it.effect(`F6: the error names the event, the handler and the cause, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const layer = flow({
          concurrency,
          events: [new A({})],
          on: { A2: () => Effect.fail(new Boom({ id: "of A2" })) }
        })
        const error = yield* Effect.flip(Mediator.send(new Do()).pipe(Effect.provide(layer)))
        assert.strictEqual(error._tag, "EventHandlerError")
        if (error._tag !== "EventHandlerError") return
        assert.strictEqual(error.event, "A")
        assert.strictEqual(error.handler, "OnA2")
        assert.deepStrictEqual(error.cause, new Boom({ id: "of A2" }))
        assert.strictEqual(error.message, "Handler \"OnA2\" of event \"A\" failed: Boom: boom of A2 {\"id\":\"of A2\"}")
      }))

    it.effect(`F6: a failed publish is the failure, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const broker = new RecordingBroker((messages) => Effect.fail(rejected(messages[0]!.topic)))
        const layer = flow({
          concurrency,
          broker: broker.layer,
          events: [new News({ n: 1 }), new A({}), new B({}), new C({})],
          on: { A: () => Effect.never, B: () => Effect.never, C: () => note("C") }
        })
        const error = yield* Effect.flip(Mediator.send(new Do()).pipe(Effect.provide(layer)))
        assert.deepStrictEqual(error, rejected("news"))
        assert.deepStrictEqual(entries, [])
      }))
  }

  it.effect("F6: sequentially, the event's other handlers and the events behind it do not run", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const layer = flow({
        events: [new D({}), new A({}), new B({})],
        on: {
          A: () => Effect.fail(new Boom({ id: "A" })),
          A2: () => note("A2"),
          B: () => note("B"),
          C: () => note("C"),
          D: (_, { collect }) => Effect.andThen(note("D"), collect(new C({})))
        }
      })
      yield* Effect.flip(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(entries, ["D"])
    }))

  it.effect("F6: the first failure wins over one that comes while waiting", () =>
    Effect.gen(function*() {
      const layer = flow({
        concurrency: 2,
        events: [new A({}), new B({})],
        on: {
          A: () => Effect.fail(new Boom({ id: "first" })).pipe(Effect.delay(10)),
          B: () => Effect.never.pipe(Effect.onInterrupt(() => Effect.die("second").pipe(Effect.ignoreCause)))
        }
      })
      const exit = yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      const error = Option.getOrThrow(Exit.findErrorOption(exit))
      assert.strictEqual(error._tag === "EventHandlerError" && error.handler, "OnA")
    }))
})

describe("F6: accumulating", () => {
  for (const concurrency of [1, 3]) {
    it.effect(`F6: all events and all handlers run, one error lists every failure, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const broker = new RecordingBroker((messages) => Effect.fail(rejected(messages[0]!.topic)))
        const layer = flow({
          concurrency,
          onFailure: "accumulate",
          broker: broker.layer,
          events: [new A({}), new News({ n: 1 }), new News({ n: 2 }), new B({}), new D({})],
          on: {
            A: () => Effect.andThen(note("A"), Effect.fail(new Boom({ id: "A" }))),
            A2: (_, { collect }) => Effect.andThen(note("A2"), collect(new C({}))),
            B: (_, { collect }) => Effect.andThen(collect(new D({})), Effect.fail(new Boom({ id: "B" }))),
            C: () => Effect.andThen(note("C"), Effect.fail(new Boom({ id: "C" }))),
            D: () => note("D")
          }
        })
        const error = yield* Effect.flip(Mediator.send(new Do()).pipe(Effect.provide(layer)))
        assert.strictEqual(error._tag, "EventsFailed")
        if (error._tag !== "EventsFailed") return
        assert.deepStrictEqual(
          error.failures.map((failure) =>
            failure._tag === "EventHandlerError" ? `${failure.event} in ${failure.handler}` : failure._tag
          ).sort(),
          ["A in OnA", "B in OnB", "C in OnC", "PublishError"]
        )
        assert.deepStrictEqual(entries.sort(), ["A", "A2", "C", "D"])
        assert.include(error.message, "4 failure(s)")
        assert.include(error.message, "boom C")
      }))
  }

  it.effect("F6: the failures come in the order in which they happened", () =>
    Effect.gen(function*() {
      const fail = (id: string, millis: number) => Effect.delay(Effect.fail(new Boom({ id })), millis)
      const layer = flow({
        concurrency: 3,
        onFailure: "accumulate",
        events: [new A({}), new B({}), new C({})],
        on: { A: () => fail("A", 30), A2: () => fail("A2", 10), B: () => fail("B", 20), C: () => fail("C", 35) }
      })
      const exit = yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      const error = Option.getOrThrow(Exit.findErrorOption(exit))
      assert.deepStrictEqual(
        error._tag === "EventsFailed" &&
          error.failures.map((failure) => failure._tag === "EventHandlerError" && failure.handler),
        ["OnB", "OnA", "OnC", "OnA2"]
      )
    }))

  it.effect("F6: succeeds when nothing failed", () =>
    Effect.gen(function*() {
      const layer = flow({ onFailure: "accumulate", events: [new A({}), new B({})] })
      assert.strictEqual(yield* Mediator.send(new Do()).pipe(Effect.provide(layer)), "done")
    }))

  it.effect("F6: the command's own failure is no event's failure", () =>
    Effect.gen(function*() {
      const layer = flow({ onFailure: "accumulate", command: () => Effect.fail(new Boom({ id: "command" })) })
      const error = yield* Effect.flip(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(error, new Boom({ id: "command" }))
    }))
})

describe("F6: logging", () => {
  for (const concurrency of [1, 3]) {
    it.effect(`F6: the send succeeds, each failure is logged and counted, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const logger = new RecordingLogger()
        const layer = flow({
          concurrency,
          onFailure: "log",
          events: [new A({}), new News({ n: 1 }), new B({})],
          on: {
            A: () => Effect.fail(new Boom({ id: "A" })),
            A2: () => note("A2"),
            B: (_, { collect }) => Effect.andThen(note("B"), collect(new C({}))),
            C: () => Effect.andThen(note("C"), Effect.fail(new Boom({ id: "C" })))
          }
        })
        const [answer, failures] = yield* Effect.all([
          Mediator.send(new Do()),
          Metric.value(Telemetry.loggedFailures)
        ]).pipe(
          Effect.provide([layer, logger.layer]),
          // A registry of its own: other tests count too
          Effect.provideService(Metric.MetricRegistry, new Map())
        )
        assert.strictEqual(answer, "done")
        assert.deepStrictEqual(entries, ["A2", "B", "C"])
        assert.deepStrictEqual(logger.entries.sort(), [
          "Error Handler \"OnA\" of event \"A\" failed: Boom: boom A {\"id\":\"A\"}",
          "Error Handler \"OnC\" of event \"C\" failed: Boom: boom C {\"id\":\"C\"}",
          "Error No broker to publish \"News.v1\" to topic \"news\": Broker.layerNone is provided; " +
          "provide a broker's layer instead (KafkaBroker, RabbitBroker, MemoryBroker)"
        ])
        assert.strictEqual(failures.count, 3)
      }))
  }

  it.effect("F6: the count has the documented name", () =>
    Effect.sync(() => assert.strictEqual(Telemetry.loggedFailures.id, "event_flow.event.failures")))

  it.effect("F6: the command's own failure is not passed over", () =>
    Effect.gen(function*() {
      const layer = flow({ onFailure: "log", command: () => Effect.fail(new Boom({ id: "command" })) })
      const error = yield* Effect.flip(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(error, new Boom({ id: "command" }))
    }))
})

describe("F7: a domain event without handlers", () => {
  for (const concurrency of [1, 3]) {
    it.effect(`F7: logs a warning and succeeds, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const logger = new RecordingLogger()
        const layer = EventFlow.make("Deaf", { commands: [Do] }).layer({ concurrency }).pipe(
          Layer.provide(Do.toLayer((_, { collect }) => Effect.as(collect(new A({})), "done"))),
          Layer.provide(Broker.layerNone)
        )
        const answer = yield* Mediator.send(new Do()).pipe(Effect.provide([layer, logger.layer]))
        assert.strictEqual(answer, "done")
        assert.strictEqual(logger.entries.length, 1)
        assert.match(logger.entries[0]!, /^Warn Domain event "A" has no handler/)
      }))
  }
})

describe("F8: notification events and the broker", () => {
  for (const concurrency of [1, 3]) {
    it.effect(`F8: without a broker it fails and names the event, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const layer = flow({ concurrency, events: [new News({ n: 1 })] })
        const error = yield* Effect.flip(Mediator.send(new Do()).pipe(Effect.provide(layer)))
        assert.deepStrictEqual(error, new Broker.BrokerNotFound({ topic: "news", event: "News.v1" }))
        assert.include(error.message, "\"News.v1\"")
      }))
  }

  it.effect("F8: with a broker it is published and no local handler sees it", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const OnNews = EventHandler.make("OnNews", { on: News })
      const broker = new RecordingBroker()
      const layer = EventFlow.make("Informed", { commands: [Do], handlers: [OnNews] }).layer().pipe(
        Layer.provide(Do.toLayer((_, { collect }) => Effect.as(collect(new News({ n: 7 })), "done"))),
        Layer.provide([OnNews.toLayer(() => note("local")), broker.layer])
      )
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(broker.bodies, [[{ n: 7 }]])
      assert.deepStrictEqual(entries, [])
    }))

  it.effect("F8: a domain event is never published", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      yield* Mediator.send(new Do()).pipe(Effect.provide(flow({ broker: broker.layer, events: [new A({})] })))
      assert.deepStrictEqual(broker.batches, [])
    }))
})
