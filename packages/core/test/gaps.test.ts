/**
 * What happens between two effects: the run loop may yield there, and be interrupted. Here it yields after every few
 * operations, so that each gap is met.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  Command,
  DomainEvent,
  EventEmitter,
  EventFlow,
  EventHandler,
  EventProcessor,
  Mediator,
  Middleware,
  NotificationEvent
} from "@event-flow/core"
import { RecordingBroker } from "@event-flow/core/testing"
import { Cause, Context, Duration, Effect, Exit, Fiber, Layer, References, Schema, Scope } from "effect"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import { adjust, partsOf } from "./fixtures.ts"

class Done extends DomainEvent.Class<Done>()("Done", { n: Schema.Int }) {}
class News extends NotificationEvent.Class<News>()("News", { n: Schema.Int }, { topic: "news", key: () => "one" }) {}
class Work extends Command.Class<Work>()("Work", { emits: [Done, News] }) {}

const OnDone = EventHandler.make("OnDone", { on: Done })
class Working extends EventFlow.make("Working", { commands: [Work], handlers: [OnDone] }) {}

const opBudgets = Array.from({ length: 58 }, (_, i) => i + 3)

/** A flow whose handler takes a few steps, and how many of its runs are under way. */
const makeFlow = (concurrency: number) => {
  const running = { count: 0 }
  const implementations = Layer.mergeAll(
    Work.toLayer((_, { collectAll }) => collectAll([1, 2, 3].map((n) => new Done({ n })))),
    OnDone.toLayer(() =>
      Effect.acquireUseRelease(
        Effect.sync(() => running.count++),
        () => Effect.andThen(Effect.yieldNow, Effect.yieldNow),
        () => Effect.sync(() => running.count--)
      )
    ),
    Broker.layerNone
  )
  const layer = Working.layer({ concurrency, drainTimeout: "1 minute" }).pipe(Layer.provide(implementations))
  return { running, layer, implementations }
}

