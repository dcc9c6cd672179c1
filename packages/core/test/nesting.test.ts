/** Sends within sends: F5. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, Command, type Event, EventFlow, EventHandler, EventProcessor, Mediator } from "@event-flow/core"
import { Effect, Exit, Fiber, Layer, Schema } from "effect"
import { A, B, Do, flow, Journal, parallel, partsOf, passTime } from "./fixtures.ts"

describe("F5: the bound belongs to a dispatch", () => {
  // Sends itself from its handler and, through an event, from an event handler
  class Dive extends Command.Class<Dive>()("Dive", {
    payload: { depth: Schema.Int },
    success: Schema.Int,
    emits: [A, B]
  }) {}

  const Again = EventHandler.make("Again", { on: A, sends: [Dive] })
  const Other = EventHandler.make("Other", { on: B })
  class Diving extends EventFlow.make("Diving", { commands: [Dive], handlers: [Again, Other] }) {}
  const dive = (depth: number) => Effect.asVoid(Effect.orDie(Mediator.send(new Dive({ depth }))))

  for (const concurrency of parallel) {
    it.effect(`F5: nested sends at any depth do not deadlock, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        let fromEvents = 0
        const layer = Diving.layer({ concurrency }).pipe(
          Layer.provide([
            Again.toLayer(() => ++fromEvents > 30 ? Effect.void : dive(2)),
            Other.toLayer(() => Effect.sleep(1)),
            Dive.toLayer(Effect.fnUntraced(function*({ depth }, { collectAll }) {
              yield* collectAll([new A({}), new B({})])
              if (depth === 0) return 0
              const below = yield* Effect.orDie(Mediator.send(new Dive({ depth: depth - 1 })))
              return below + 1
            }))
          ])
        )
        const exit = yield* passTime(Mediator.send(new Dive({ depth: 40 })).pipe(Effect.provide(layer)))
        assert.deepStrictEqual(exit, Exit.succeed(40))
        assert.isAbove(fromEvents, 30)
      }))
  }

  it.effect("F5: handlers find the commands that they send, whoever runs them", () =>
    Effect.gen(function*() {
      let dives = 0
      class Ask extends Command.Class<Ask>()("Ask", { emits: [A], sends: [Dive] }) {}
      class Asking extends EventFlow.make("Asking", { commands: [Ask], handlers: [Again] }) {}
      // The processor runs the events in a fiber of its own
      const Forking = Layer.effect(
        EventProcessor.EventProcessor,
        EventProcessor.EventProcessor.useSync((inner) => ({
          process: (events: ReadonlyArray<Event.Any>) =>
            Effect.flatMap(Effect.forkChild(inner.process(events)), Fiber.join)
        }))
      )
      const diving = EventFlow.make("Pool", { commands: [Dive] }).layer().pipe(
        Layer.provide(Dive.toLayer(() => Effect.sync(() => ++dives)))
      )
      const implementations = Layer.mergeAll(
        Ask.toLayer((_, { collect }) => Effect.andThen(dive(0), collect(new A({})))),
        Again.toLayer(() => dive(0)),
        Broker.layerNone
      )
      const layers = [
        Asking.layer().pipe(Layer.provide(implementations)),
        Asking.layer({ concurrency: 2 }).pipe(Layer.provide(implementations)),
        partsOf(Asking, { processor: Forking }).pipe(Layer.provide(implementations))
      ]
      for (const [i, layer] of layers.entries()) {
        // The caller has the one flow and not the other
        yield* Mediator.send(new Ask()).pipe(Effect.provide(Layer.provide(layer, diving)))
        assert.strictEqual(dives, (i + 1) * 2)
      }
    }))

  it.effect("F5: unrelated sends do not queue behind one another", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const layer = flow({
        concurrency: 1,
        events: [new A({})],
        on: { A: () => work("A", 10) }
      })
      yield* passTime(
        Effect.all([Mediator.send(new Do()), Mediator.send(new Do()), Mediator.send(new Do())], {
          concurrency: "unbounded"
        }).pipe(Effect.provide(layer))
      )
      assert.deepStrictEqual(entries, [
        "A starts@0",
        "A starts@0",
        "A starts@0",
        "A ends@10",
        "A ends@10",
        "A ends@10"
      ])
    }))

  it.effect("F5: a nested send has its own bound, and its events end before it does", () =>
    Effect.gen(function*() {
      const { at, entries, work } = new Journal()
      class Inner extends Command.Class<Inner>()("Inner", { emits: [B] }) {}
      class Outer extends Command.Class<Outer>()("Outer", { emits: [A], sends: [Inner] }) {}
      const OnB = EventHandler.make("OnB", { on: B })
      const OnA = EventHandler.make("OnA", { on: A })
      const layer = EventFlow.make("Nested", { commands: [Inner, Outer], handlers: [OnA, OnB] }).layer().pipe(
        Layer.provide([
          Inner.toLayer((_, { collect }) => collect(new B({}))),
          Outer.toLayer((_, { collect }) =>
            collect(new A({})).pipe(
              Effect.andThen(Effect.orDie(Mediator.send(new Inner()))),
              Effect.andThen(at("outer handler ends"))
            )
          ),
          OnA.toLayer(() => work("A", 1)),
          OnB.toLayer(() => work("B", 1))
        ])
      )
      yield* passTime(Mediator.send(new Outer()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(entries, [
        "B starts@0",
        "B ends@1",
        "outer handler ends@1",
        "A starts@1",
        "A ends@2"
      ])
    }))
})
