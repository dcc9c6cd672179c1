/** What the handlers of a consumer can ask about the message that they run for. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  BrokerLayer,
  Command,
  ConsumedMessage,
  ConsumerPolicy,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Effect, Layer, Schedule, Schema } from "effect"
import { adjust, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { failing, order, setup } from "./support.ts"

type Seen = ConsumedMessage.ConsumedMessage | undefined

/** What is asked for in a place of a flow. */
const noting = (seen: Array<readonly [string, Seen]>, where: string) =>
  Effect.map(ConsumedMessage.current, (consumed) => void seen.push([where, consumed]))

describe("the consumed message", () => {
  it.effect("is there in a handler, in its follow-ups and in the commands that it sends, and nowhere else", () =>
    Effect.gen(function*() {
      class Noted extends NotificationEvent.Class<Noted>()("Noted", { n: Schema.Int }, { topic: "notes" }) {}
      class Counted extends DomainEvent.Class<Counted>()("Counted", {}) {}
      class Count extends Command.Class<Count>()("Count", { emits: [Counted] }) {}
      const OnNoted = EventHandler.make("OnNoted", { on: Noted, emits: [Counted], sends: [Count] })
      const OnCounted = EventHandler.make("OnCounted", { on: Counted })
      class Notes extends EventFlow.make("Notes", { commands: [Count], handlers: [OnNoted, OnCounted] }) {}
      const seen: Array<readonly [string, Seen]> = []
      const consumer = EventConsumer.layer(Notes, { group: "readers" }).pipe(
        Layer.provide(OnNoted.toLayer(Effect.fnUntraced(function*(_, { collect }) {
          yield* noting(seen, "handler")
          yield* Effect.orDie(Mediator.send(new Count()))
          yield* collect(new Counted())
        }))),
        Layer.provideMerge(Notes.layer()),
        Layer.provide([
          Count.toLayer((_, { collect }) => Effect.andThen(noting(seen, "command"), collect(new Counted()))),
          OnCounted.toLayer(() => noting(seen, "follow-up"))
        ]),
        Layer.provideMerge(MemoryBroker.layer())
      )
      yield* Effect.gen(function*() {
        const { publish } = yield* Broker.Broker
        yield* publish([Message.make({
          topic: "notes",
          attributes: { id: "n-1", type: "Noted.v1", source: "/x", tenant: "acme" },
          headers: { own: ["1", "2"] },
          body: new TextEncoder().encode("{\"n\":1}")
        })])
        yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
        assert.deepStrictEqual(seen.map(([where]) => where), ["handler", "command", "follow-up", "follow-up"])
        for (const [where, consumed] of seen) {
          const { attempt, group, message, origin } = consumed!
          assert.deepStrictEqual([attempt, group], [1, "readers"], where)
          assert.deepStrictEqual(origin, { topic: "notes", offset: "0" }, where)
          assert.strictEqual(message.attributes["tenant"], "acme", where)
          assert.deepStrictEqual(Message.headerValues(message, "own"), ["1", "2"], where)
        }
        seen.length = 0
        yield* Mediator.send(new Count())
        yield* noting(seen, "outside")
        assert.deepStrictEqual(seen, [["command", undefined], ["follow-up", undefined], ["outside", undefined]])
      }).pipe(Effect.provide(consumer))
    }))

  it.effect("counts attempts: in place, after a delay, and those of the broker; and stays what it was", () =>
    Effect.gen(function*() {
      const seen: Array<ConsumedMessage.ConsumedMessage> = []
      const attempts: Array<number> = []
      const fail = failing(2)
      const { deliver } = yield* setup(
        { policy: () => ConsumerPolicy.retry(Schedule.recurs(5)) },
        (event, collect) =>
          Effect.flatMap(ConsumedMessage.current, (consumed) => {
            seen.push(consumed!)
            attempts.push(consumed!.attempt)
            return fail(event, collect)
          })
      )
      yield* deliver(order(1))
      yield* adjust(0)
      const retry = {
        group: "group",
        step: 2,
        due: 0,
        attempts: 4,
        topic: "orders",
        reason: "",
        error: "",
        origin: {}
      }
      yield* deliver(order(1, { headers: BrokerLayer.encodeRetry(retry) }))
      yield* adjust(0)
      assert.deepStrictEqual(attempts, [1, 2, 3, 5])
      // Asked later, of a message that is done
      assert.deepStrictEqual(seen.map(({ attempt }) => attempt), [3, 3, 3, 5])
    }))
})

describe("what an event says of its message", () => {
  class Paid extends NotificationEvent.Class<Paid>()("Paid", { order: Schema.String, tenant: Schema.String }, {
    topic: "payments",
    key: ({ order }) => order,
    id: ({ order }) => order === "none" ? "" : `paid-${order}`,
    headers: ({ tenant }) => ({ tenant, list: ["1", "2"] })
  }) {}
  class Pay extends Command.Class<Pay>()("Pay", { payload: { order: Schema.String }, emits: [Paid] }) {}
  class Payments extends EventFlow.make("Payments", { commands: [Pay] }) {}

  for (const contentMode of ["binary", "structured"] as const) {
    it.effect(`is its id, the same for a command that is tried again, and its headers: ${contentMode}`, () =>
      Effect.gen(function*() {
        const broker = new RecordingBroker()
        const layer = Payments.layer({ contentMode }).pipe(
          Layer.provide([
            Pay.toLayer(({ order }, { collect }) => collect(new Paid({ order, tenant: "acme" }))),
            broker.layer,
            new RecordingLogger().layer
          ])
        )
        yield* Effect.gen(function*() {
          for (const order of ["1", "1", "none"]) yield* Mediator.send(new Pay({ order }))
        }).pipe(Effect.provide(layer))
        const [first, again, none] = broker.batches.map(([message]) => message!)
        assert.strictEqual(first!.attributes["id"], "paid-1")
        assert.strictEqual(again!.attributes["id"], "paid-1")
        assert.match(none!.attributes["id"]!, /^[0-9a-f-]{36}$/)
        assert.deepStrictEqual(first!.headers, { tenant: "acme", list: ["1", "2"] })
      }))
  }

  it.effect("is sent along with the baggage of the message that led to it", () =>
    Effect.gen(function*() {
      const OnPaid = EventHandler.make("OnPaid", { on: Paid, emits: [Paid] })
      const broker = yield* MemoryBroker.MemoryBroker
      yield* Broker.Broker.use(({ publish }) =>
        publish([Message.make({
          topic: "payments",
          attributes: { id: "first", type: "Paid.v1" },
          headers: { baggage: "a=1" },
          body: new TextEncoder().encode(JSON.stringify({ order: "1", tenant: "x" }))
        })])
      )
      yield* Layer.build(
        EventConsumer.layer([OnPaid], { group: "group" }).pipe(
          Layer.provide(
            OnPaid.toLayer(({ order }, { collect }) =>
              order === "1" ? collect(new Paid({ order: "2", tenant: "acme" })) : Effect.void
            )
          )
        )
      )
      yield* broker.awaitIdle
      const [, second] = yield* broker.messages("payments")
      assert.deepStrictEqual(second!.headers, { tenant: "acme", list: ["1", "2"], baggage: "a=1" })
      assert.strictEqual(second!.attributes["causationid"], "first")
    }).pipe(Effect.provide(MemoryBroker.layer())))
})
