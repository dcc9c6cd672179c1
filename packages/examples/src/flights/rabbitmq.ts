/**
 * RabbitMQ, for `broker.ts`: what publishes and consumes, on queues that are created first.
 */
import { RabbitBroker, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { type Array, Layer } from "effect"

export const layer = (group: string, topics: Array.NonEmptyReadonlyArray<string>) =>
  Layer.merge(RabbitBroker.layerFromEnv, RabbitSubscriber.layerFromEnv).pipe(
    // What is published waits in its queue for a board that comes later
    Layer.provide(
      Layer.effectDiscard(
        RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(RabbitTopology.specs(group, topics)))
      ).pipe(Layer.provide(RabbitTopology.layerFromEnv))
    )
  )
