import { assert, it } from "@effect/vitest"
import * as Health from "@event-flow/core/Health"
import * as Subscriber from "@event-flow/core/Subscriber"
import { RabbitHealth, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { startProxy } from "@event-flow/test-support/proxy"
import { Effect, Layer } from "effect"
import { eventually, layers, numbers, publish, silently, unique, url, withServer } from "./support/rabbit.ts"

const states = Effect.map(Health.all, (all) => all.map(({ component, state }) => [component, state]))

withServer("health", () => {
  it.live("publisher and subscription lose their connections, say why, and have them again", () =>
    Effect.gen(function*() {
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => startProxy(url)),
        (proxy) => Effect.promise(proxy.close)
      )
      yield* Effect.gen(function*() {
        const topic = unique("topic")
        const { subscribe } = yield* Subscriber.Subscriber
        const subscription = yield* subscribe({ topics: [topic], group: "group", maxInFlight: 3 })
        yield* publish(topic, numbers(5))
        const [first] = yield* subscription.take
        const { subscriptions } = yield* RabbitHealth.RabbitHealth
        yield* eventually(
          "three to be in hand",
          Effect.map(subscriptions, ([it]) => it!.inFlight + it!.waiting === 3)
        )
        const [healthy] = yield* subscriptions
        assert.deepStrictEqual(healthy!.queues, [RabbitTopology.queueName("group", topic)])
        assert.strictEqual(healthy!.state, "connected")
        assert.deepStrictEqual(yield* states, [["publisher", "connected"], ["subscription", "connected"]])

        // A port where nobody listens
        const { target } = proxy
        proxy.target = 1
        proxy.cut()
        yield* eventually(
          "both to be lost",
          Effect.map(
            Health.all,
            (all) => all.every(({ detail, state }) => state === "disconnected" && detail !== undefined)
          )
        )
        assert.isFalse(yield* Health.isConnected)
        proxy.target = target
        yield* eventually("both to be back", Health.isConnected)
        const [again] = yield* subscriptions
        assert.isAtLeast(again!.since, healthy!.since)
        assert.isUndefined(again!.detail)
        assert.isTrue(first.isRevoked())
      }).pipe(
        Effect.scoped,
        Effect.provide(Layer.provideMerge(layers({ url: proxy.url }), Health.layer))
      )
    }).pipe(Effect.scoped, Effect.provide(silently)))

  it.live("without a server it says so", () =>
    eventually(
      "a reason",
      Effect.map(Health.all, ([it]) => it!.state === "disconnected" && it!.detail!.includes("ECONNREFUSED"))
    ).pipe(Effect.provide(Layer.provideMerge(layers({ url: "amqp://127.0.0.1:1" }), Health.layer))))
})
