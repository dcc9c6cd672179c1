/** Tracked runs with the memory broker between. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, ConsumerPolicy, Mediator, MemoryBroker } from "@event-flow/core"
import { Expect, FailingBroker, Flow, Tracker } from "@event-flow/core/testing"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, Schedule } from "effect"
import { adjust } from "../fixtures.ts"
import {
  Announced,
  app,
  Board,
  consumer,
  Count,
  Full,
  Greet,
  GreetingSent,
  Join,
  main,
  Screen,
  Shown,
  Thank
} from "./support.ts"

describe("Tracker, through the memory broker", () => {
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
        yield* adjust("1 hour")
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
        app(Board.toLayer(() => Effect.die(new Error("a bug"))), { outage: false })
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
