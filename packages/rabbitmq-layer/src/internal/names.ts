/** The names of queues. */

/** Apart for every pair, whatever characters group and topic contain. */
export const queueName = (group: string, topic: string): string =>
  `${group.replaceAll("%", "%25").replaceAll(":", "%3A")}:${topic}`

export const deadLetterSuffix = ".dead-letter"

export const deadLetterTopic = (topic: string): string => topic + deadLetterSuffix

/** The queue, topic and routing key of the messages that wait for a redelivery; steps count from 1. */
export const retryQueue = (queue: string, step: number, millis: number): string => `${queue}.retry-${step}.${millis}ms`

/** The step of a retry queue by its name; 0 when it is none of the queue's. */
export const retryStep = (queue: string, name: string): number => {
  const match = name.startsWith(queue) ? /^\.retry-(\d+)\.\d+ms$/.exec(name.slice(queue.length)) : null
  return match === null ? 0 : Number(match[1])
}

/** Names and routing keys have 255 bytes at most. */
export const fits = (name: string): boolean => Buffer.byteLength(name) <= 255
