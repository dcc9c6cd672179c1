/** Two definitions of one name, in one flow, in two flows, and in two copies of a module: F14. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  Command,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  NotificationEvent
} from "@event-flow/core"
import { Cause, Effect, Exit, Layer, LayerMap, Schema } from "effect"

/** A module that is evaluated twice has each of its classes twice. */
const load = () => {
  class Done extends DomainEvent.Class<Done>()("Done", { id: Schema.String }) {}
  class Told extends NotificationEvent.Class<Told>()("Told", {}, { topic: "told" }) {}
  class Work extends Command.Class<Work>()("Work", { payload: { id: Schema.String }, emits: [Done] }) {}
  const OnDone = EventHandler.make("OnDone", { on: Done })
  const OnTold = EventHandler.make("OnTold", { on: Told })
  class Flow extends EventFlow.make("Flow", { commands: [Work], handlers: [OnDone] }) {}
  const WorkLive = Work.toLayer(({ id }, { collect }) => collect(new Done({ id })))
  const OnDoneLive = OnDone.toLayer(() => Effect.void)
  return { Done, Flow, OnDone, OnDoneLive, OnTold, Told, Work, WorkLive }
}

const one = load()
const two = load()

class Other extends Command.Class<Other>()("Work", { payload: { name: Schema.String } }) {}

const errorOf = <A, E>(layer: Layer.Layer<A, E>) =>
  Effect.map(Effect.flip(Effect.scoped(Layer.build(layer))), (error) => (error as unknown as Error).message)

describe("F14: in one flow", () => {
  it.effect("F14: two commands of one tag", () =>
    Effect.gen(function*() {
      const layer = EventFlow.make("Shop", { commands: [one.Work, Other] }).layer().pipe(Layer.provide(one.WorkLive))
      assert.strictEqual(
        yield* errorOf(layer),
        "Two commands have the tag \"Work\": the one with payload {id} of flow \"Shop\", " +
          "and the one with payload {name} of flow \"Shop\". Rename one"
      )
    }))

  it.effect("F14: two event handlers of one name", () =>
    Effect.gen(function*() {
      class Left extends DomainEvent.Class<Left>()("Left", {}) {}
      const Namesake = EventHandler.make("OnDone", { on: [Left, one.Told] })
      const layer = EventFlow.make("Shop", { handlers: [one.OnTold, Namesake] }).layer().pipe(
        Layer.provide(Namesake.toLayer(() => Effect.void))
      )
      assert.deepStrictEqual((yield* Effect.exit(Layer.build(layer)))._tag, "Success")
      const twice = EventFlow.make("Shop", { handlers: [one.OnDone, Namesake] }).layer().pipe(
        Layer.provide(one.OnDoneLive)
      )
      assert.strictEqual(
        yield* errorOf(twice),
        "Two event handlers are named \"OnDone\": the one on \"Done\", and the one on \"Left\", \"Told\". Rename one"
      )
    }))

  it.effect("F14: two handlers of notification events of one name, which a consumer runs", () =>
    Effect.gen(function*() {
      class Asked extends NotificationEvent.Class<Asked>()("Asked", {}, { topic: "asked" }) {}
      const Namesake = EventHandler.make("OnTold", { on: Asked })
      const message = "Two event handlers are named \"OnTold\": the one on \"Told\""
      const flow = EventFlow.make("Shop", { handlers: [one.OnTold, Namesake] })
      assert.include(yield* errorOf(flow.layer()), message)
      const consumer = EventConsumer.layer([one.OnTold, Namesake], { group: "g" }).pipe(
        Layer.provide([one.OnTold.toLayer(() => Effect.void), MemoryBroker.layer()])
      )
      assert.include(yield* errorOf(consumer), message)
    }))

  it.effect("F14: two event classes of one tag, of which one is emitted only", () =>
    Effect.gen(function*() {
      class Namesake extends NotificationEvent.Class<Namesake>()("Done", { n: Schema.Int }, { topic: "t" }) {}
      class Emit extends Command.Class<Emit>()("Emit", { emits: [Namesake] }) {}
      const React = EventHandler.make("React", { on: one.Told, emits: [Namesake] })
      const implementations = Layer.mergeAll(one.OnDoneLive, Emit.toLayer(() => Effect.void), Broker.layerNone)
      const handled = "Two event classes have the tag \"Done\": the one with fields {id} handled by \"OnDone\", "
      for (
        const [layer, second] of [
          [EventFlow.make("Shop", { commands: [Emit], handlers: [one.OnDone] }).layer(), "emitted by \"Emit\""],
          [EventFlow.make("Shop", { handlers: [one.OnDone, React] }).layer(), "emitted by \"React\""]
        ] as const
      ) {
        assert.strictEqual(
          yield* errorOf(Layer.provide(layer, implementations)),
          `${handled}and the one with fields {n} ${second}. Rename one`
        )
      }
    }))
})

