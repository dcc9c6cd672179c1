/** What is one publish: F12. */
import { assert, describe, it } from "@effect/vitest"
import { type Event, EventProcessor, Mediator } from "@event-flow/core"
import { Effect, Layer } from "effect"
import { A, B, Do, flow, implementations, Journal, News, partsOf, RecordingBroker, TestFlow } from "./fixtures.ts"

describe("F12: adjacent notification events of one level are one publish", () => {
  it.effect("F12: adjacent ones together in order, others apart, in their place among the domain events", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const broker = new RecordingBroker((messages) => note(`publish ${messages.map((message) => message.key)}`))
      const layer = flow({
        broker: broker.layer,
        events: [1, 2, new A({}), 3, new B({}), 4, 5, 6].map((e) => typeof e === "number" ? new News({ n: e }) : e),
        on: { A: () => note("A"), B: () => note("B") }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(entries, ["publish 1,2", "A", "publish 3", "B", "publish 4,5,6"])
      assert.deepStrictEqual(broker.bodies, [[{ n: 1 }, { n: 2 }], [{ n: 3 }], [{ n: 4 }, { n: 5 }, { n: 6 }]])
    }))

  it.effect("F12: not across levels", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const layer = flow({
        broker: broker.layer,
        events: [new A({}), new News({ n: 1 })],
        on: { A: (_, { collect }) => collect(new News({ n: 2 })) }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(broker.bodies, [[{ n: 1 }], [{ n: 2 }]])
    }))

  it.effect("F12: those of two handlers of one event, and of two events of one level, are adjacent", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const layer = flow({
        broker: broker.layer,
        events: [new A({}), new B({})],
        on: {
          A: (_, { collect }) => collect(new News({ n: 1 })),
          A2: (_, { collectAll }) => collectAll([new News({ n: 2 }), new News({ n: 3 })]),
          B: (_, { collect }) => collect(new News({ n: 4 }))
        }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(broker.bodies, [[{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }]])
    }))

  it.effect("F12: in parallel too, for those of one parent", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const layer = flow({
        concurrency: 4,
        broker: broker.layer,
        events: [new News({ n: 1 }), new News({ n: 2 }), new A({}), new News({ n: 3 })],
        on: { A: (_, { collectAll }) => collectAll([new News({ n: 4 }), new News({ n: 5 })]) }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(broker.bodies, [[{ n: 1 }, { n: 2 }], [{ n: 3 }], [{ n: 4 }, { n: 5 }]])
    }))

  it.effect("F12: our processor and one around it batch alike", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      let calls = 0
      const Around = Layer.effect(
        EventProcessor.EventProcessor,
        EventProcessor.EventProcessor.useSync(({ process }) => ({
          process: (events: ReadonlyArray<Event.Any>) => Effect.suspend(() => (calls++, process(events)))
        }))
      )
      const layer = partsOf(TestFlow, { processor: Around }).pipe(
        Layer.provide(implementations({ events: [new News({ n: 1 }), new News({ n: 2 })] })),
        Layer.provide(broker.layer)
      )
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(broker.bodies, [[{ n: 1 }, { n: 2 }]])
      assert.strictEqual(calls, 1)
    }))
})
