/** In which order and how many at once: F1, F3, F4, F9. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, EventFlow, EventHandler, Mediator } from "@event-flow/core"
import { Effect, Exit, Layer } from "effect"
import { A, B, C, D, Do, flow, Journal, News, parallel, passTime, RecordingBroker } from "./fixtures.ts"

describe("F1: first the handler, then the events, then the response", () => {
  for (const concurrency of parallel) {
    it.effect(`F1: concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        const layer = flow({
          concurrency,
          command: (_, { collect }) =>
            collect(new A({})).pipe(Effect.andThen(work("command", 10)), Effect.as("answer")),
          on: { A: (_, { collect }) => Effect.andThen(work("A", 10), collect(new B({}))), B: () => work("B", 10) }
        })
        const exit = yield* passTime(
          Mediator.send(new Do()).pipe(Effect.tap((answer) => at(answer)), Effect.provide(layer))
        )
        assert.deepStrictEqual(exit, Exit.succeed("answer"))
        assert.deepStrictEqual(entries, [
          "command starts@0",
          "command ends@10",
          "A starts@10",
          "A ends@20",
          "B starts@20",
          "B ends@30",
          "answer@30"
        ])
      }))
  }
})

describe("F3: sequential", () => {
  it.effect("F3: breadth first, in the order of collection", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const layer = flow({
        events: [new A({}), new B({})],
        on: {
          A: (_, { collect }) => Effect.andThen(note("A"), collect(new C({}))),
          B: (_, { collect }) => Effect.andThen(note("B"), collect(new D({}))),
          C: () => note("C"),
          D: () => note("D")
        }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(entries, ["A", "B", "C", "D"])
    }))

  it.effect("F3: one event at a time, a level at a time", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const layer = flow({
        events: [new A({}), new B({})],
        on: {
          A: (_, { collectAll }) => Effect.andThen(collectAll([new C({ id: "1" }), new C({ id: "2" })]), work("A", 1)),
          B: (_, { collect }) => Effect.andThen(collect(new C({ id: "3" })), work("B", 1)),
          C: ({ id }, { collect }) => Effect.andThen(collect(new D({ id: id! })), work(`C${id}`, 1)),
          D: ({ id }) => work(`D${id}`, 1)
        }
      })
      yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      const order = ["A", "B", "C1", "C2", "C3", "D1", "D2", "D3"]
      assert.deepStrictEqual(entries, order.flatMap((name, i) => [`${name} starts@${i}`, `${name} ends@${i + 1}`]))
    }))

  for (const concurrency of parallel) {
    it.effect(`F3: the handlers of one event run one by one, in the order of the list, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note, work } = new Journal()
        const layer = flow({
          concurrency,
          events: [new A({})],
          on: {
            A: (_, { collect }) => Effect.andThen(work("A", 5), collect(new C({ id: "of A" }))),
            A2: (_, { collect }) => Effect.andThen(work("A2", 5), collect(new C({ id: "of A2" }))),
            C: ({ id }) => note(id!)
          }
        })
        yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
        assert.deepStrictEqual(entries, [
          "A starts@0",
          "A ends@5",
          "A2 starts@5",
          "A2 ends@10",
          "of A",
          "of A2"
        ])
      }))
  }

  it.effect("F3: the order is that of the list and not that of the layers", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const First = EventHandler.make("First", { on: A })
      const Second = EventHandler.make("Second", { on: A })
      const layer = EventFlow.make("Ordered", { commands: [Do], handlers: [Second, First] }).layer().pipe(
        Layer.provide(Do.toLayer((_, { collect }) => Effect.as(collect(new A({})), ""))),
        Layer.provide([First.toLayer(() => note("first")), Second.toLayer(() => note("second")), Broker.layerNone])
      )
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(entries, ["second", "first"])
    }))
})

describe("F4: parallel", () => {
  it.effect("F4: at most n at once, over all levels", () =>
    Effect.gen(function*() {
      let running = 0
      let most = 0
      const done: Array<string> = []
      const work = (name: string) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            most = Math.max(most, ++running)
          }),
          () => Effect.sleep(10),
          () =>
            Effect.sync(() => {
              running--
              done.push(name)
            })
        )
      const ids = ["1", "2", "3", "4", "5"]
      const layer = flow({
        concurrency: 3,
        events: ids.map((id) => new A({ id })),
        on: {
          A: ({ id }, { collectAll }) =>
            Effect.andThen(work(`A${id}`), collectAll([new B({ id: id! }), new C({ id: id! })])),
          B: ({ id }) => work(`B${id}`),
          C: ({ id }) => work(`C${id}`)
        }
      })
      const exit = yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.isTrue(Exit.isSuccess(exit))
      assert.strictEqual(most, 3)
      assert.deepStrictEqual(done.sort(), ["A", "B", "C"].flatMap((event) => ids.map((id) => event + id)).sort())
    }))

  it.effect("F4: a follow-up does not wait for its parent's siblings", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const layer = flow({
        concurrency: 2,
        events: [new A({}), new B({})],
        on: {
          A: () => work("slow", 10),
          B: (_, { collect }) => Effect.andThen(work("quick", 1), collect(new C({}))),
          C: () => work("follow-up", 1)
        }
      })
      yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(entries, [
        "slow starts@0",
        "quick starts@0",
        "quick ends@1",
        "follow-up starts@1",
        "follow-up ends@2",
        "slow ends@10"
      ])
    }))

  it.effect("F4: follow-ups share the bound with what still runs", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const layer = flow({
        concurrency: 2,
        events: [new A({}), new B({})],
        on: {
          A: () => work("A", 10),
          B: (_, { collectAll }) => Effect.andThen(work("B", 1), collectAll([new C({}), new D({})])),
          C: () => work("C", 2),
          D: () => work("D", 2)
        }
      })
      yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(entries.filter((entry) => entry.includes("starts")), [
        "A starts@0",
        "B starts@0",
        "C starts@1",
        "D starts@3"
      ])
    }))

  it.effect("F4: unbounded starts all of them at once", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const layer = flow({
        concurrency: "unbounded",
        events: Array.from({ length: 50 }, () => new A({})),
        on: { A: () => work("A", 10) }
      })
      yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.strictEqual(entries.filter((entry) => entry === "A ends@10").length, 50)
    }))

  for (const concurrency of [0, -1, NaN, 1.5]) {
    it.effect(`F4: a bound of ${concurrency} is refused`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Layer.build(flow({ concurrency })))
        assert.strictEqual(error._tag, "InvalidSetting")
        assert.include(error.message, `concurrency`)
        assert.include(error.message, `not ${concurrency}`)
      }))
  }

  it.effect("F4: publishing counts as an emission", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const broker = new RecordingBroker(() => work("publish", 5))
      const layer = flow({
        concurrency: 2,
        broker: broker.layer,
        events: [new A({}), new News({ n: 1 }), new B({})],
        on: { A: () => work("A", 10), B: () => work("B", 1) }
      })
      yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(entries.filter((entry) => entry.includes("starts")), [
        "A starts@0",
        "publish starts@0",
        "B starts@5"
      ])
    }))
})

describe("F9: each collected event exactly once", () => {
  for (const concurrency of parallel) {
    it.effect(`F9: equal events and the same instance twice, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const same = new A({ id: "same" })
        const layer = flow({
          concurrency,
          events: [same, same, new A({ id: "equal" }), new A({ id: "equal" })],
          on: {
            A: ({ id }, { collect }) => Effect.andThen(note(id!), collect(new B({ id: id! }))),
            B: ({ id }) => note(`B ${id}`)
          }
        })
        yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
        assert.deepStrictEqual(entries.sort(), [
          "B equal",
          "B equal",
          "B same",
          "B same",
          "equal",
          "equal",
          "same",
          "same"
        ])
      }))
  }
})
