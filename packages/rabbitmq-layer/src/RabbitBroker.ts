/**
 * Publishing to RabbitMQ.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as Health from "@event-flow/core/Health"
import type * as Settings from "@event-flow/core/Settings"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Binding from "./internal/binding.ts"
import * as Connection from "./internal/connection.ts"
import * as Publisher from "./internal/publisher.ts"
import { publisherSettings } from "./internal/settings.ts"
import * as Declare from "./internal/topology.ts"
import * as RabbitConfig from "./RabbitConfig.ts"

/**
 * A `Broker` on RabbitMQ.
 *
 * **Details**
 *
 * `publish` succeeds when the server has confirmed every message: a majority of
 * a quorum queue's replicas has written it to disk. Messages are persistent and
 * mandatory: a message that no queue is bound for fails with `UnknownTopic`.
 * Messages of one key keep their order, also when the layer reconnects.
 *
 * The layer connects in the background, so it is built even if there is no
 * server. When the connection is lost, unconfirmed messages are sent again with
 * the same id. A publish ends after `publishTimeout` at the latest: with
 * `Unreachable` if the message was never sent, with `Timeout` if it was sent and
 * may have arrived. A server that is short of memory or disk blocks publishers;
 * publishes wait then too. An interrupted publish is not sent later.
 *
 * **Gotchas**
 *
 * Delivery is at least once: a message that is sent again may have arrived the
 * first time. Consumers drop duplicates by the message's id, with an `Inbox`.
 *
 * **Example** (A broker)
 *
 * ```ts
 * import { RabbitBroker } from "@event-flow/rabbitmq-layer"
 *
 * const Live = RabbitBroker.layer({ url: "amqp://guest:guest@127.0.0.1:5672" })
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: RabbitConfig.Publisher
): Layer.Layer<Broker.Broker, Settings.InvalidSetting> => Layer.effect(Broker.Broker, make(options))

/**
 * The same with options from `Config`s of your own: one for each option, or one
 * for all of them.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<RabbitConfig.Publisher>
): Layer.Layer<Broker.Broker, Settings.InvalidSetting | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * The same with options from the environment, or whatever the `ConfigProvider`
 * reads: `RABBITMQ_URL` and so on; see `RabbitConfig.publisher`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv: Layer.Layer<Broker.Broker, Settings.InvalidSetting | Config.ConfigError> = layerConfig(
  RabbitConfig.publisher.config
)

// --- internal ---

const make = Effect.fnUntraced(function*(options: RabbitConfig.Publisher) {
  const settings = yield* publisherSettings(options)
  const health = yield* Health.report(
    { system: "rabbitmq", component: "publisher", group: undefined, topics: [] },
    () => ({})
  )
  const connection = yield* Connection.make(settings, health.set)
  const { publish } = yield* Publisher.make(settings, connection, {
    declare: async (channel) => {
      if (settings.declare) await Declare.declareExchange(channel, settings)
    },
    toOutgoing: (message) => {
      const { exchange, routingKey } = settings.route(message.topic)
      return {
        message,
        exchange,
        routingKey,
        content: Binding.toContent(message),
        options: Binding.toOptions(message, settings.mandatory)
      }
    }
  })
  return Broker.Broker.of({
    name: "rabbitmq",
    publish: (messages) => {
      for (const message of messages) {
        const detail = settings.refusedTopic(message.topic)
        if (detail !== undefined) return Effect.fail(Broker.publishError(message, new Broker.Rejected({ detail })))
      }
      return publish(messages)
    }
  })
})
