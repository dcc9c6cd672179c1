/** Observers beside one another: F21. */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  FlowObserver,
  Mediator,
  MemoryBroker,
  NotificationEvent
} from "@event-flow/core"
import { Tracker } from "@event-flow/core/testing"
import { Effect, Layer, Schema, Stream } from "effect"
import { CurrentRun } from "../../src/internal/dispatch/observerKeys.ts"

class Done extends DomainEvent.Class<Done>()("Done", {}) {}
class Told extends NotificationEvent.Class<Told>()("Told", {}, { topic: "told" }) {}
class Outer extends Command.Class<Outer>()("Outer", { emits: [Done, Told], sends: ["Inner"] }) {}
class Inner extends Command.Class<Inner>()("Inner", {}) {}
class Watch extends Command.Class<Watch>()("Watch", { success: Schema.Int, emits: [Done], stream: true }) {}
const OnDone = EventHandler.make("OnDone", { on: Done, sends: [Inner] })
const OnTold = EventHandler.make("OnTold", { on: Told, sends: [Inner] })
class Whole extends EventFlow.make("Whole", { commands: [Outer, Inner, Watch], handlers: [OnDone, OnTold] }) {}

const implementations = Layer.mergeAll(
  Outer.toLayer((_, { collectAll }) =>
    Effect.andThen(Mediator.send(new Inner()), collectAll([new Done(), new Told()]))
  ),
  Inner.toLayer(() => Effect.void),
  Watch.toLayer((_, { collect }) => Stream.tap(Stream.make(1, 2), () => collect(new Done()))),
  OnDone.toLayer(() => Mediator.send(new Inner())),
  OnTold.toLayer(() => Mediator.send(new Inner()))
)

/** Notes each call that it gets. */
const makeObserver = (isSampled: FlowObserver.FlowObserver["isSampled"] = () => true) => {
  const calls: Array<string> = []
  const asked: Array<string> = []
  const observer = FlowObserver.make({
    isSampled: (work) => {
      asked.push(work._tag === "Command" ? work.command._tag : work.message.topic)
      return isSampled(work)
    },
    commandStarted: (_, { _tag }, parent) => calls.push(`${_tag} starts${parent === undefined ? "" : ", nested"}`),
    commandHandling: () => calls.push("handling"),
    commandHandled: () => calls.push("handled"),
    commandEnded: (_, exit) => calls.push(`ends: ${exit._tag}`),
    handlerStarted: (_, handler, event) => calls.push(`${handler} starts: ${event._tag}`),
    handlerEnded: (_, exit) => calls.push(`handler ends: ${exit._tag}`),
    collected: (_, events) => calls.push(`collected ${events.map(({ _tag }) => _tag)}`),
    published: (events) => calls.push(`published ${events.map(({ _tag }) => _tag)}`),
    publishEnded: (_, exit) => calls.push(`publish ends: ${exit._tag}`),
    deliveryStarted: (_, message) => calls.push(`delivery of ${message.topic}`),
    deliveryDecoded: (_, { _tag }) => calls.push(`decoded ${_tag}`),
    deliveryEnded: (_, outcome) => calls.push(`delivery ends: ${outcome}`)
  })
  return { asked, calls, layer: FlowObserver.layer(observer) }
}

const inner = ["Inner starts, nested", "handling", "handled", "ends: Success"]
const ofOuter = [
  "Outer starts",
  "handling",
  ...inner,
  "handled",
  "collected Done,Told",
  "OnDone starts: Done",
  ...inner,
  "handler ends: Success",
  "published Told",
  "publish ends: Success",
  "ends: Success"
]
const ofDelivery = [
  "delivery of told",
  "decoded Told",
  "OnTold starts: Told",
  ...inner,
  "handler ends: Success",
  "delivery ends: handled"
]
const ofElement = ["collected Done", "OnDone starts: Done", ...inner, "handler ends: Success"]
const ofWatch = ["Watch starts", "handling", ...ofElement, ...ofElement, "handled", "ends: Success"]

const everything = [...ofOuter, ...ofDelivery, ...ofWatch]

