/**
 * Delayed retries of an `EventConsumer` without a plugin: a message that failed
 * waits in a queue with a time to live, and comes again when that is over.
 * Nothing waits behind it, so the order of its key is lost.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as ConsumerPolicy from "@event-flow/core/ConsumerPolicy"
import * as Duration from "effect/Duration"
import * as Names from "./internal/names.ts"

/**
 * Options of the delayed retries of a consumer group.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The group of the consumer. */
  readonly group: string
  /** The `retryDelays` of the subscriber's layer. */
  readonly delays: ReadonlyArray<Duration.Input>
  /** The `queueName` of the subscriber's layer, if it has one. */
  readonly queueName?: ((group: string, topic: string) => string) | undefined
  /** When the message has failed after the last delay too, and for what no delay can mend. Default: dead-letter it. */
  readonly otherwise?: ConsumerPolicy.Final | undefined
}

/**
 * A policy by which typed failures are retried after the first delay, then after
 * the second, and so on; undecodable messages and defects are not retried.
 *
 * **Details**
 *
 * The message is published to the queue of its delay and acknowledged when that
 * is confirmed, so it may double and is not lost; from there the server moves it
 * to the queue of its group, past other groups. It keeps id, key, attributes
 * and body, and has the headers of a dead letter.
 *
 * **Example** (Two retries)
 *
 * ```ts
 * import { EventConsumer } from "@event-flow/core"
 * import { RabbitRetry, RabbitSubscriber } from "@event-flow/rabbitmq-layer"
 *
 * const delays = ["5 seconds", "1 minute"] as const
 * const Board = EventConsumer.layer({ group: "board", policy: RabbitRetry.policy({ group: "board", delays }) })
 * const Live = RabbitSubscriber.layer({ url: "amqp://127.0.0.1", retryDelays: delays })
 * ```
 *
 * @stability unstable
 * @category policies
 * @since 0.1.0
 */
export const policy = (options: Options): ConsumerPolicy.ConsumerPolicy => {
  const delays = options.delays.map((delay) => Duration.toMillis(Duration.fromInputUnsafe(delay)))
  const queueName = options.queueName ?? Names.queueName
  const otherwise = options.otherwise ?? ConsumerPolicy.deadLetter()
  return (failure) => {
    if (failure._tag !== "HandlerFailed") return otherwise
    const { headers, topic } = failure.message
    const queue = queueName(options.group, topic)
    // Where the server took it from, the last time that it was published
    const from = headers["x-first-death-queue"]
    const step = typeof from === "string" ? Names.retryStep(queue, from) : 0
    const delay = delays[step]
    return delay === undefined ? otherwise : ConsumerPolicy.deadLetter(Names.retryQueue(queue, step + 1, delay))
  }
}