describe("F14: in two flows of one program", () => {
  const shop = EventFlow.make("Shop", { commands: [one.Work], handlers: [one.OnTold] })
  const implementations = Layer.mergeAll(one.WorkLive, one.OnDoneLive)

  it.effect("F14: two commands of one tag", () =>
    Effect.gen(function*() {
      const store = EventFlow.make("Store", { commands: [Other] })
      const message = yield* errorOf(
        Layer.provideMerge(
          store.layer().pipe(Layer.provide(Other.toLayer(() => Effect.void))),
          shop.layer().pipe(Layer.provide(one.WorkLive))
        )
      )
      assert.strictEqual(
        message,
        "Two commands have the tag \"Work\": the one with payload {id} of flow \"Shop\", " +
          "and the one with payload {name} of flow \"Store\". Rename one"
      )
    }))

  it.effect("F14: one command, which only one of them may list", () =>
    Effect.gen(function*() {
      const store = EventFlow.make("Store", { commands: [one.Work] })
      const message = yield* errorOf(
        Layer.merge(shop.layer(), store.layer()).pipe(Layer.provide(implementations))
      )
      assert.match(message, /^Two commands have the tag "Work": .* of flow "(Shop|Store)", .* of flow "(Shop|Store)"/)
    }))

  it.effect("F14: one handler, or two of one name", () =>
    Effect.gen(function*() {
      const Namesake = EventHandler.make("OnTold", { on: one.Done })
      for (const handler of [one.OnTold, Namesake]) {
        const store = EventFlow.make("Store", { handlers: [handler as typeof Namesake] })
        const message = yield* errorOf(
          Layer.merge(shop.layer(), store.layer()).pipe(
            Layer.provide([implementations, Namesake.toLayer(() => Effect.void)])
          )
        )
        assert.match(message, /^Two event handlers are named "OnTold": .* of flow "(Shop|Store)"/)
      }
    }))

  it.effect("F14: a flow beside the one that it is part of", () =>
    Effect.gen(function*() {
      const whole = EventFlow.make("Whole", { flows: [shop] })
      const message = yield* errorOf(
        Layer.merge(shop.layer(), whole.layer()).pipe(Layer.provide(implementations))
      )
      assert.match(message, /^Two commands have the tag "Work": .* of flow "(Shop|Whole)", .* of flow "(Shop|Whole)"/)
    }))

  it.effect("F14: two flows of one name", () =>
    Effect.gen(function*() {
      class Else extends Command.Class<Else>()("Else", {}) {}
      const namesake = EventFlow.make("Shop", { commands: [Else] })
      const message = yield* errorOf(
        Layer.merge(shop.layer(), namesake.layer()).pipe(
          Layer.provide([implementations, Else.toLayer(() => Effect.void)])
        )
      )
      assert.match(message, /^Two flows are named "Shop": /)
      assert.include(message, "Work")
      assert.include(message, "Else")
    }))

  it.effect("events of one tag belong to their flows", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const flows = [1, 2].map((n) => {
        class Left extends DomainEvent.Class<Left>()("Left", {}) {}
        class Leave extends Command.Class<Leave>()(`Leave${n}`, { emits: [Left] }) {}
        const OnLeft = EventHandler.make(`OnLeft${n}`, { on: Left })
        const layer = EventFlow.make(`Flow${n}`, { commands: [Leave], handlers: [OnLeft] }).layer().pipe(
          Layer.provide([
            Leave.toLayer((_, { collect }) => collect(new Left())),
            OnLeft.toLayer(() => Effect.sync(() => void seen.push(`OnLeft${n}`)))
          ])
        )
        return { layer, send: Mediator.send(new Leave()) }
      })
      yield* Effect.forEach(flows, ({ send }) => send).pipe(
        Effect.provide(Layer.merge(flows[0]!.layer, flows[1]!.layer))
      )
      assert.deepStrictEqual(seen, ["OnLeft1", "OnLeft2"])
    }))

  it.effect("a flow may be built more than once, and a name is free when its flow is closed", () =>
    Effect.gen(function*() {
      class Tenants extends LayerMap.Service<Tenants>()("test/Tenants", {
        lookup: (tenant: string) =>
          one.Flow.layer({ source: tenant }).pipe(Layer.provide([one.WorkLive, one.OnDoneLive]))
      }) {}
      const work = (tenant: string) =>
        Mediator.send(new one.Work({ id: "1" })).pipe(Effect.provide(Tenants.get(tenant)))
      yield* Effect.andThen(work("/one"), work("/two")).pipe(Effect.provide(Tenants.layer))
      const memoMap = yield* Layer.makeMemoMap
      const store = EventFlow.make("Store", { commands: [one.Work] }).layer()
      const build = <A, E>(layer: Layer.Layer<A, E>) =>
        Effect.scoped(Effect.flatMap(Effect.scope, (scope) => Layer.buildWithMemoMap(layer, memoMap, scope)))
      yield* build(Layer.provide(shop.layer(), one.WorkLive))
      yield* build(Layer.provide(store, one.WorkLive))
    }))
})

