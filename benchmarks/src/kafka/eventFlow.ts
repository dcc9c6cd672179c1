/** `Broker.publish` one message a call, and `EventConsumer` with a handler that does nothing. */
import { Broker, ConsumerPolicy, EventConsumer, EventHandler, Message, NotificationEvent } from "@event-flow/core"
import { KafkaBroker, KafkaSubscriber } from "@event-flow/kafka-layer"
import { Effect, Layer, Schema } from "effect"
import type { Result, Task } from "./work.ts"
import { concurrency, inFlight, main, maxInFlight, Meter, work } from "./work.ts"

const publish = (task: Task): Effect.Effect<Result, unknown> =>
  Effect.gen(function*() {
    const { publish } = yield* Broker.Broker
    const meter = new Meter(task)
    const total = task.warmUp + task.count
    let next = 0
    const message = (i: number) => {
      const { body, headers, key } = work(i)
      return Message.make({
        topic: task.topic,
        key,
        attributes: {
          specversion: headers["ce_specversion"]!,
          id: headers["ce_id"]!,
          type: headers["ce_type"]!,
          source: headers["ce_source"]!,
          datacontenttype: headers["content-type"]!
        },
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
  }).pipe(Effect.provide(KafkaBroker.layer({ bootstrapServers: task.servers })))

const consume = (task: Task): Effect.Effect<Result, unknown> => {
  class Measured extends NotificationEvent.Class<Measured>()("Measured", {
    i: Schema.Number,
    padding: Schema.String
  }, { topic: task.topic, key: ({ i }) => String(i) }) {}
  const meter = new Meter(task)
  const Count = EventHandler.make("Count", { on: Measured })
  const connection = { bootstrapServers: task.servers }
  const live = EventConsumer.layer([Count], {
    group: `bench-${task.topic}-${process.pid}`,
    concurrency,
    maxInFlight,
    policy: () => ConsumerPolicy.stop
  })
    .pipe(
      Layer.provide(Count.toLayer(() => Effect.sync(() => meter.tick()))),
      Layer.provide([KafkaBroker.layer(connection), KafkaSubscriber.layer(connection)])
    )
  return Effect.scoped(Effect.andThen(Layer.build(live), Effect.promise(() => meter.done)))
}

void main((task) => Effect.runPromise(task.workload === "publish" ? publish(task) : consume(task)))
