/**
 * What the layer declares on the server, and names it.
 *
 * - One exchange for all topics, `event-flow`: durable, of type topic. A topic's
 *   messages are published to it with the topic as routing key.
 * - One queue for each group and topic, `<group>:<topic>`: durable, a quorum queue,
 *   bound to the exchange by the topic.
 * - One dead-letter queue for each topic, `<topic>.dead-letter`, bound by its name,
 *   shared by the groups. The queues of the topic name it as their
 *   dead-letter target.
 * - With `retryDelays`, one queue for each queue and delay, `<queue>.retry-<step>.<ms>ms`,
 *   which nobody consumes: its messages go to the queue when their time is over.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as Subscriber from "@event-flow/core/Subscriber"
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { ask } from "./internal/amqpError.ts"
import { openChannel } from "./internal/channel.ts"
import * as Connection from "./internal/connection.ts"
import * as Names from "./internal/names.ts"
import { consumerSettings } from "./internal/settings.ts"
import { subscribeError } from "./internal/subscribeError.ts"
import * as Declare from "./internal/topology.ts"
import type * as RabbitConfig from "./RabbitConfig.ts"

/**
 * The default name of a group's queue for a topic: `<group>:<topic>`, with `%` and
 * `:` of the group percent-encoded.
 *
 * @stability unstable
 * @category names
 * @since 0.1.0
 */
export const queueName: (group: string, topic: string) => string = Names.queueName

/**
 * The topic, routing key and queue of a topic's dead letters: `<topic>.dead-letter`.
 *
 * @stability unstable
 * @category names
 * @since 0.1.0
 */
export const deadLetterTopic: (topic: string) => string = Names.deadLetterTopic

/**
 * Declares all that a group needs for topics, without consuming: a queue keeps
 * what is published before its first consumer comes, and a message is
 * unroutable as long as no group has one.
 *
 * **Example** (At the start of a publisher)
 *
 * ```ts
 * import { RabbitTopology } from "@event-flow/rabbitmq-layer"
 *
 * const declared = RabbitTopology.declare(
 *   { url: "amqp://127.0.0.1" },
 *   { group: "delay-board", topics: ["flights"] }
 * )
 * ```
 *
 * @stability unstable
 * @category declaring
 * @since 0.1.0
 */
export const declare: (
  options: RabbitConfig.Consumer,
  of: { readonly group: string; readonly topics: Arr.NonEmptyReadonlyArray<string> }
) => Effect.Effect<void, RabbitConfig.RabbitConfigError | Subscriber.SubscribeError> = Effect.fnUntraced(
  function*(options: RabbitConfig.Consumer, of: {
    readonly group: string
    readonly topics: Arr.NonEmptyReadonlyArray<string>
  }) {
    const settings = yield* consumerSettings({ ...options, declare: true })
    const connection = yield* Connection.make(settings)
    yield* connection.link.pipe(
      Effect.flatMap(({ model }) => openChannel(settings, () => model.createChannel())),
      Effect.flatMap((channel) => ask(() => Declare.consumer(channel, settings, of))),
      Effect.mapError((error) => subscribeError(of, error)),
      Effect.timeoutOrElse({
        duration: settings.subscribeTimeout,
        orElse: () =>
          Effect.fail(
            Subscriber.subscribeError(
              of,
              new Broker.Unreachable({
                detail: connection.problem() ?? `no answer within ${settings.subscribeTimeout} ms`
              })
            )
          )
      })
    )
  },
  Effect.scoped
)
