/**
 * RabbitMQ, for `broker.ts`. Topic and consumer group are those of this database's shop: another shop on the same server
 * has its own.
 */
import { RabbitBroker, RabbitConfig, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Config, Effect, Layer } from "effect"
import { layerOwnTopics } from "../ownTopics.ts"
import { ownName } from "./database.ts"
import { topic } from "./domain.ts"
import { totalsGroup } from "./totals.ts"

/** Two consumers of one queue would handle events of a customer side by side. So one consumes, and the other stands by. */
const inOrder = { singleActiveConsumer: true }

export const layer = Layer.unwrap(Effect.gen(function*() {
  const own = yield* ownName
  // The queue is there before anything is published
  const queues = Layer.effectDiscard(
    RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(RabbitTopology.specs(own(totalsGroup), [own(topic)])))
  ).pipe(
    Layer.provide(
      RabbitTopology.layerConfig(Config.map(RabbitConfig.topology.config, (options) => ({ ...options, ...inOrder })))
    )
  )
  const subscriber = RabbitSubscriber.layerConfig(
    Config.map(RabbitConfig.consumer.config, (options) => ({ ...options, ...inOrder }))
  )
  return layerOwnTopics(own).pipe(
    Layer.provide([RabbitBroker.layerFromEnv, subscriber]),
    Layer.provide(queues)
  )
}))
