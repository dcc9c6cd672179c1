/** Streaming commands, with and without middleware. */
import { assert, describe, it } from "@effect/vitest"
import { Command, EventFlow, EventHandler, FlowObserver, Mediator, Middleware, Query } from "@event-flow/core"
import { Cause, Effect, Exit, Fiber, Layer, Option, Schedule, Schema, Stream } from "effect"
import { A, adjust, alone, B, Boom, Journal, open, passTime, RecordingLogger, settle } from "./fixtures.ts"

const OnA = EventHandler.make("OnA", { on: A, error: Boom, emits: [B] })
const OnB = EventHandler.make("OnB", { on: B })

const setup = (middleware: ReadonlyArray<typeof Middleware.logging>) => {
  class Watch extends Command.Class<Watch>()("Watch", {
    success: Schema.Int,
    error: Boom,
    emits: [A],
    stream: true,
    middleware
  }) {}

  class Watching extends EventFlow.make("Watching", { commands: [Watch], handlers: [OnA, OnB] }) {}

  type Handler = ReturnType<typeof Watch.of<never>>

  interface Options {
    readonly handler: Handler
    readonly onA?: (event: A) => Effect.Effect<void, Boom>
    readonly drainTimeout?: number
  }

  const watchFlow = ({ drainTimeout, handler, onA }: Options) =>
    Watching.layer({ drainTimeout }).pipe(
      Layer.provide([
        Watch.toLayer(handler),
        OnA.toLayer((event) => onA?.(event) ?? Effect.void),
        OnB.toLayer(() => Effect.void)
      ])
    )

  const handler = (handler: Handler): Handler => handler

  return { Watch, handler, watchFlow }
}

