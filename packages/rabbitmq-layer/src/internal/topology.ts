/** Declares exchanges, queues and bindings. Declaring what is there changes nothing. */
import type { SubscribeOptions } from "@event-flow/core/Subscriber"
import type { Channel } from "amqplib"
import type { Route } from "../RabbitConfig.ts"
import * as Names from "./names.ts"
import type { ConnectionSettings, ConsumerSettings } from "./settings.ts"

/** The exchange of all topics. Others, named by `route`, are the user's own. */
export const exchange = async (channel: Channel, settings: ConnectionSettings): Promise<void> => {
  if (settings.declare && settings.exchange !== "") {
    await channel.assertExchange(settings.exchange, "topic", { durable: true })
  }
}

/** All that a group needs for topics. */
export const consumer = async (
  channel: Channel,
  settings: ConsumerSettings,
  { ephemeral, group, topics }: Pick<SubscribeOptions, "group" | "topics" | "ephemeral">
): Promise<void> => {
  if (!settings.declare) return
  await exchange(channel, settings)
  const ofGroup = ephemeral === true ? ephemeralSettings(settings) : settings
  for (const topic of topics) {
    const queue = settings.queueName(group, topic)
    const route = settings.route(topic)
    // A dead-letter queue that is consumed has none of its own
    const hasDeadLetters = settings.deadLetter && !topic.endsWith(Names.deadLetterSuffix)
    if (hasDeadLetters) await deadLetters(channel, settings, topic)
    const deadRoute = settings.route(Names.deadLetterTopic(topic))
    await channel.assertQueue(queue, {
      durable: true,
      autoDelete: ephemeral === true,
      arguments: {
        ...queueArguments(ofGroup),
        ...(ofGroup.singleActiveConsumer && { "x-single-active-consumer": true }),
        ...(ofGroup.deliveryLimit !== undefined && { "x-delivery-limit": ofGroup.deliveryLimit }),
        ...(hasDeadLetters && deadLetterTo(ofGroup, deadRoute.exchange, deadRoute.routingKey))
      }
    })
    await bind(channel, queue, route)
    for (const [i, delay] of (ofGroup.retryDelays ?? []).entries()) {
      const retryQueue = Names.retryQueue(queue, i + 1, delay)
      await channel.assertQueue(retryQueue, {
        durable: true,
        arguments: {
          ...queueArguments(ofGroup),
          "x-message-ttl": delay,
          // By way of the default exchange straight into the queue, past other groups
          ...deadLetterTo(ofGroup, "", queue)
        }
      })
      await bind(channel, retryQueue, settings.route(retryQueue))
    }
  }
}

// --- internal ---

/**
 * Of an ephemeral group, whose queues the server deletes with their last consumer: quorum queues cannot be deleted so,
 * and retry queues, which nobody consumes, would stay.
 */
const ephemeralSettings = (settings: ConsumerSettings): ConsumerSettings => ({
  ...settings,
  queueType: "classic",
  deliveryLimit: undefined,
  retryDelays: []
})

const queueArguments = ({ queueType }: ConsumerSettings) => ({ "x-queue-type": queueType })

/** Quorum queues keep a message until its target has confirmed it, which needs this overflow policy. */
const deadLetterTo = ({ queueType }: ConsumerSettings, exchange: string, routingKey: string) => ({
  "x-dead-letter-exchange": exchange,
  "x-dead-letter-routing-key": routingKey,
  ...(queueType === "quorum" && { "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish" })
})

const deadLetters = async (channel: Channel, settings: ConsumerSettings, topic: string): Promise<void> => {
  const queue = Names.deadLetterTopic(topic)
  const route = settings.route(queue)
  await channel.assertQueue(queue, { durable: true, arguments: queueArguments(settings) })
  await bind(channel, queue, route)
}

/** The default exchange binds every queue by its name, and takes no other bindings. */
const bind = async (channel: Channel, queue: string, { exchange, routingKey }: Route): Promise<void> => {
  if (exchange !== "") await channel.bindQueue(queue, exchange, routingKey)
}
