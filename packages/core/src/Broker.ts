/**
 * The port to a message broker. A program that provides none does not compile;
 * `layerNone` says that there is none.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { describeType } from "./internal/describe.ts"
import type { Message } from "./Message.ts"

/**
 * A notification event was collected in a program that has no broker.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class BrokerNotFound extends Schema.TaggedError<BrokerNotFound>("@event-flow/core/Broker/BrokerNotFound")(
  "BrokerNotFound",
  { topic: Schema.String, event: Schema.String }
) {
  override get message(): string {
    return `No broker to publish "${this.event}" to topic "${this.topic}": ` +
      "Broker.layerNone is provided; provide a broker's layer instead (KafkaBroker, RabbitBroker, MemoryBroker)"
  }
}

const ReasonFields = { detail: Schema.String, cause: Schema.optionalKey(Schema.Defect()) }

/**
 * The broker did not confirm in time. The message may have arrived: publishing
 * it again can make a duplicate, which an inbox drops.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class Timeout extends Schema.TaggedError<Timeout>("@event-flow/core/Broker/Timeout")("Timeout", ReasonFields) {
  readonly isRetryable = true
}

/**
 * The broker cannot be reached, or the connection broke.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class Unreachable
  extends Schema.TaggedError<Unreachable>("@event-flow/core/Broker/Unreachable")("Unreachable", ReasonFields)
{
  readonly isRetryable = true
}

/**
 * The broker is there and did not take the message for now: a queue is full, or
 * too few replicas of it are there. Some queues of several may have taken it.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class Unavailable
  extends Schema.TaggedError<Unavailable>("@event-flow/core/Broker/Unavailable")("Unavailable", ReasonFields)
{
  readonly isRetryable = true
}

/**
 * The topic does not exist, or no queue is bound to it.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class UnknownTopic
  extends Schema.TaggedError<UnknownTopic>("@event-flow/core/Broker/UnknownTopic")("UnknownTopic", ReasonFields)
{
  readonly isRetryable = false
}

/**
 * The message is larger than the broker takes.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class MessageTooLarge extends Schema.TaggedError<MessageTooLarge>("@event-flow/core/Broker/MessageTooLarge")(
  "MessageTooLarge",
  ReasonFields
) {
  readonly isRetryable = false
}

/**
 * The broker refused the credentials, or they lack a permission.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class NotAuthorised
  extends Schema.TaggedError<NotAuthorised>("@event-flow/core/Broker/NotAuthorised")("NotAuthorised", ReasonFields)
{
  readonly isRetryable = false
}

/**
 * The broker's layer is closing or closed.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class Closed extends Schema.TaggedError<Closed>("@event-flow/core/Broker/Closed")("Closed", ReasonFields) {
  readonly isRetryable = false
}

/**
 * The event could not be encoded: its fields do not fit its own schema's
 * encoding. Nothing was sent.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class EncodeFailed
  extends Schema.TaggedError<EncodeFailed>("@event-flow/core/Broker/EncodeFailed")("EncodeFailed", ReasonFields)
{
  readonly isRetryable = false
}

/**
 * The broker is an outbox, and no database transaction is open to write the
 * message in.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class TransactionRequired
  extends Schema.TaggedError<TransactionRequired>("@event-flow/core/Broker/TransactionRequired")(
    "TransactionRequired",
    ReasonFields
  )
{
  readonly isRetryable = false
}

/**
 * The broker refused the message for another reason.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class Rejected extends Schema.TaggedError<Rejected>("@event-flow/core/Broker/Rejected")(
  "Rejected",
  ReasonFields
) {
  readonly isRetryable = false
}

/**
 * Why a publish failed. Handle one reason with
 * `Effect.catchReason("PublishError", "Timeout", ...)`.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export type PublishReason = typeof PublishReason.Type

/**
 * Schema of the reasons of a `PublishError`.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export const PublishReason = Schema.Union([
  Timeout,
  Unreachable,
  Unavailable,
  UnknownTopic,
  MessageTooLarge,
  NotAuthorised,
  Closed,
  EncodeFailed,
  TransactionRequired,
  Rejected
])

/**
 * A message was not published, or it is unknown whether it was (`Timeout`).
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class PublishError extends Schema.TaggedError<PublishError>("@event-flow/core/Broker/PublishError")(
  "PublishError",
  { topic: Schema.String, messageType: Schema.String, reason: PublishReason }
) {
  override readonly cause = this.reason

  override get message(): string {
    return `Publishing "${this.messageType}" to topic "${this.topic}" failed: ${this.reason._tag}: ${this.reason.detail}`
  }

  /** Whether publishing the same message again may succeed. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
}

/**
 * Builds the `PublishError` of a message.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const publishError = (message: Message, reason: PublishReason): PublishError =>
  new PublishError({ topic: message.topic, messageType: describeType(message), reason })

/**
 * Publishes messages.
 *
 * **Details**
 *
 * `publish` succeeds when the broker has accepted every message. Messages of
 * one key keep the order of the list. When `publish` fails, some of the
 * messages may have been published. `name` is the value of `messaging.system`
 * in spans and metrics (`kafka`, `rabbitmq`, `memory`).
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class Broker extends Context.Service<Broker, {
  readonly name: string
  readonly publish: (
    messages: Arr.NonEmptyReadonlyArray<Message>
  ) => Effect.Effect<void, BrokerNotFound | PublishError>
  /**
   * The topics among these that nothing can be published to, since they do not
   * exist and the broker makes none. It ends within a bound, and fails where it
   * cannot tell now. Undefined: this broker can never tell. `EventConsumer` asks
   * about its dead letters when it starts.
   */
  readonly missingTopics?:
    | ((topics: Arr.NonEmptyReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, PublishError>)
    | undefined
}>()("@event-flow/core/Broker") {}

/**
 * The layer of a program without a broker: publishing fails with
 * `BrokerNotFound`, which names the event.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerNone: Layer.Layer<Broker> = Layer.succeed(Broker)({
  name: "none",
  publish: (messages) =>
    Effect.suspend(() => {
      const message = messages[0]
      return Effect.fail(
        new BrokerNotFound({ topic: message.topic, event: describeType(message) })
      )
    })
})
