/**
 * Kafka, for `broker.ts`. Topic and consumer group are those of this database's shop: another shop on the same Kafka
 * has its own.
 */
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { Effect, Layer } from "effect"
import { layerOwnTopics } from "../ownTopics.ts"
import { ownName } from "./database.ts"
import { topic } from "./domain.ts"

export const layer = Layer.unwrap(Effect.gen(function*() {
  const own = yield* ownName
  // Created before anything subscribes or publishes
  const topics = Layer.effectDiscard(
    KafkaTopics.KafkaTopics.use(({ ensure }) =>
      // Shorter than the inbox remembers: a message that it has forgotten does not come again
      ensure([{ topic: own(topic), partitions: 4, retention: "3 days" }])
    )
  ).pipe(Layer.provide(KafkaTopics.layerFromEnv))
  return layerOwnTopics(own).pipe(
    Layer.provide([KafkaBroker.layerFromEnv, KafkaSubscriber.layerFromEnv]),
    Layer.provide(topics)
  )
}))
