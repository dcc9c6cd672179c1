/**
 * Topics and consumer groups outlive a program. Where two must not meet on one broker, each has its own.
 */
import { Broker, Message, Subscriber } from "@event-flow/core"
import { Array, Context, Effect, Layer } from "effect"

/** The flows that are built on top of it use these names of topics and groups. */
export const layerOwnTopics = (
  own: (name: string) => string
): Layer.Layer<Broker.Broker | Subscriber.Subscriber, never, Broker.Broker | Subscriber.Subscriber> =>
  Layer.effectContext(Effect.gen(function*() {
    const broker = yield* Broker.Broker
    const subscriber = yield* Subscriber.Subscriber
    return Context.make(
      Broker.Broker,
      Broker.Broker.of({
        name: broker.name,
        publish: (messages) =>
          broker.publish(Array.map(messages, (message) => Message.copy(message, { topic: own(message.topic) })))
      })
    ).pipe(Context.add(
      Subscriber.Subscriber,
      Subscriber.Subscriber.of({
        name: subscriber.name,
        subscribe: (options) =>
          subscriber.subscribe({ ...options, topics: Array.map(options.topics, own), group: own(options.group) })
      })
    ))
  }))
