/** The `Subscriber` port alone, without decoding and dispatching: what of the consumer is the layer's own cost. */
import { Subscriber } from "@event-flow/core"
import { KafkaSubscriber } from "@event-flow/kafka-layer"
import { Effect } from "effect"
import { main, maxInFlight, Meter } from "./work.ts"

void main((task) =>
  Effect.runPromise(
    Effect.gen(function*() {
      const subscriber = yield* Subscriber.Subscriber
      const subscription = yield* subscriber.subscribe({
        topics: [task.topic],
        group: `bench-${task.topic}-${process.pid}`,
        maxInFlight
      })
      const meter = new Meter(task)
      yield* Effect.forkScoped(Effect.forever(Effect.flatMap(subscription.take, (deliveries) =>
        Effect.forEach(deliveries, (delivery) => {
          meter.tick()
          return delivery.ack
        }, { discard: true }))))
      return yield* Effect.promise(() =>
        meter.done
      )
    }).pipe(Effect.scoped, Effect.provide(KafkaSubscriber.layer({ bootstrapServers: task.servers })))
  )
)