describe("the run loop yields after every few operations", () => {
  for (const concurrency of [1, 2, 4]) {
    it.effect(`F6, F11: a send ends, and nothing of it goes on, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        for (const ops of opBudgets) {
          const { layer, running } = makeFlow(concurrency)
          const scope = yield* Scope.make()
          const context = yield* Layer.buildWithScope(layer, scope)
          const send = Mediator.send(new Work()).pipe(
            Effect.provideContext(context),
            Effect.provideService(MaxOpsBeforeYield, ops)
          )
          yield* send
          assert.strictEqual(running.count, 0, `${ops} operations, to its end`)
          for (let steps = 0; steps < 12; steps++) {
            const fiber = yield* Effect.forkChild(send, { startImmediately: true })
            for (let step = 0; step < steps; step++) yield* Effect.yieldNow
            yield* Fiber.interrupt(fiber)
            assert.strictEqual(running.count, 0, `${ops} operations, interrupted after ${steps} steps`)
          }
          // Were a send still counted as running, this would wait for the drain timeout
          yield* Scope.close(scope, Exit.void)
        }
      }))
  }

  it.effect("F11: closing sees the end of the last send, whenever it comes", () =>
    Effect.gen(function*() {
      for (const ops of opBudgets) {
        for (let steps = 0; steps < 8; steps++) {
          const { layer } = makeFlow(1)
          const scope = yield* Scope.make()
          const context = yield* Layer.buildWithScope(layer, scope)
          const fiber = yield* Effect.forkChild(Effect.provideContext(Mediator.send(new Work()), context), {
            startImmediately: true
          })
          for (let step = 0; step < steps; step++) yield* Effect.yieldNow
          yield* Effect.provideService(Scope.close(scope, Exit.void), MaxOpsBeforeYield, ops)
          yield* Fiber.await(fiber)
        }
      }
    }))
})

describe("replacing a service", () => {
  it.effect("a decorator by spread is called", () =>
    Effect.gen(function*() {
      const calls: Array<string> = []
      const Emitter = Layer.effect(
        EventEmitter.EventEmitter,
        Effect.map(EventEmitter.EventEmitter, (inner) => ({
          ...inner,
          emit: (...args: Parameters<typeof inner.emit>) => {
            calls.push("emit")
            return inner.emit(...args)
          }
        }))
      )
      const Processor = Layer.effect(
        EventProcessor.EventProcessor,
        Effect.map(EventProcessor.EventProcessor, (inner) => ({
          ...inner,
          process: (...args: Parameters<typeof inner.process>) => {
            calls.push("process")
            return inner.process(...args)
          }
        }))
      )
      const decorated = partsOf(Working, { emitter: Emitter, processor: Processor }).pipe(
        Layer.provide(makeFlow(1).implementations)
      )
      yield* Effect.provide(Mediator.send(new Work()), decorated)
      assert.deepStrictEqual(calls, ["process", "emit", "emit", "emit"])
    }))

  it.effect("a mediator's own middleware finds what its layer was built with", () =>
    Effect.gen(function*() {
      class Limit extends Context.Service<Limit, number>()("test/Limit") {}
      const limits: Array<number> = []
      const WithLimit = Middleware.make((effect) =>
        Effect.flatMap(Limit, (limit) => {
          limits.push(limit)
          return effect
        }), { requires: [Limit] })
      class Limited extends Mediator.Service<Limited>()("test/Limited", { middleware: [WithLimit] }) {}
      const { layer } = makeFlow(1)
      const program = Limited.send(new Work()).pipe(
        Effect.provide(Limited.layer().pipe(Layer.provide(Layer.succeed(Limit, 3)), Layer.provideMerge(layer)))
      )
      yield* program
      assert.deepStrictEqual(limits, [3])
    }))
})

describe("copies by spread", () => {
  it.effect("of an event, collected: a defect that says what to do", () =>
    Effect.gen(function*() {
      class Copy extends Command.Class<Copy>()("Copy", { emits: [Done] }) {}
      const layer = EventFlow.make("Copying", { commands: [Copy] }).layer().pipe(
        Layer.provide(Copy.toLayer((_, { collect }) => collect({ ...new Done({ n: 1 }), n: 2 })))
      )
      const exit = yield* Mediator.send(new Copy()).pipe(Effect.provide(layer), Effect.exit)
      assert.match(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), /make it with new Done\({ \.\.\. }\)/)
    }))

  it.effect("of a command, sent: likewise", () =>
    Effect.gen(function*() {
      const exit = yield* Mediator.send({ ...new Work() }).pipe(Effect.provide(makeFlow(1).layer), Effect.exit)
      assert.match(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), /make it with new Work\({ \.\.\. }\)/)
    }))
})

it.effect("F6: a handler that interrupts itself skips no other handler and hides no failure", () =>
  Effect.gen(function*() {
    class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}
    const Fails = EventHandler.make("Fails", { on: Done, error: Boom })
    const Interrupts = EventHandler.make("Interrupts", { on: Done })
    const Runs = EventHandler.make("Runs", { on: Done })
    let runs = 0
    class Go extends Command.Class<Go>()("Go", { emits: [Done] }) {}
    class Going extends EventFlow.make("Going", { commands: [Go], handlers: [Fails, Interrupts, Runs] }) {}
    const layer = Going.layer({ onFailure: "accumulate" }).pipe(
      Layer.provide([
        Go.toLayer((_, { collect }) => collect(new Done({ n: 1 }))),
        Fails.toLayer(() => Effect.fail(new Boom())),
        Interrupts.toLayer(() => Effect.interrupt),
        Runs.toLayer(() => Effect.sync(() => void runs++))
      ])
    )
    const exit = yield* Mediator.send(new Go()).pipe(Effect.provide(layer), Effect.exit)
    assert.strictEqual(runs, 1)
    assert.isTrue(Exit.isFailure(exit) && Cause.hasFails(exit.cause) && Cause.hasInterrupts(exit.cause))
  }))

it.effect("F12: in parallel too, messages of one key are published in the order of collection", () =>
  Effect.gen(function*() {
    const SlowFirst = Layer.effect(
      Broker.Broker,
      Effect.map(Broker.Broker, (inner) => {
        let calls = 0
        return {
          ...inner,
          publish: (messages: Parameters<typeof inner.publish>[0]) =>
            Effect.andThen(calls++ === 0 ? Effect.sleep(Duration.seconds(1)) : Effect.void, inner.publish(messages))
        }
      })
    )
    class Mixed extends Command.Class<Mixed>()("Mixed", { emits: [Done, News] }) {}
    class Mixing extends EventFlow.make("Mixing", { commands: [Mixed], handlers: [OnDone] }) {}
    const layer = Mixing.layer({ concurrency: 4 }).pipe(
      Layer.provide([
        Mixed.toLayer((_, { collectAll }) =>
          collectAll([
            new News({ n: 1 }),
            new Done({ n: 2 }),
            new News({ n: 3 }),
            new Done({ n: 4 }),
            new News({ n: 5 })
          ])
        ),
        OnDone.toLayer(() => Effect.void),
        SlowFirst
      ]),
      Layer.provideMerge(RecordingBroker.layer)
    )
    yield* Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Mediator.send(new Mixed()), { startImmediately: true })
      yield* adjust("1 second")
      yield* Fiber.join(fiber)
      const recorded = yield* RecordingBroker.RecordingBroker
      const published = yield* recorded.decoded(News)
      assert.deepStrictEqual(published.map(({ n }) => n), [1, 3, 5])
    }).pipe(Effect.provide(layer), Effect.provideService(References.MinimumLogLevel, "None"))
  }))

it.effect("F12: in parallel, publishes that share no key run side by side", () =>
  Effect.gen(function*() {
    class Keyed extends NotificationEvent.Class<Keyed>()("Keyed", { n: Schema.Int }, {
      topic: "keyed",
      key: ({ n }) => n === 5 ? undefined : String(n % 2)
    }) {}
    class Mixed extends Command.Class<Mixed>()("Mixed", { emits: [Done, Keyed] }) {}
    class Mixing extends EventFlow.make("Mixing", { commands: [Mixed], handlers: [OnDone] }) {}
    let running = 0
    let most = 0
    const layer = Mixing.layer({ concurrency: "unbounded" }).pipe(
      Layer.provide([
        // Each publish is apart from the next one
        Mixed.toLayer((_, { collectAll }) =>
          collectAll([1, 2, 3, 4, 5].flatMap((n) => [new Keyed({ n }), new Done({ n })]))
        ),
        OnDone.toLayer(() => Effect.void),
        Layer.succeed(Broker.Broker)({
          name: "slow",
          publish: () =>
            Effect.acquireUseRelease(
              Effect.sync(() => {
                most = Math.max(most, ++running)
              }),
              () => Effect.sleep("1 second"),
              () => Effect.sync(() => running--)
            )
        })
      ])
    )
    yield* Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Mediator.send(new Mixed()), { startImmediately: true })
      // 1, 2 and 5 at once, then 3 and 4
      yield* adjust("2 seconds")
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual(most, 3)
    }).pipe(Effect.provide(layer))
  }))
