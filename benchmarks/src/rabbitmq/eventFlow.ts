/** `Broker.publish` one message a call, and `EventConsumer` with a handler that does nothing. */
import { Broker, EventConsumer, EventHandler, Message, NotificationEvent } from "@event-flow/core"
import { RabbitBroker, RabbitSubscriber } from "@event-flow/rabbitmq-layer"
import { Effect, Layer, Schema } from "effect"
import type { Result, Task } from "./work.ts"
import { group, inFlight, main, Meter, prefetch, work } from "./work.ts"

const publish = (task: Task): Effect.Effect<Result, unknown> =>
  Effect.gen(function*() {
    const { publish } = yield* Broker.Broker
    const meter = new Meter(task)
    const total = task.warmUp + task.count
    let next = 0
    const message = (i: number) => {
      const { body, id, key, type } = work(i)
      return Message.make({
        topic: task.topic,
        key,
        attributes: { specversion: "1.0", id, type, source: "/bench", datacontenttype: "application/json" },
        body
      })
    }
    const worker = Effect.whileLoop({
      while: () => next < total,
      body: () => publish([message(next++)]),
      step: () => meter.tick()
    })
    yield* Effect.all(Array.from({ length: inFlight }, () => worker), { concurrency: "unbounded", discard: true })
    return yield* Effect.promise(() => meter.done)
  }).pipe(Effect.provide(RabbitBroker.layer({ url: task.url, maxInFlight: inFlight })))

const consume = (task: Task): Effect.Effect<Result, unknown> => {
  class Measured extends NotificationEvent.Class<Measured>()("Measured", {
    i: Schema.Number,
    padding: Schema.String
  }, { topic: task.topic, key: ({ i }) => String(i) }) {}
  const meter = new Meter(task)
  const Count = EventHandler.make("Count", { on: Measured })
  const live = EventConsumer.layer([Count], { group, concurrency: 16, maxInFlight: prefetch }).pipe(
    Layer.provide(Count.toLayer(() => Effect.sync(() => meter.tick()))),
    Layer.provide([RabbitBroker.layer({ url: task.url }), RabbitSubscriber.layer({ url: task.url, prefetch })])
  )
  return Effect.scoped(Effect.andThen(Layer.build(live), Effect.promise(() => meter.done)))
}

void main((task) => Effect.runPromise(task.workload === "publish" ? publish(task) : consume(task)))