/** The end of a publish and the delivery of its message overlap. */
const inOrder = (calls: ReadonlyArray<string>): ReadonlyArray<string> => {
  const [from, to] = [ofOuter.indexOf("published Told") + 1, ofOuter.length + ofDelivery.length]
  return [...calls.slice(0, from), ...calls.slice(from, to).sort(), ...calls.slice(to)]
}

const program = Effect.gen(function*() {
  yield* Mediator.send(new Outer())
  yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
  yield* Stream.runDrain(Mediator.stream(new Watch()))
})

/** The flow and its consumer, watched by whatever `observers` provides. */
const watched = (observers: Layer.Layer<never>, concurrency = 1) =>
  EventConsumer.layer(Whole, { group: "group" }).pipe(
    Layer.provideMerge(Whole.layer({ concurrency })),
    Layer.provide(implementations),
    Layer.provideMerge(MemoryBroker.layer()),
    Layer.provide(observers)
  )

describe("F21: observers add up", () => {
  type Observers = ReadonlyArray<Layer.Layer<never>>
  const [merged, provided] = [
    (all: Observers) => all.reduce((joined, one) => Layer.merge(joined, one)),
    (all: Observers) => all.reduce((joined, one) => Layer.provideMerge(joined, one))
  ]
  const ways: Record<string, (all: Observers) => Layer.Layer<never>> = {
    "Layer.merge": merged,
    "Layer.merge, the other way round": (all) => merged([...all].reverse()),
    "Layer.provideMerge": provided,
    "Layer.provideMerge, the other way round": (all) => provided([...all].reverse()),
    "Layer.mergeAll": ([first, ...rest]) => Layer.mergeAll(first!, ...rest),
    "both": ([first, second, ...rest]) =>
      rest.reduce((joined, one) => Layer.merge(one, joined), provided([second!, first!])),
    "one of them twice": ([first, ...rest]) => Layer.merge(Layer.merge(first!, merged([...rest, first!])), first!)
  }
  for (const count of [2, 3]) {
    for (const [way, join] of Object.entries(ways)) {
      it.effect(`F21: each of ${count} sees everything once, joined by ${way}`, () =>
        Effect.gen(function*() {
          const observers = Array.from({ length: count }, () => makeObserver())
          yield* Effect.provide(program, watched(join(observers.map(({ layer }) => layer))))
          for (const { asked, calls } of observers) {
            assert.deepStrictEqual(inOrder(calls), inOrder(everything))
            assert.deepStrictEqual(asked, ["Outer", "told", "Watch"])
          }
        }))
    }
  }

  it.effect("F21: one provided to each in turn, around a tracker", () =>
    Effect.gen(function*() {
      const [one, two] = [makeObserver(), makeObserver()]
      const layer = watched(Layer.empty).pipe(
        Layer.provide(one.layer),
        Layer.provideMerge(Tracker.layer),
        Layer.provide(two.layer)
      )
      const { flow } = yield* Effect.provide(Tracker.run(program), layer)
      assert.deepStrictEqual(flow.commands.map(({ command }) => command._tag), [
        "Outer",
        "Inner",
        "Inner",
        "Inner",
        "Watch",
        "Inner",
        "Inner"
      ])
      for (const { calls } of [one, two]) assert.deepStrictEqual(inOrder(calls), inOrder(everything))
    }))

  it.effect("F21: in parallel too", () =>
    Effect.gen(function*() {
      const [one, two] = [makeObserver(), makeObserver()]
      yield* Effect.provide(program, watched(Layer.merge(one.layer, two.layer), 3))
      for (const { calls } of [one, two]) {
        assert.deepStrictEqual([...calls].sort(), [...everything].sort())
      }
    }))

  it.effect("F21: those of two flows see what goes from the one to the other", () =>
    Effect.gen(function*() {
      class Ask extends Command.Class<Ask>()("Ask", { sends: [Inner] }) {}
      const [asking, answering, both] = [makeObserver(), makeObserver(), makeObserver()]
      const answers = EventFlow.make("Answering", { commands: [Inner] }).layer().pipe(
        Layer.provide(implementations),
        Layer.provide([answering.layer, both.layer])
      )
      const asks = EventFlow.make("Asking", { commands: [Ask] }).layer().pipe(
        Layer.provide(Ask.toLayer(() => Mediator.send(new Inner()))),
        Layer.provide([asking.layer, both.layer])
      )
      yield* Effect.provide(Mediator.send(new Ask()), Layer.provide(asks, answers))
      const whole = ["Ask starts", "handling", ...inner, "handled", "ends: Success"]
      assert.deepStrictEqual(asking.calls, whole)
      assert.deepStrictEqual(both.calls, whole)
      assert.deepStrictEqual(both.asked, ["Ask"])
      assert.deepStrictEqual(answering.calls, inner)
      assert.deepStrictEqual(answering.asked, ["Inner"])
    }))
})

