/** The commands that handlers send, which the flow gives to them. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  Command,
  Correlation,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  Middleware,
  NotificationEvent,
  Query
} from "@event-flow/core"
import { Effect, Layer, Schema, Stream } from "effect"
import { Journal } from "../fixtures.ts"

class Done extends DomainEvent.Class<Done>()("Done", {}) {}
class Told extends NotificationEvent.Class<Told>()("Told", {}, { topic: "told" }) {}

/** A command of another flow, which only the flows that send it know. */
class Charge extends Command.Class<Charge>()("Charge", { success: Schema.String }) {}
class Payments extends EventFlow.make("Payments", { commands: [Charge] }) {}
const payments = Payments.layer().pipe(Layer.provide(Charge.toLayer(() => Effect.succeed("charged"))))
const charge = Mediator.send(new Charge())

describe("a command that sends", () => {
  it.effect("two that send each other: the one by its class, the other by its tag", () =>
    Effect.gen(function*() {
      class Even extends Query.Class<Even>()("Even", {
        payload: { n: Schema.Int },
        success: Schema.Boolean,
        sends: ["Odd"]
      }) {}
      class Odd extends Query.Class<Odd>()("Odd", {
        payload: { n: Schema.Int },
        success: Schema.Boolean,
        sends: [Even]
      }) {}
      const layer = EventFlow.make("Parity", { commands: [Even, Odd] }).layer().pipe(
        Layer.provide([
          Even.toLayer(({ n }) => n === 0 ? Effect.succeed(true) : Mediator.send(new Odd({ n: n - 1 }))),
          Odd.toLayer(({ n }) => n === 0 ? Effect.succeed(false) : Mediator.send(new Even({ n: n - 1 })))
        ])
      )
      const answers = yield* Effect.forEach([0, 1, 6, 7], (n) => Mediator.send(new Even({ n }))).pipe(
        Effect.provide(layer)
      )
      assert.deepStrictEqual(answers, [true, false, true, false])
    }))

  it.effect("itself", () =>
    Effect.gen(function*() {
      class Sum extends Query.Class<Sum>()("Sum", { payload: { n: Schema.Int }, success: Schema.Int }) {}
      const layer = EventFlow.make("Sums", { commands: [Sum] }).layer().pipe(
        Layer.provide(
          Sum.toLayer(({ n }) =>
            n === 0 ? Effect.succeed(0) : Effect.map(Mediator.send(new Sum({ n: n - 1 })), (sum) => sum + n)
          )
        )
      )
      assert.strictEqual(yield* Effect.provide(Mediator.send(new Sum({ n: 4 })), layer), 10)
    }))

  const targets = { class: [Charge], tag: ["Charge"] } as const
  for (const how of ["class", "tag"] as const) {
    it.effect(`one of another flow, by its ${how}, which the sender does not have`, () =>
      Effect.gen(function*() {
        class Order extends Command.Class<Order>()("Order", { success: Schema.String, sends: targets[how] }) {}
        class Orders extends EventFlow.make("Orders", { commands: [Order] }) {}
        const layer = Orders.layer().pipe(Layer.provide(Order.toLayer(() => charge)), Layer.provide(payments))
        const context = yield* Layer.build(layer)
        assert.notInclude([...context.mapUnsafe.keys()].join(), "Charge")
        assert.strictEqual(yield* Effect.provideContext(Mediator.send(new Order()), context), "charged")
      }))
  }

  it.effect("in a stream, and a stream", () =>
    Effect.gen(function*() {
      class Numbers extends Query.Class<Numbers>()("Numbers", { success: Schema.Int, stream: true }) {}
      class Texts extends Query.Class<Texts>()("Texts", {
        success: Schema.String,
        stream: true,
        sends: [Numbers, Charge]
      }) {}
      const layer = EventFlow.make("Streams", { commands: [Texts, Numbers] }).layer().pipe(
        Layer.provide([
          Numbers.toLayer(() => Stream.make(1, 2)),
          Texts.toLayer(() =>
            Stream.mapEffect(Mediator.stream(new Numbers()), (n) => Effect.map(charge, (text) => `${n} ${text}`))
          )
        ]),
        Layer.provide(payments)
      )
      const texts = yield* Effect.provide(Stream.runCollect(Mediator.stream(new Texts())), layer)
      assert.deepStrictEqual(texts, ["1 charged", "2 charged"])
    }))

  it.effect("through a mediator of its own, which it lists", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const audit = Middleware.make((effect, info) => Effect.andThen(note(`audit ${info.tag}`), effect))
      class Audited extends Mediator.Service<Audited>()("test/AuditedSends", { middleware: [audit] }) {}
      class Order extends Command.Class<Order>()("Order", { success: Schema.String, emits: [Done], sends: [Charge] }) {}
      const Ship = EventHandler.make("Ship", { on: Done, sends: [Charge] })
      const layer = EventFlow.make("Orders", { commands: [Order], handlers: [Ship] }).layer().pipe(
        Layer.provide([
          Order.toLayer([Audited], (_, { collect }) => Effect.andThen(collect(new Done()), Audited.send(new Charge()))),
          Ship.toLayer([Audited], () => Effect.asVoid(Audited.send(new Charge())))
        ]),
        Layer.provide([payments, Audited.layer()])
      )
      assert.strictEqual(yield* Effect.provide(Mediator.send(new Order()), layer), "charged")
      assert.deepStrictEqual(entries, ["audit Charge", "audit Charge"])
    }))

  it.effect("by another flow that it provides itself, and what that one sends in turn", () =>
    Effect.gen(function*() {
      class Where extends Query.Class<Where>()("Where", { success: Schema.String }) {}
      class Ask extends Query.Class<Ask>()("Ask", { success: Schema.Array(Schema.String), sends: [Where] }) {}
      class Visit
        extends Query.Class<Visit>()("Visit", { success: Schema.Array(Schema.String), sends: [Where, Ask] })
      {}
      class Tenant extends EventFlow.make("Tenant", { commands: [Where, Ask, Visit] }) {}
      const tenant = (name: string, visit: Effect.Effect<ReadonlyArray<string>, never, Command.CommandFlow<"Where">>) =>
        Tenant.layer().pipe(
          Layer.provide([
            Where.toLayer(() => Effect.succeed(name)),
            Ask.toLayer(() => Effect.map(Mediator.send(new Where()), (where) => [where])),
            Visit.toLayer(() => visit)
          ])
        )
      const where = Mediator.send(new Where())
      const two = tenant("two", Effect.succeed([]))
      const one = tenant(
        "one",
        Effect.gen(function*() {
          const there = Effect.provide(Effect.all([where, Mediator.send(new Ask())]), two)
          const correlated = Effect.provide(Correlation.provide(where, Correlation.make("ours")), two)
          return [yield* where, ...(yield* Effect.orDie(there)).flat(), yield* Effect.orDie(correlated), yield* where]
        })
      )
      for (const layer of [one, Layer.provideMerge(one, two)]) {
        const visited = yield* Effect.provide(Mediator.send(new Visit()), layer)
        assert.deepStrictEqual(visited, ["one", "two", "two", "two", "one"])
      }
    }))
})

