/**
 * Kafka, for `broker.ts`: what publishes and consumes, on topics that are created first.
 */
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { type Array, Layer } from "effect"

export const layer = (topics: Array.NonEmptyReadonlyArray<string>) =>
  Layer.merge(KafkaBroker.layerFromEnv, KafkaSubscriber.layerFromEnv).pipe(
    // Created before anything subscribes or publishes
    Layer.provide(
      Layer.effectDiscard(
        KafkaTopics.KafkaTopics.use(({ ensure }) =>
          ensure(
            topics.flatMap((topic) => [
              { topic, partitions: 4, retention: "1 day" },
              { topic: `${topic}.dead-letter`, partitions: 1, retention: "1 day" }
            ])
          )
        )
      ).pipe(Layer.provide(KafkaTopics.layerFromEnv))
    )
  )