describe("F21: an observer that does not sample", () => {
  for (const concurrency of [1, 3]) {
    it.effect(`F21: is not called, and the others are, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const [all, none, commands, deliveries] = [
          makeObserver(),
          makeObserver(() => false),
          makeObserver(({ _tag }) => _tag === "Command"),
          makeObserver(({ _tag }) => _tag === "Delivery")
        ]
        const observers = Layer.mergeAll(all.layer, none.layer, commands.layer, deliveries.layer)
        yield* Effect.provide(program, watched(observers, concurrency))
        const sorted = (calls: ReadonlyArray<string>) => concurrency === 1 ? calls : [...calls].sort()
        assert.deepStrictEqual(sorted(inOrder(all.calls)), sorted(inOrder(everything)))
        assert.deepStrictEqual(none.calls, [])
        // What a flow leads to follows the answer for its start
        assert.deepStrictEqual(sorted(commands.calls), sorted([...ofOuter, ...ofWatch]))
        assert.deepStrictEqual(sorted(deliveries.calls), sorted(ofDelivery))
        for (const { asked } of [all, none, commands, deliveries]) {
          assert.deepStrictEqual(asked, ["Outer", "told", "Watch"])
        }
      }))
  }

  it.effect("F21: leaves nothing in the context of a handler, which is nobody's run", () =>
    Effect.gen(function*() {
      const runs: Array<object | undefined> = []
      class Look extends Command.Class<Look>()("Look", {}) {}
      const look = (observer: Layer.Layer<never>) =>
        Mediator.send(new Look()).pipe(Effect.provide(
          EventFlow.make("Looking", { commands: [Look] }).layer().pipe(
            Layer.provide(Look.toLayer(() => Effect.map(CurrentRun, (run) => void runs.push(run)))),
            Layer.provide(observer)
          )
        ))
      yield* look(makeObserver(() => false).layer)
      yield* look(makeObserver().layer)
      assert.isUndefined(runs[0])
      assert.isDefined(runs[1])
    }))

  it.effect("F21: watches a flow that is built while a command of another one runs", () =>
    Effect.gen(function*() {
      const observer = makeObserver()
      class Build extends Command.Class<Build>()("Build", {}) {}
      const built = EventFlow.make("Built", { commands: [Inner] }).layer().pipe(
        Layer.provide(Inner.toLayer(() => Effect.void)),
        Layer.provide(observer.layer),
        Layer.orDie
      )
      const building = EventFlow.make("Building", { commands: [Build] }).layer().pipe(
        Layer.provide(Build.toLayer(() => Mediator.send(new Inner()).pipe(Effect.provide(built)))),
        Layer.provide(observer.layer)
      )
      yield* Mediator.send(new Build()).pipe(Effect.provide(building))
      assert.deepStrictEqual(observer.calls, ["Build starts", "handling", ...inner, "handled", "ends: Success"])
    }))

  it.effect("F21: is asked about each flow anew", () =>
    Effect.gen(function*() {
      let sends = 0
      const second = makeObserver(() => ++sends === 2)
      const send = Effect.repeat(Mediator.send(new Inner()), { times: 2 })
      yield* Effect.provide(send, watched(second.layer))
      assert.deepStrictEqual(second.calls, ["Inner starts", "handling", "handled", "ends: Success"])
      assert.strictEqual(sends, 3)
    }))
})
