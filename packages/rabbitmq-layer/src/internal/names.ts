/** The names of queues. */
import * as Duration from "effect/Duration"

/** Different for every pair, whatever characters group and topic contain. */
export const queueName = (group: string, topic: string): string =>
  `${group.replaceAll("%", "%25").replaceAll(":", "%3A")}:${topic}`

export const deadLetterSuffix = ".dead-letter"

export const deadLetterTopic = (topic: string): string => topic + deadLetterSuffix

/** The queue, topic and routing key of the messages that wait for a redelivery; steps count from 1. */
export const retryQueue = (queue: string, step: number, delay: Duration.Duration): string =>
  `${queue}.retry-${step}.${Math.ceil(Duration.toMillis(delay))}ms`

/** Why a topic cannot be the routing key of a topic exchange, where `*` and `#` as words match other topics. */
export const wildcardIn = (topic: string): string | undefined => {
  // Most topics have neither, and each publish asks
  if (!topic.includes("*") && !topic.includes("#")) return undefined
  const word = topic.split(".").find((word) => word === "*" || word === "#")
  return word === undefined ?
    undefined :
    `topic "${topic}" has the word "${word}", which RabbitMQ takes for a wildcard ` +
    "that other topics match: rename the topic, or give the layers a `route`"
}

/** Names and routing keys have 255 bytes at most. */
export const fits = (name: string): boolean => Buffer.byteLength(name) <= 255