describe("F14: in two copies of a module", () => {
  const squashed = (exit: Exit.Exit<unknown, unknown>) =>
    Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "success"

  it.effect("F14: a command of the other copy is sent", () =>
    Effect.gen(function*() {
      const exit = yield* Mediator.send(new two.Work({ id: "1" })).pipe(
        Effect.provide(one.Flow.layer().pipe(Layer.provide([one.WorkLive, one.OnDoneLive]))),
        Effect.exit
      )
      assert.strictEqual(
        squashed(exit),
        "Error: Two command classes have the tag \"Work\": the one with payload {id}, of flow \"Flow\", and " +
          "the one with payload {id}, which was sent. Rename one, or remove the second copy of its module"
      )
    }))

  it.effect("F14: an event of the other copy is emitted", () =>
    Effect.gen(function*() {
      const work = one.Work.toLayer(({ id }, { collect }) => collect(new two.Done({ id })))
      const exit = yield* Mediator.send(new one.Work({ id: "1" })).pipe(
        Effect.provide(one.Flow.layer().pipe(Layer.provide([work, one.OnDoneLive]))),
        Effect.exit
      )
      assert.include(squashed(exit), "Two event classes have the tag \"Done\": the one that handler \"OnDone\" handles")
      assert.include(squashed(exit), "It is a second copy of the module")
    }))

  it.effect("F14: a handler of the other copy is listed", () =>
    Effect.gen(function*() {
      const flow = EventFlow.make("Mixed", { commands: [one.Work], handlers: [two.OnDone] })
      assert.include(
        yield* errorOf(flow.layer().pipe(Layer.provide([one.WorkLive, two.OnDoneLive]))),
        "Two event classes have the tag \"Done\": the one with fields {id} handled by \"OnDone\", " +
          "and the one with fields {id} emitted by \"Work\""
      )
    }))

  it.effect("F14: implementations of the other copy are provided", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* errorOf(one.Flow.layer().pipe(Layer.provide([two.WorkLive, one.OnDoneLive]))),
        "Two commands have the tag \"Work\": the one with payload {id} of flow \"Flow\", " +
          "and the one with payload {id} whose implementation is provided. Rename one"
      )
      assert.strictEqual(
        yield* errorOf(one.Flow.layer().pipe(Layer.provide([one.WorkLive, two.OnDoneLive]))),
        "Two event handlers are named \"OnDone\": the one on \"Done\", and the one on \"Done\". Rename one"
      )
    }))

  it.effect("F14: both flows are in one program", () =>
    Effect.gen(function*() {
      const message = yield* errorOf(Layer.merge(
        one.Flow.layer().pipe(Layer.provide([one.WorkLive, one.OnDoneLive])),
        two.Flow.layer().pipe(Layer.provide([two.WorkLive, two.OnDoneLive]))
      ))
      assert.match(message, /^Two flows are named "Flow"/)
    }))
})
