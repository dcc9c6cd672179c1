/** The suite that every pair of a broker and a subscriber passes, on a broker that it may restart. */
import { it } from "@effect/vitest"
import { BrokerSuite } from "@event-flow/core/testing"
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { findOwnSource, startKafka } from "@event-flow/test-support/kafkaServer"
import type { KafkaServer } from "@event-flow/test-support/kafkaServer"
import { Effect, Layer } from "effect"
import { afterAll, beforeAll } from "vitest"
import { canOwn, consuming, live, servers, withServer } from "./support/kafka.ts"

/** Of its own, since it is restarted; the shared one where there can be none. */
let own: KafkaServer | undefined

const connection = Effect.sync(() => ({ bootstrapServers: own?.bootstrapServers ?? servers }))

const pair = Layer.unwrap(Effect.map(connection, (connection) =>
  Layer.mergeAll(
    KafkaBroker.layer(connection),
    KafkaSubscriber.layer({ ...connection, ...consuming, reconnectDelay: "100 millis" })
  )))

const suite = BrokerSuite.make("kafka", pair, {
  prepareTopics: (topics) =>
    Effect.flatMap(
      connection,
      (connection) =>
        KafkaTopics.KafkaTopics.use((service) => service.ensure(topics.map((topic) => ({ topic, partitions: 4 }))))
          .pipe(
            Effect.provide(KafkaTopics.layer(connection))
          )
    ),
  persistentTopics: true,
  oldMessagesForNewGroups: true,
  countsAttempts: true,
  binaryKeys: true,
  durable: true,
  duplicatesOnRebalance: true,
  restart: canOwn ? Effect.promise(() => own!.stop().then(() => own!.start())) : undefined,
  patience: "90 seconds"
})

withServer(suite.name, () => {
  beforeAll(async () => {
    if (canOwn) own = await startKafka(findOwnSource())
  })
  afterAll(() => own?.dispose())
  for (const { name, run } of suite.cases) {
    live(name, () => run, 180_000)
  }
  for (const { name, reason } of suite.skipped) it.skip(`${name} (skipped: ${reason})`)
})
