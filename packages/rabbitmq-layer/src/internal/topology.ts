/** Declares exchanges, queues and bindings. Declaring what is there changes nothing. */
import type { SubscribeOptions } from "@event-flow/core/Subscriber"
import type { Channel } from "amqplib"
import * as Duration from "effect/Duration"
import type { Route } from "../RabbitConfig.ts"
import * as Names from "./names.ts"
import type { ConnectionSettings, TopologySettings } from "./settings.ts"

/** A durable queue, and what it is bound to. */
export interface Queue {
  readonly name: string
  /** Whether the server deletes it with its last consumer. */
  readonly autoDelete: boolean
  readonly arguments: Readonly<Record<string, unknown>>
  readonly route: Route
}

/** What a group consumes, and the delays of its retries. */
export interface Consumed extends Pick<SubscribeOptions, "group" | "ephemeral"> {
  readonly topics: ReadonlyArray<string>
  readonly retryDelays: ReadonlyArray<Duration.Duration>
}

/** The exchange of all topics. Others, named by `route`, are the user's own. */
export const declareExchange = async (channel: Channel, settings: ConnectionSettings): Promise<void> => {
  await channel.assertExchange(settings.exchange, "topic", { durable: true })
}

/** Fails when the queue is there and is not like this. */
export const declareQueue = async (channel: Channel, queue: Queue): Promise<void> => {
  await channel.assertQueue(queue.name, {
    durable: true,
    autoDelete: queue.autoDelete,
    arguments: queue.arguments
  })
  const { exchange, routingKey } = queue.route
  // The default exchange binds every queue by its name, and takes no other bindings
  if (exchange !== "") await channel.bindQueue(queue.name, exchange, routingKey)
}

/** All that a group needs. */
export const declareConsumed = async (
  channel: Channel,
  settings: TopologySettings,
  consumed: Consumed
): Promise<void> => {
  await declareExchange(channel, settings)
  for (const queue of queuesOf(settings, consumed)) await declareQueue(channel, queue)
}

/** The queues that a group needs, each behind the ones that it sends messages to. */
export const queuesOf = (
  settings: TopologySettings,
  { ephemeral = false, group, retryDelays, topics }: Consumed
): ReadonlyArray<Queue> => {
  const { singleActiveConsumer } = settings
  // The server deletes no quorum queue with its last consumer, and counts redeliveries of no other
  const queueType = ephemeral ? "classic" : settings.queueType
  const deliveryLimit = ephemeral ? undefined : settings.deliveryLimit
  return topics.flatMap((topic) => {
    const name = settings.queueName(group, topic)
    const deadTopic = Names.deadLetterTopic(topic)
    const deadRoute = settings.route(deadTopic)
    // A dead-letter queue that is consumed has none of its own
    const hasDeadLetters = settings.deadLetter && !topic.endsWith(Names.deadLetterSuffix)
    const queue: Queue = {
      name,
      autoDelete: ephemeral,
      route: settings.route(topic),
      arguments: {
        "x-queue-type": queueType,
        ...(singleActiveConsumer ? { "x-single-active-consumer": true } : undefined),
        ...(deliveryLimit === undefined ? undefined : { "x-delivery-limit": deliveryLimit }),
        ...(hasDeadLetters ? deadLetterTo(queueType, deadRoute) : undefined)
      }
    }
    const dead: Queue = {
      name: deadTopic,
      autoDelete: false,
      route: deadRoute,
      // Shared with groups that are not ephemeral
      arguments: { "x-queue-type": settings.queueType }
    }
    const retries = retryDelays.map((delay, i): Queue => {
      const retry = Names.retryQueue(name, i + 1, delay)
      return {
        name: retry,
        autoDelete: false,
        route: settings.route(retry),
        arguments: {
          "x-queue-type": queueType,
          "x-message-ttl": Math.ceil(Duration.toMillis(delay)),
          // By way of the default exchange straight into the queue, past other groups
          ...deadLetterTo(queueType, { exchange: "", routingKey: name })
        }
      }
    })
    return [...(hasDeadLetters ? [dead] : []), queue, ...retries]
  })
}

// --- internal ---

/** Quorum queues keep a message until its target has confirmed it, which needs this overflow policy. */
const deadLetterTo = (queueType: TopologySettings["queueType"], { exchange, routingKey }: Route) => ({
  "x-dead-letter-exchange": exchange,
  "x-dead-letter-routing-key": routingKey,
  ...(queueType === "quorum"
    ? { "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish" }
    : undefined)
})