for (const [name, middleware] of [["without middleware", []], ["with middleware", [Middleware.logging]]] as const) {
  const { Watch, handler, watchFlow } = setup(middleware)

  describe(`a streaming command ${name}`, () => {
    it.effect("the events of an element are processed before it is handed on", () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const layer = watchFlow({
          handler: (_, { collect }) =>
            Stream.make(1, 2, 3).pipe(
              Stream.rechunk(1),
              Stream.mapEffect((n) => Effect.as(collect(new A({ id: String(n) })), n))
            ),
          onA: ({ id }) => Effect.delay(note(`event ${id}`), 5)
        })
        yield* passTime(
          Stream.runForEach(Mediator.stream(new Watch()), (n) => note(`element ${n}`)).pipe(Effect.provide(layer))
        )
        for (const n of [1, 2, 3]) {
          assert.isBelow(entries.indexOf(`event ${n}`), entries.indexOf(`element ${n}`), entries.join())
        }
        assert.deepStrictEqual(entries.filter((entry) => entry.startsWith("event")), ["event 1", "event 2", "event 3"])
        assert.deepStrictEqual(
          entries.filter((entry) => entry.startsWith("element")),
          ["element 1", "element 2", "element 3"]
        )
      }))

    it.effect("the handler does not run ahead of the consumer, nor do events", () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const layer = watchFlow({
          handler: (_, { collect }) =>
            Stream.make(1, 2, 3).pipe(
              Stream.rechunk(1),
              Stream.mapEffect((n) =>
                note(`handler ${n}`).pipe(Effect.andThen(collect(new A({ id: String(n) }))), Effect.as(n))
              )
            ),
          onA: ({ id }) => note(`event ${id}`)
        })
        const taking = Mediator.stream(new Watch()).pipe(
          Stream.take(2),
          Stream.runForEach((n) => Effect.delay(note(`element ${n}`), 10))
        )
        yield* passTime(Effect.provide(taking, layer))
        assert.deepStrictEqual(entries, [
          "handler 1",
          "event 1",
          "element 1",
          "handler 2",
          "event 2",
          "element 2"
        ])
      }))

    it.effect("the elements come one by one, though the handler gives them in chunks", () =>
      Effect.gen(function*() {
        const layer = watchFlow({ handler: () => Stream.make(1, 2, 3) })
        const chunks = yield* Mediator.stream(new Watch()).pipe(
          Stream.mapArray((chunk) => [chunk.length] as const),
          Stream.runCollect,
          Effect.provide(layer)
        )
        assert.deepStrictEqual(chunks, [1, 1, 1])
      }))

    it.effect("events collected after the last element are processed before the end", () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        const layer = watchFlow({
          handler: (_, { collect }) => Stream.concat(Stream.make(1), Stream.fromEffectDrain(collect(new A({})))),
          onA: () => work("event", 5)
        })
        yield* passTime(
          Stream.runDrain(Mediator.stream(new Watch())).pipe(Effect.andThen(at("end")), Effect.provide(layer))
        )
        assert.deepStrictEqual(entries, ["event starts@0", "event ends@5", "end@5"])
      }))

    it.effect("F2: a handler that fails emits what it collected up to its last element, and nothing of the rest", () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const layer = watchFlow({
          handler: (_, { collect }) =>
            Stream.concat(
              Stream.fromEffect(Effect.as(collect(new A({ id: "first" })), 1)),
              Stream.fromEffect(Effect.andThen(collect(new A({ id: "dropped" })), Effect.fail(new Boom({ id: "1" }))))
            ),
          onA: ({ id }) => note(id!)
        })
        const elements: Array<number> = []
        const exit = yield* Stream.runForEach(
          Mediator.stream(new Watch()),
          (n) => Effect.sync(() => void elements.push(n))
        ).pipe(Effect.provide(layer), Effect.exit)
        assert.deepStrictEqual(Exit.findErrorOption(exit), Option.some(new Boom({ id: "1" })))
        assert.deepStrictEqual(elements, [1])
        assert.deepStrictEqual(entries, ["first"])
      }))

    it.effect("F6: an element whose events failed is not handed on, and the handler's stream is closed", () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const layer = watchFlow({
          handler: (_, { collect }) =>
            Stream.make(1, 2, 3).pipe(
              Stream.rechunk(1),
              Stream.mapEffect((n) => Effect.as(collect(new A({ id: String(n) })), n)),
              Stream.ensuring(note("closed"))
            ),
          onA: ({ id }) => id === "2" ? Effect.fail(new Boom({ id: "2" })) : Effect.void
        })
        const exit = yield* Stream.runForEach(Mediator.stream(new Watch()), (n) => note(String(n))).pipe(
          Effect.provide(layer),
          Effect.exit
        )
        assert.strictEqual(Option.getOrThrow(Exit.findErrorOption(exit))._tag, "EventHandlerError")
        assert.deepStrictEqual(entries, ["1", "closed"])
      }))

    it.effect("F13: defects stay defects", () =>
      Effect.gen(function*() {
        const dies = (options: Parameters<typeof watchFlow>[0]) =>
          Stream.runDrain(Mediator.stream(new Watch())).pipe(
            Effect.provide(watchFlow(options)),
            Effect.exit,
            Effect.map((exit) =>
              Exit.isFailure(exit) && exit.cause.reasons.filter(Cause.isDieReason).map((reason) => reason.defect)
            )
          )
        const emitting = handler((_, { collect }) => Stream.fromEffect(Effect.as(collect(new A({})), 1)))
        assert.deepStrictEqual(yield* dies({ handler: () => Stream.die("bug") }), ["bug"])
        assert.deepStrictEqual(yield* dies({ handler: emitting, onA: () => Effect.die("bug") }), ["bug"])
        assert.deepStrictEqual(
          yield* dies({
            handler: () => {
              throw "bug"
            }
          }),
          ["bug"]
        )
      }))

    it.effect("an early end of the consumer interrupts the handler's stream and closes it", () =>
      Effect.gen(function*() {
        const { at, entries } = new Journal()
        const { close, context } = yield* open(watchFlow({
          handler: () =>
            Stream.concat(
              Stream.make(1, 2),
              Stream.fromEffect(Effect.never.pipe(Effect.onInterrupt(() => at("interrupted"))))
            ).pipe(Stream.ensuring(at("closed")))
        }))
        const exit = yield* passTime(
          Mediator.stream(new Watch()).pipe(Stream.take(1), Stream.runCollect, Effect.provideContext(context)),
          0
        )
        assert.deepStrictEqual(exit, Exit.succeed([1]))
        assert.include(entries, "closed@0")
        // It is not in flight any more
        yield* passTime(Effect.andThen(close, at("layer closed")))
        assert.strictEqual(entries.at(-1), "layer closed@0")
      }))

    it.effect("an early end while the handler works interrupts it and waits for its finalizers", () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        const layer = watchFlow({
          handler: () =>
            Stream.fromEffect(
              work("handler", 1000).pipe(
                Effect.as(1),
                Effect.onInterrupt(() => Effect.andThen(Effect.sleep(50), at("cleaned up")))
              )
            )
        })
        yield* passTime(
          Stream.runDrain(Mediator.stream(new Watch())).pipe(
            Effect.timeoutOption(10),
            Effect.andThen(at("ended")),
            Effect.provide(layer)
          )
        )
        assert.deepStrictEqual(entries, ["handler starts@0", "handler interrupted@10", "cleaned up@60", "ended@60"])
      }))

    it.effect("F11: an interruption of the consumer interrupts the events of an element", () =>
      Effect.gen(function*() {
        const { entries, work } = new Journal()
        const layer = watchFlow({
          handler: (_, { collect }) => Stream.fromEffect(Effect.as(collect(new A({})), 1)),
          onA: () => work("event", 1000)
        })
        const fiber = yield* Effect.forkChild(
          Stream.runDrain(Mediator.stream(new Watch())).pipe(Effect.provide(layer)),
          { startImmediately: true }
        )
        yield* adjust(10)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(entries, ["event starts@0", "event interrupted@10"])
      }))

    it.effect("F11: closing the layer waits for it, and interrupts it after the drain timeout", () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        for (const [millis, name] of [[50, "first"], [1_000_000, "second"]] as const) {
          const { close, context } = yield* open(
            watchFlow({ drainTimeout: 100, handler: () => Stream.fromEffect(Effect.as(work(name, millis), 1)) })
          )
          yield* Effect.forkChild(
            Stream.runDrain(Mediator.stream(new Watch())).pipe(Effect.provideContext(context)),
            { startImmediately: true }
          )
          yield* settle
          yield* passTime(
            Effect.andThen(close, at(`${name} closed`)).pipe(Effect.provide(new RecordingLogger().layer)),
            1000
          )
        }
        assert.deepStrictEqual(entries, [
          "first starts@0",
          "first ends@50",
          "first closed@50",
          "second starts@1000",
          "second interrupted@1100",
          "second closed@1100"
        ])
      }))

    it.effect("F16: collecting after the stream has ended is a defect", () =>
      Effect.gen(function*() {
        let late: Fiber.Fiber<void> | undefined
        const layer = watchFlow({
          handler: (_, { collect }) =>
            Stream.fromEffect(
              Effect.forkDetach(Effect.delay(collect(new A({})), 10)).pipe(
                Effect.tap((fiber) => Effect.sync(() => void (late = fiber))),
                Effect.as(1)
              )
            )
        })
        yield* Stream.runDrain(Mediator.stream(new Watch())).pipe(Effect.provide(layer))
        yield* adjust(10)
        const exit = yield* Fiber.await(late!)
        assert.isTrue(Exit.hasDies(exit))
      }))

    it.effect("each run of the stream is a run of the handler", () =>
      Effect.gen(function*() {
        let runs = 0
        const layer = watchFlow({ handler: () => Stream.sync(() => ++runs) })
        const stream = Mediator.stream(new Watch())
        const results = yield* Effect.all([Stream.runCollect(stream), Stream.runCollect(stream)]).pipe(
          Effect.provide(layer)
        )
        assert.deepStrictEqual(results, [[1], [2]])
      }))

    it.effect("a long stream takes neither stack nor memory", () =>
      Effect.gen(function*() {
        let events = 0
        const layer = watchFlow({
          handler: (_, { collect }) =>
            Stream.range(1, 20_000).pipe(Stream.mapEffect((n) => Effect.as(collect(new A({})), n))),
          onA: () => Effect.sync(() => events++)
        })
        const count = yield* Stream.runCount(Mediator.stream(new Watch())).pipe(Effect.provide(layer))
        assert.deepStrictEqual([count, events], [20_000, 20_000])
      }))
  })
}

