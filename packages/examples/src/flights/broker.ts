/**
 * The one place that chooses the broker. Nothing else of the example knows which one it is.
 */
import { type Broker, MemoryBroker, type Settings, type Subscriber } from "@event-flow/core"
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { RabbitBroker, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Array, Config, Effect, Layer, Option, Schema } from "effect"
import { layerOwnTopics } from "../ownTopics.ts"
import { boardGroup } from "./board.ts"
import { LongDelay, RunEnded } from "./domain.ts"

export const brokers = ["memory", "kafka", "rabbitmq"] as const
export type BrokerName = (typeof brokers)[number]

/** The address of the broker is not set. */
export class BrokerNotConfigured extends Schema.TaggedError<BrokerNotConfigured>()("BrokerNotConfigured", {
  broker: Schema.Literals(["kafka", "rabbitmq"]),
  setting: Schema.String,
  example: Schema.String
}) {
  override get message() {
    return `--broker ${this.broker} needs ${this.setting}, for example ${this.example}. ` +
      `To start a broker, run "npm run ${this.broker}", which prints the setting`
  }
}

// Topics outlive a run. Each run has topics and groups of its own, so that it finds nothing of another one.
const inRun = (run: string, name: string): string => name.startsWith(`${run}.`) ? name : `${run}.${name}`

/** The flows that are built on top of it use the topics and groups of a run. */
const layerInRun = (run: string) => layerOwnTopics((name) => inRun(run, name))

const topicsOf = (run: string) =>
  Array.dedupe([LongDelay, RunEnded].map(({ route }) => inRun(run, route.topic))) as Array.NonEmptyArray<string>

const layerKafka = (run: string) =>
  layerInRun(run).pipe(
    Layer.provide([KafkaBroker.layerFromEnv, KafkaSubscriber.layerFromEnv]),
    // Created before anything subscribes or publishes
    Layer.provide(
      Layer.effectDiscard(
        KafkaTopics.KafkaTopics.use((topics) =>
          topics.ensure(
            topicsOf(run).flatMap((topic) => [
              { topic, partitions: 4, retention: "1 day" },
              { topic: `${topic}.dead-letter`, partitions: 1, retention: "1 day" }
            ])
          )
        )
      ).pipe(Layer.provide(KafkaTopics.layerFromEnv))
    )
  )

const layerRabbitmq = (run: string) =>
  layerInRun(run).pipe(
    Layer.provide([RabbitBroker.layerFromEnv, RabbitSubscriber.layerFromEnv]),
    // What is published waits in its queue for a board that comes later
    Layer.provide(
      Layer.effectDiscard(
        RabbitTopology.RabbitTopology.use((topology) =>
          topology.ensure(RabbitTopology.specs(inRun(run, boardGroup), topicsOf(run)))
        )
      ).pipe(Layer.provide(RabbitTopology.layerFromEnv))
    )
  )

const requireSetting = (options: typeof BrokerNotConfigured["~type.make.in"]) =>
  Layer.effectDiscard(
    Effect.flatMap(Config.option(Config.String(options.setting)), (value) =>
      Option.isSome(value) && value.value.trim() !== ""
        ? Effect.void
        : Effect.fail(new BrokerNotConfigured(options)))
  )

export type BrokerLayerError =
  | BrokerNotConfigured
  | Config.ConfigError
  | Settings.InvalidSetting
  | KafkaTopics.KafkaTopicsError
  | RabbitTopology.RabbitTopologyError

/** The layer of a broker, by its name. Programs that are to meet name the same run. */
export const layer = (
  name: BrokerName,
  run: string
): Layer.Layer<Broker.Broker | Subscriber.Subscriber, BrokerLayerError> => {
  switch (name) {
    case "memory":
      return MemoryBroker.layer()
    case "kafka":
      return Layer.provide(
        layerKafka(run),
        requireSetting({ broker: name, setting: "KAFKA_BOOTSTRAP_SERVERS", example: "127.0.0.1:9092" })
      )
    case "rabbitmq":
      return Layer.provide(
        layerRabbitmq(run),
        requireSetting({ broker: name, setting: "RABBITMQ_URL", example: "amqp://guest:guest@127.0.0.1:5672" })
      )
  }
}
