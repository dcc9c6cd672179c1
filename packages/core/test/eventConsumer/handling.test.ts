import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  Correlation,
  EventConsumer,
  EventFlow,
  EventHandler,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Context, Effect, Exit, Layer } from "effect"
import { adjust, bodyOf, Journal, open } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { Counted, OnCounted, OnOrdered, order, settled, setup, Shipped } from "./support.ts"

describe("a message that is handled", () => {
  it.effect("is acknowledged when its handlers and their follow-ups are done", () =>
    Effect.gen(function*() {
      const { at, entries, work } = new Journal()
      const { broker, deliver, log } = yield* setup(
        { publish: () => work("publish", 10) },
        ({ n }, { collect }) => Effect.andThen(collect(new Counted({ n })), work(`order ${n}`, 10))
      )
      yield* deliver(order(1))
      yield* adjust(19)
      assert.deepStrictEqual(log, [])
      yield* adjust(1)
      yield* at("end")
      assert.deepStrictEqual(log, ["ack 1"])
      assert.deepStrictEqual(broker.bodies, [[{ n: 1 }]])
      assert.deepStrictEqual(
        entries,
        ["order 1 starts@0", "order 1 ends@10", "publish starts@10", "publish ends@20", "end@20"]
      )
    }))

  it.effect("passes on its correlation, as the cause of what follows from it", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        { concurrency: 3 },
        ({ n }, { collectAll }) => collectAll([new Shipped({ n }), new Counted({ n })])
      )
      yield* deliver(
        order(1, { attributes: { correlationid: "flow", causationid: "older" } }),
        order(2),
        Message.make({ ...order(3), attributes: { type: "Ordered.v1" } })
      )
      yield* settled
      const messages = broker.batches.flat()
      const of = (n: number): ReadonlyArray<ReadonlyArray<string | undefined>> =>
        messages.filter((message) => JSON.stringify(bodyOf(message)) === `{"n":${n}}`).map(({ attributes }) => [
          attributes["correlationid"],
          attributes["causationid"]
        ])
      assert.deepStrictEqual(of(1), [["flow", "1"], ["flow", "1"]])
      assert.deepStrictEqual(of(2), [["2", "2"], ["2", "2"]], "without a correlation id it starts one of its own")
      const [[first, cause], [second]] = of(3) as [[string, undefined], [string, undefined]]
      assert.isUndefined(cause, "a foreign message has no id")
      assert.match(first, /^[0-9a-f-]{36}$/)
      assert.strictEqual(second, first, "what follows from it belongs together all the same")
    }))

  it.effect("handlers see the correlation of the flow", () =>
    Effect.gen(function*() {
      const seen: Array<Correlation.Correlation> = []
      const { deliver } = yield* setup(
        {},
        () =>
          Effect.map(
            Correlation.current,
            (current) => void seen.push(Correlation.make(String(current?.correlationId), current?.causationId))
          )
      )
      yield* deliver(order(1, { attributes: { correlationid: "flow" } }))
      yield* settled
      assert.deepStrictEqual(seen, [Correlation.make("flow", "1")])
    }))
})

describe("topics", () => {
  it.effect("are those of the notification events that have a handler, each once", () =>
    Effect.gen(function*() {
      class Returned extends NotificationEvent.Class<Returned>()("Returned", {}, { topic: "shipments" }) {}
      const OnShipped = EventHandler.make("OnShipped", { on: Shipped })
      const OnReturned = EventHandler.make("OnReturned", { on: Returned })
      const subscriber = new FakeSubscriber()
      const Shop = EventFlow.make("Shop", { handlers: [OnCounted, OnShipped, OnOrdered, OnReturned] })
      const { context } = yield* open(
        EventConsumer.layer(Shop, { group: "group" }).pipe(
          Layer.provide(Shop.layer()),
          Layer.provide([
            OnShipped.toLayer(() => Effect.void),
            OnReturned.toLayer(() => Effect.void),
            OnOrdered.toLayer(() => Effect.void),
            OnCounted.toLayer(() => Effect.void),
            subscriber.layer,
            Broker.layerNone
          ])
        )
      )
      const { group, topics } = Context.get(context, EventConsumer.EventConsumer)
      assert.deepStrictEqual([group, topics], ["group", ["shipments", "orders"]])
      assert.deepStrictEqual(subscriber.subscriptions[0]?.topics, ["shipments", "orders"])
    }))

  it.effect("may be named; a message on any of them is handled by its type", () =>
    Effect.gen(function*() {
      const { deliver, log, topics } = yield* setup({ topics: ["orders.retry", "more"] }, () => Effect.void)
      assert.deepStrictEqual(topics, ["orders.retry", "more"])
      yield* deliver(order(1, { topic: "more" }))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1"])
    }))

  it.effect("none: there is nothing to consume", () =>
    Effect.gen(function*() {
      const layer = EventConsumer.layer([OnCounted], { group: "group" }).pipe(
        Layer.provide([OnCounted.toLayer(() => Effect.void), new FakeSubscriber().layer, Broker.layerNone])
      )
      assert.deepStrictEqual(
        yield* Effect.exit(Layer.build(layer)),
        Exit.fail(new EventConsumer.NothingToConsume({ group: "group" }))
      )
    }))
})