describe("a handler of an event that sends", () => {
  class Tell extends Command.Class<Tell>()("Tell", { emits: [Told] }) {}
  class Count extends Command.Class<Count>()("Count", { success: Schema.Int }) {}

  const setup = () => {
    const { entries, note } = new Journal()
    let count = 0
    return {
      entries,
      hears: Effect.gen(function*() {
        yield* note(`${yield* Mediator.send(new Count())} ${yield* charge}`)
      }),
      implementations: Layer.mergeAll(
        Tell.toLayer((_, { collect }) => collect(new Told())),
        Count.toLayer(() => Effect.sync(() => ++count))
      )
    }
  }

  for (const concurrency of [1, 3]) {
    it.effect(`in its flow and in another one, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        class Finish extends Command.Class<Finish>()("Finish", { emits: [Done] }) {}
        const Hear = EventHandler.make("Hear", { on: Done, sends: [Count, Charge] })
        class Whole extends EventFlow.make("Whole", { commands: [Finish, Count], handlers: [Hear] }) {}
        const { entries, hears, implementations } = setup()
        const layer = Whole.layer({ concurrency }).pipe(
          Layer.provide([
            implementations,
            Finish.toLayer((_, { collect }) => collect(new Done())),
            Hear.toLayer(() => hears)
          ]),
          Layer.provide(payments)
        )
        yield* Effect.repeat(Mediator.send(new Finish()), { times: 1 }).pipe(Effect.provide(layer))
        assert.deepStrictEqual(entries, ["1 charged", "2 charged"])
      }))
  }

  const told = Effect.andThen(Mediator.send(new Tell()), MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle))
  const Hear = EventHandler.make("HearTold", { on: Told, sends: [Count, Charge] })

  it.effect("in the consumer of its flow", () =>
    Effect.gen(function*() {
      class Whole extends EventFlow.make("Whole", { commands: [Tell, Count], handlers: [Hear] }) {}
      const { entries, hears, implementations } = setup()
      const layer = EventConsumer.layer(Whole, { group: "group" }).pipe(
        Layer.provide([Hear.toLayer(() => hears), payments]),
        Layer.provideMerge(Whole.layer()),
        Layer.provide(implementations),
        Layer.provideMerge(MemoryBroker.layer())
      )
      yield* Effect.provide(told, layer)
      assert.deepStrictEqual(entries, ["1 charged"])
    }))

  it.effect("in a consumer apart from any flow", () =>
    Effect.gen(function*() {
      class Telling extends EventFlow.make("Telling", { commands: [Tell] }) {}
      class Counting extends EventFlow.make("Counting", { commands: [Count] }) {}
      const { entries, hears, implementations } = setup()
      const layer = EventConsumer.layer([Hear], { group: "group" }).pipe(
        Layer.provide([Hear.toLayer(() => hears), payments, Layer.provide(Counting.layer(), implementations)]),
        Layer.provideMerge(Layer.provide(Telling.layer(), implementations)),
        Layer.provideMerge(MemoryBroker.layer())
      )
      yield* Effect.provide(told, layer)
      assert.deepStrictEqual(entries, ["1 charged"])
    }))

  it.effect("a follow-up in a consumer apart from any flow", () =>
    Effect.gen(function*() {
      class Telling extends EventFlow.make("Telling", { commands: [Tell, Count] }) {}
      const First = EventHandler.make("First", { on: Told, emits: [Done] })
      const Second = EventHandler.make("Second", { on: Done, sends: [Count, Charge] })
      const { entries, hears, implementations } = setup()
      const layer = EventConsumer.layer([First, Second], { group: "group" }).pipe(
        Layer.provide([
          First.toLayer((_, { collect }) => collect(new Done())),
          Second.toLayer(() => hears),
          payments
        ]),
        Layer.provideMerge(Telling.layer()),
        Layer.provide(implementations),
        Layer.provideMerge(MemoryBroker.layer())
      )
      yield* Effect.provide(told, layer)
      assert.deepStrictEqual(entries, ["1 charged"])
    }))
})

it.effect("what nobody listed is said so, if a cast gets it past the compiler", () =>
  Effect.gen(function*() {
    class Sneak extends Command.Class<Sneak>()("Sneak", { success: Schema.String }) {}
    const sneaking = Sneak.toLayer(() => charge as Effect.Effect<string>)
    const layer = EventFlow.make("Sneaking", { commands: [Sneak] }).layer().pipe(
      Layer.provide(sneaking),
      Layer.provide(Broker.layerNone)
    )
    const exit = yield* Effect.exit(Effect.provide(Mediator.send(new Sneak()), layer))
    assert.include(String(exit), "No flow with command \"Charge\" is provided: list it in an EventFlow")
  }))
