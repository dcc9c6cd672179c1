/** In which order and how many at once: F1, F3, F4, F5, F9, F10, F12. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, Command, DomainEvent, EventFlow, EventHandler, EventProcessor, Mediator } from "@event-flow/core"
import { Context, Effect, Exit, Layer, Option, Schema } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { A, B, C, D, Do, flow, Journal, News, open, passTime, RecordingBroker } from "./fixtures.ts"

const parallel = [1, 3, "unbounded"] as const

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
    it.effect(`F3: the handlers of one event run one by one, in the order of the map, concurrency ${concurrency}`, () =>
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

  it.effect("F3: the order is that of the map and not that of the layers", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const First = EventHandler.make("First", { on: A })
      const Second = EventHandler.make("Second", { on: A })
      const layer = EventFlow.layer({ handlers: [Second, First] }).pipe(
        Layer.provideMerge(Do.toLayer((_, { collect }) => Effect.as(collect(new A({})), ""))),
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

  for (const concurrency of [0, -1, NaN]) {
    it.effect(`F4: a bound of ${concurrency} is one at a time, and not none at all`, () =>
      Effect.gen(function*() {
        const { entries, work } = new Journal()
        const layer = flow({
          concurrency,
          events: [new A({}), new B({})],
          on: { A: () => work("A", 1), B: () => work("B", 1) }
        })
        yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
        assert.deepStrictEqual(entries, ["A starts@0", "A ends@1", "B starts@1", "B ends@2"])
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

describe("F5: the bound belongs to a dispatch", () => {
  // Sends itself from its handler and, through an event, from an event handler
  class Dive extends Command.Class<Dive>()("Dive", {
    payload: { depth: Schema.Int },
    success: Schema.Int,
    emits: [A, B]
  }) {}

  const Again = EventHandler.make("Again", { on: A })
  const Other = EventHandler.make("Other", { on: B })

  for (const concurrency of parallel) {
    it.effect(`F5: nested sends at any depth do not deadlock, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        let fromEvents = 0
        const layer = EventFlow.layer({ handlers: [Again, Other], concurrency }).pipe(
          Layer.provide([
            Again.toLayer(() => ++fromEvents > 30 ? Effect.void : Effect.orDie(Mediator.send(new Dive({ depth: 2 })))),
            Other.toLayer(() => Effect.sleep(1)),
            Broker.layerNone
          ]),
          Layer.provideMerge(Dive.toLayer(Effect.fnUntraced(function*({ depth }, { collectAll }) {
            yield* collectAll([new A({}), new B({})])
            if (depth === 0) return 0
            const below = yield* Effect.orDie(Mediator.send(new Dive({ depth: depth - 1 })))
            return below + 1
          })))
        )
        const exit = yield* passTime(Mediator.send(new Dive({ depth: 40 })).pipe(Effect.provide(layer)))
        assert.deepStrictEqual(exit, Exit.succeed(40))
        assert.isAbove(fromEvents, 30)
      }))
  }

  it.effect("F5: handlers find the mediator, whoever runs them", () =>
    Effect.gen(function*() {
      let dives = 0
      class Ask extends Command.Class<Ask>()("Ask", { emits: [A] }) {}
      const dive = Dive.toLayer(() => Effect.sync(() => ++dives))
      const ask = Ask.toLayer((_, { collect }) =>
        Effect.andThen(Effect.orDie(Mediator.send(new Dive({ depth: 0 }))), collect(new A({})))
      ).pipe(Layer.provideMerge(dive))
      const again = Again.toLayer(() => Effect.orDie(Mediator.send(new Dive({ depth: 0 })))).pipe(Layer.provide(dive))
      const { context } = yield* open(
        EventFlow.layer({ handlers: [Again] }).pipe(Layer.provide([again, Broker.layerNone]))
      )
      // A mediator as a value, which is not a service of the context
      const mediator = Context.get(context, Mediator.Mediator)
      yield* mediator.send(new Ask()).pipe(Effect.provide(ask))
      assert.strictEqual(dives, 2)
      yield* Context.get(context, EventProcessor.EventProcessor).process([new A({})]).pipe(
        Effect.provideService(Mediator.Mediator, mediator)
      )
      assert.strictEqual(dives, 3)
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
      const OnB = EventHandler.make("OnB", { on: B })
      const OnA = EventHandler.make("OnA", { on: A })
      const layer = Do.toLayer((_, { collect }) =>
        collect(new A({})).pipe(
          Effect.andThen(Effect.orDie(Mediator.send(new Inner()))),
          Effect.andThen(at("outer handler ends")),
          Effect.as("")
        )
      ).pipe(
        Layer.provideMerge(EventFlow.layer({ handlers: [OnA, OnB] })),
        Layer.provideMerge(Inner.toLayer((_, { collect }) => collect(new B({})))),
        Layer.provide([OnA.toLayer(() => work("A", 1)), OnB.toLayer(() => work("B", 1)), Broker.layerNone])
      )
      yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(entries, [
        "B starts@0",
        "B ends@1",
        "outer handler ends@1",
        "A starts@1",
        "A ends@2"
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

describe("F10: long chains and cycles", () => {
  class Step extends DomainEvent.Class<Step>()("Step", { left: Schema.Int }) {}
  const OnStep = EventHandler.make("OnStep", { on: Step, emits: [Step] })
  class Walk extends Command.Class<Walk>()("Walk", { payload: { steps: Schema.Int }, emits: [Step] }) {}

  const gc = (() => {
    setFlagsFromString("--expose-gc")
    return runInNewContext("gc") as () => void
  })()

  // How many continuations wait in the running fiber: not part of effect's API, and the very thing to be constant
  const pendingFrames = Effect.withFiber((fiber) =>
    Effect.succeed((fiber as unknown as { readonly _stack: ReadonlyArray<unknown> })._stack.length)
  )

  const length = 1_000_000
  const remembered = 1000

  for (const concurrency of [1, 4]) {
    it.live(
      `F10: a chain of a million in constant stack and memory, concurrency ${concurrency}`,
      () =>
        Effect.gen(function*() {
          const frames: Array<number> = []
          const early: Array<WeakRef<Step>> = []
          let steps = 0
          let alive = -1
          const layer = EventFlow.layer({ handlers: [OnStep], concurrency, maxDepth: Infinity }).pipe(
            Layer.provideMerge(Walk.toLayer(({ steps }, { collect }) => collect(new Step({ left: steps })))),
            Layer.provide(OnStep.toLayer(Effect.fnUntraced(function*(step, { collect }) {
              steps++
              if (early.length < remembered) early.push(new WeakRef(step))
              if (step.left % 100_000 === 0) frames.push(yield* pendingFrames)
              if (step.left === 2) {
                // A WeakRef keeps what it refers to until the job in which it was made has ended
                yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
                gc()
                alive = early.filter((reference) => reference.deref() !== undefined).length
              }
              if (step.left > 1) yield* collect(new Step({ left: step.left - 1 }))
            }))),
            Layer.provide(Broker.layerNone)
          )
          yield* Mediator.send(new Walk({ steps: length })).pipe(Effect.provide(layer))
          assert.strictEqual(steps, length)
          assert.strictEqual(new Set(frames).size, 1, `frames: ${frames}`)
          // The one that the command collected
          assert.strictEqual(alive, 1, `${alive} of the first ${remembered} events are still held`)
        }),
      60_000
    )
  }

  for (const concurrency of [1, 3]) {
    for (const onFailure of ["failFast", "accumulate", "log"] as const) {
      it.effect(`F10: a cycle ends in CascadeTooDeep, concurrency ${concurrency}, ${onFailure}`, () =>
        Effect.gen(function*() {
          let runs = 0
          const layer = flow({
            concurrency,
            onFailure,
            maxDepth: 7,
            events: [new A({}), new D({})],
            on: {
              A: (_, { collect }) => Effect.andThen(Effect.sync(() => runs++), collect(new B({}))),
              B: (_, { collect }) => Effect.andThen(Effect.sync(() => runs++), collect(new A({})))
            }
          })
          const exit = yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer)))
          // The command's own event is at depth 0, so depths 0 to 7 run
          assert.strictEqual(runs, 8)
          if (onFailure === "log") return assert.deepStrictEqual(exit, Exit.succeed("done"))
          const error = Option.getOrThrow(Exit.findErrorOption(exit))
          const tooDeep = error._tag === "EventsFailed" ? error.failures[0] : error
          assert.strictEqual(tooDeep._tag, "CascadeTooDeep")
          if (tooDeep._tag !== "CascadeTooDeep") return
          assert.strictEqual(tooDeep.event, "A")
          assert.strictEqual(tooDeep.maxDepth, 7)
          assert.include(tooDeep.message, "FlowGraph")
        }))
    }

    it.effect(`F10: 1000 follow-ups are allowed by default, one more is too deep, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const walk = (steps: number) =>
          Mediator.send(new Walk({ steps })).pipe(
            Effect.provide(
              EventFlow.layer({ handlers: [OnStep], concurrency }).pipe(
                Layer.provideMerge(Walk.toLayer(({ steps }, { collect }) => collect(new Step({ left: steps })))),
                Layer.provide(
                  OnStep.toLayer(({ left }, { collect }) =>
                    left === 0 ? Effect.void : collect(new Step({ left: left - 1 }))
                  )
                ),
                Layer.provide(Broker.layerNone)
              )
            )
          )
        assert.isTrue(Exit.isSuccess(yield* Effect.exit(walk(1000))))
        const error = yield* Effect.flip(walk(1001))
        assert.strictEqual(error._tag, "CascadeTooDeep")
      }))
  }

  it.effect("F10: a wide and deep tree in parallel does not take the stack", () =>
    Effect.gen(function*() {
      let runs = 0
      const layer = EventFlow.layer({ handlers: [OnStep], concurrency: "unbounded" }).pipe(
        Layer.provideMerge(Walk.toLayer(({ steps }, { collect }) => collect(new Step({ left: steps })))),
        Layer.provide(OnStep.toLayer(({ left }, { collectAll }) => {
          runs++
          return left === 0 ? Effect.void : collectAll([new Step({ left: left - 1 }), new Step({ left: left - 1 })])
        })),
        Layer.provide(Broker.layerNone)
      )
      yield* Mediator.send(new Walk({ steps: 13 })).pipe(Effect.provide(layer))
      assert.strictEqual(runs, 2 ** 14 - 1)
    }))
})

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

  it.effect("F12: handlers and a processor that is called by itself batch alike", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      yield* EventProcessor.EventProcessor.use((processor) =>
        processor.process([new News({ n: 1 }), new News({ n: 2 })])
      ).pipe(Effect.provide(flow({ broker: broker.layer })))
      assert.deepStrictEqual(broker.bodies, [[{ n: 1 }, { n: 2 }]])
    }))
})
