/**
 * The one place that chooses the broker. Nothing else of the example knows which one it is.
 */
import { type Broker, MemoryBroker, type Settings, type Subscriber } from "@event-flow/core"
import type { KafkaTopics } from "@event-flow/kafka-layer"
import type { RabbitTopology } from "@event-flow/rabbitmq-layer"
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

/** A layer in a module of its own, loaded when it is chosen: to load a client takes longer than to load all the rest. */
const loaded = <A, E>(load: () => Promise<Layer.Layer<A, E>>): Layer.Layer<A, E> => Layer.unwrap(Effect.promise(load))

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
      return layerInRun(run).pipe(
        Layer.provide(loaded(async () => (await import("./kafka.ts")).layer(topicsOf(run)))),
        Layer.provide(requireSetting({ broker: name, setting: "KAFKA_BOOTSTRAP_SERVERS", example: "127.0.0.1:9092" }))
      )
    case "rabbitmq":
      return layerInRun(run).pipe(
        Layer.provide(loaded(async () => (await import("./rabbitmq.ts")).layer(inRun(run, boardGroup), topicsOf(run)))),
        Layer.provide(
          requireSetting({ broker: name, setting: "RABBITMQ_URL", example: "amqp://guest:guest@127.0.0.1:5672" })
        )
      )
  }
}
