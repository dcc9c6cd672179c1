/**
 * The one place that chooses what carries messages from the outbox to the totals.
 */
import { Broker, MemoryBroker, Subscriber } from "@event-flow/core"
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { Config, Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { layerOwnTopics } from "../ownTopics.ts"
import { topic } from "./domain.ts"

export const brokers = ["memory", "kafka"] as const
export type BrokerName = (typeof brokers)[number]

/** The address of a server is not set. */
export class NotConfigured extends Schema.TaggedError<NotConfigured>()("NotConfigured", {
  setting: Schema.String,
  script: Schema.String
}) {
  override get message() {
    return `${this.setting} is not set. To start a server, run "npm run ${this.script}", which prints ` +
      `${this.setting}=...: set it where the example runs`
  }
}

/** A setting of the environment. */
export const required = Effect.fnUntraced(function*(setting: string, script: string) {
  const value = Option.getOrUndefined(yield* Config.option(Config.Redacted(setting)))
  if (value === undefined || Redacted.value(value).trim() === "") return yield* new NotConfigured({ setting, script })
  return value
})

/**
 * A broker in memory loses its messages when the process is killed, after the relay has deleted them from the
 * outbox. So here `publish` ends when the consumer is done with the messages.
 */
const layerMemory = Layer.effectContext(Effect.gen(function*() {
  const broker = yield* Broker.Broker
  const { awaitIdle } = yield* MemoryBroker.MemoryBroker
  return Context.make(
    Broker.Broker,
    Broker.Broker.of({
      name: broker.name,
      publish: (messages) => Effect.andThen(broker.publish(messages), awaitIdle)
    })
  ).pipe(Context.add(Subscriber.Subscriber, yield* Subscriber.Subscriber))
})).pipe(Layer.provide(MemoryBroker.layer()))

/** Topic and consumer group of this database's shop: another shop on the same Kafka has its own. */
const layerOfShop = Effect.fnUntraced(function*() {
  const sql = yield* SqlClient.SqlClient
  const [shop] = yield* sql<{ id: string }>`SELECT id FROM shop.identity`
  const own = (name: string) => `${name}-${shop!.id}`
  // Created before anything subscribes or publishes
  const topics = Layer.effectDiscard(
    KafkaTopics.KafkaTopics.use((topics) =>
      // Shorter than the inbox remembers: a message that it has forgotten does not come again
      topics.ensure([{ topic: own(topic), partitions: 4, retention: "3 days" }])
    )
  ).pipe(Layer.provide(KafkaTopics.layerFromEnv))
  return layerOwnTopics(own).pipe(
    Layer.provide([KafkaBroker.layerFromEnv, KafkaSubscriber.layerFromEnv]),
    Layer.provide(topics)
  )
})

const layerKafka = Layer.unwrap(
  Effect.andThen(required("KAFKA_BOOTSTRAP_SERVERS", "kafka"), layerOfShop())
)

/** The layer of a broker, by its name. */
export const layer = {
  memory: layerMemory,
  kafka: layerKafka
} as const
