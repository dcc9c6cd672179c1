/**
 * The message that a handler runs for in a consumer: id, time, headers, where it
 * lay, which attempt this is.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { consumedOf } from "./internal/dispatch/flow.ts"
import type { Message } from "./Message.ts"

/**
 * A message in the hands of the handlers of a consumer.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface ConsumedMessage {
  /**
   * Topic, key, attributes and headers. A message in structured mode shows here
   * as in binary mode: with its attributes, and its data alone as the body.
   */
  readonly message: Message
  /** The consumer group that handles it. */
  readonly group: string
  /**
   * Which attempt to handle it this is, from 1: retries in place, delayed retries
   * and redeliveries count, the latter as far as the broker counts them.
   */
  readonly attempt: number
  /** Where it lay, in the broker's own terms, as text: `partition` and `offset` on Kafka, `queue` on RabbitMQ. */
  readonly origin: Readonly<Record<string, string>>
}

/**
 * The consumed message that the running code works on: in a handler that an
 * `EventConsumer` runs, and in its follow-ups and the commands that it sends.
 * Undefined elsewhere, such as in a flow that a command from outside started.
 *
 * **Example** (Which tenant, since when, and where it lay)
 *
 * ```ts
 * import { ConsumedMessage, EventHandler, Message, NotificationEvent } from "@event-flow/core"
 * import { Effect } from "effect"
 *
 * class Placed extends NotificationEvent.Class<Placed>()("Placed", {}, { topic: "orders" }) {}
 * const Bill = EventHandler.make("Bill", { on: Placed })
 *
 * const BillLive = Bill.toLayer(Effect.fnUntraced(function*() {
 *   const consumed = yield* ConsumedMessage.current
 *   if (consumed === undefined) return
 *   const { attempt, message, origin } = consumed
 *   const [tenant] = Message.headerValues(message, "tenant")
 *   yield* Effect.log(`${message.attributes["time"]}, tenant ${tenant}, attempt ${attempt} at ${origin["offset"]}`)
 * }))
 * ```
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const current: Effect.Effect<ConsumedMessage | undefined> = Effect.withFiber((fiber) =>
  Effect.succeed(consumedOf(fiber.context))
)