describe("middleware around a stream", () => {
  class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}

  it.effect("wraps it from its start to its end", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const around = Middleware.make((effect, info) =>
        note(`before ${info.tag}`).pipe(Effect.andThen(effect), Effect.onExit((exit) => note(`after ${exit._tag}`)))
      )
      class Numbers extends Query.Class<Numbers>()("Numbers", {
        success: Schema.Int,
        stream: true,
        middleware: [around]
      }) {}
      const layer = alone(Numbers, Numbers.toLayer(() => Stream.make(1, 2)))
      const numbers = yield* Mediator.stream(new Numbers()).pipe(Stream.runCollect, Effect.provide(layer))
      assert.deepStrictEqual(numbers, [1, 2])
      assert.deepStrictEqual(entries, ["before Numbers", "after Success"])
    }))

  for (const [end, outcome] of [["has had enough", "Success"], ["is interrupted", "Failure"]] as const) {
    it.effect(`sees a ${outcome.toLowerCase()} where the consumer ${end}, and so do observers`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const around = Middleware.make((effect) => Effect.onExit(effect, (exit) => note(`middleware: ${exit._tag}`)))
        class Numbers extends Query.Class<Numbers>()("Numbers", {
          success: Schema.Int,
          stream: true,
          middleware: [around]
        }) {}
        const observer = FlowObserver.layer(FlowObserver.make({
          commandHandled: (_, exit) => entries.push(`handled: ${exit._tag}`),
          commandEnded: (_, exit) => entries.push(`ended: ${exit._tag}`)
        }))
        const handler = Stream.concat(Stream.make(1, 2), Stream.never).pipe(Stream.ensuring(note("closed")))
        const layer = alone(Numbers, Numbers.toLayer(() => handler)).pipe(Layer.provide(observer))
        const numbers = Mediator.stream(new Numbers())
        const taken: Array<number> = []
        const take = (stream: typeof numbers) =>
          Stream.runForEach(stream, (n) => Effect.sync(() => void taken.push(n))).pipe(Effect.provide(layer))
        if (outcome === "Success") yield* take(Stream.take(numbers, 2))
        else {
          const fiber = yield* Effect.forkChild(take(numbers), { startImmediately: true })
          yield* settle
          yield* Fiber.interrupt(fiber)
        }
        assert.deepStrictEqual(taken, [1, 2])
        assert.deepStrictEqual(entries, [
          "closed",
          `handled: ${outcome}`,
          `middleware: ${outcome}`,
          `ended: ${outcome}`
        ])
      }))
  }

  it.effect("adds its errors", () =>
    Effect.gen(function*() {
      const deny = Middleware.make(() => Effect.fail(new Denied()), { error: Denied })
      class OwnMediator extends Mediator.Service<OwnMediator>()("test/StreamMediator", { middleware: [deny] }) {}
      class Numbers extends Query.Class<Numbers>()("Numbers", { success: Schema.Int, stream: true }) {}
      const layer = Layer.merge(OwnMediator.layer(), alone(Numbers, Numbers.toLayer(() => Stream.make(1, 2))))
      const error = yield* OwnMediator.stream(new Numbers()).pipe(Stream.runCollect, Effect.provide(layer), Effect.flip)
      assert.deepStrictEqual(error, new Denied())
    }))

  it.effect("retry runs the stream again", () =>
    Effect.gen(function*() {
      let runs = 0
      class Numbers extends Query.Class<Numbers>()("Numbers", {
        success: Schema.Int,
        error: Boom,
        stream: true,
        middleware: [Middleware.retry({ schedule: Schedule.recurs(3) })]
      }) {}
      const layer = alone(
        Numbers,
        Numbers.toLayer(() =>
          Stream.suspend(() => ++runs < 3 ? Stream.fail(new Boom({ id: String(runs) })) : Stream.make(1, 2))
        )
      )
      const numbers = yield* Mediator.stream(new Numbers()).pipe(Stream.runCollect, Effect.provide(layer))
      assert.deepStrictEqual(numbers, [1, 2])
    }))
})
