/**
 * The one place that chooses what carries messages from the outbox to the totals.
 */
import { Broker, MemoryBroker, Subscriber } from "@event-flow/core"
import { Config, Context, Effect, Layer, Option, Redacted, Schema } from "effect"

export const brokers = ["memory", "kafka", "rabbitmq"] as const
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

// Each is loaded when it is chosen: to load its client takes longer than to load all the rest
const layerKafka = Layer.unwrap(
  Effect.andThen(
    required("KAFKA_BOOTSTRAP_SERVERS", "kafka"),
    Effect.map(Effect.promise(() => import("./kafka.ts")), ({ layer }) => layer)
  )
)

const layerRabbitMq = Layer.unwrap(
  Effect.andThen(
    required("RABBITMQ_URL", "rabbitmq"),
    Effect.map(Effect.promise(() => import("./rabbitmq.ts")), ({ layer }) => layer)
  )
)

const layers = { memory: layerMemory, kafka: layerKafka, rabbitmq: layerRabbitMq } as const

type Layers = (typeof layers)[BrokerName]

/** The layer of a broker, by its name. */
export const layer = (
  name: BrokerName
): Layer.Layer<Broker.Broker | Subscriber.Subscriber, Layer.Error<Layers>, Layer.Services<Layers>> => layers[name]
