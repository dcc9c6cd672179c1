/**
 * The one place that chooses the broker. Nothing else of the example knows which one it is.
 */
import { type Broker, MemoryBroker, type Subscriber } from "@event-flow/core"
import { Context, Effect, Layer, Schema } from "effect"

export const brokers = ["memory", "kafka", "rabbitmq"] as const
export type BrokerName = (typeof brokers)[number]

export class BrokerNotSupported extends Schema.TaggedError<BrokerNotSupported>()("BrokerNotSupported", {
  broker: Schema.String
}) {
  override get message() {
    return `The broker "${this.broker}" is not supported yet: leave out --broker, or use --broker memory`
  }
}

/** Tells when everything that was published has been consumed, which is the end of a run. */
export class Delivered extends Context.Service<Delivered, {
  readonly awaitAll: Effect.Effect<void>
}>()("examples/flights/Delivered") {}

const layerMemory = Layer.effect(
  Delivered,
  Effect.map(MemoryBroker.MemoryBroker, (broker) => Delivered.of({ awaitAll: broker.awaitIdle }))
).pipe(Layer.provideMerge(MemoryBroker.layer()))

/** The layer of a broker, by its name. */
export const layer = (
  name: BrokerName
): Layer.Layer<Broker.Broker | Subscriber.Subscriber | Delivered, BrokerNotSupported> => {
  switch (name) {
    case "memory":
      return layerMemory
    case "kafka":
    case "rabbitmq":
      return Layer.unwrap(Effect.fail(new BrokerNotSupported({ broker: name })))
  }
}
