/** Groups that last as long as their subscriptions, seen from the server. */
import { assert, it } from "@effect/vitest"
import * as Subscriber from "@event-flow/core/Subscriber"
import { RabbitRetry, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Duration, Effect, Exit, Scope } from "effect"
import { layers, message, rawChannel, textOf, unique, withServer } from "./support/rabbit.ts"

withServer("ephemeral groups", () => {
  const subscribe = (group: string, topic: string, ephemeral: boolean) =>
    Effect.flatMap(
      Subscriber.Subscriber,
      (subscriber) => subscriber.subscribe({ topics: [topic], group, maxInFlight: 10, ephemeral })
    )

  it.live("have queues that the server deletes with their last consumer, messages included", () =>
    Effect.gen(function*() {
      const [group, topic] = [unique("group"), unique("topic")]
      const queue = RabbitTopology.queueName(group, topic)
      const channel = yield* rawChannel()
      const scope = yield* Scope.make()
      const { take } = yield* Scope.provide(subscribe(group, topic, true), scope)
      yield* Effect.promise(async () => {
        for (const text of ["1", "2"]) channel.publish("event-flow", topic, Buffer.from(message(topic, text).body!))
        await channel.waitForConfirms()
      })
      const [first] = yield* take
      assert.strictEqual(textOf(first.message), "1")
      yield* Scope.close(scope, Exit.void)
      channel.on("error", () => undefined)
      const gone = yield* Effect.promise(() => channel.checkQueue(queue).then(() => "there", String))
      assert.include(gone, "NOT_FOUND")
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("are refused under the name of a durable group, where the layer declares nothing, and with retries", () =>
    Effect.gen(function*() {
      const [group, topic] = [unique("group"), unique("topic")]
      yield* Effect.scoped(subscribe(group, topic, false))
      const taken = yield* Effect.flip(Effect.scoped(subscribe(group, topic, true)))
      assert.include(taken.message, "PRECONDITION")
      const undeclared = yield* Effect.flip(
        Effect.scoped(subscribe(group, topic, true)).pipe(Effect.provide(layers({ declare: false })))
      )
      assert.include(undeclared.message, "must be declared by the layer")
      const retrying = yield* Effect.flip(Effect.scoped(
        RabbitRetry.RetrySubscriber.use(({ subscribe }) =>
          subscribe({
            topics: [topic],
            group: unique("group"),
            maxInFlight: 1,
            ephemeral: true,
            retryDelays: [Duration.seconds(1)]
          })
        )
      ))
      assert.include(retrying.message, "no queues for retries")
    }).pipe(Effect.provide(layers())))
})
