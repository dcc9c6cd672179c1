/**
 * A broker that keeps what is published, and nothing more.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Broker from "../Broker.ts"
import type * as Event from "../Event.ts"
import type { Message } from "../Message.ts"
import * as MessageCodec from "../MessageCodec.ts"
import type * as NotificationEvent from "../NotificationEvent.ts"

/**
 * What was published.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class RecordingBroker extends Context.Service<RecordingBroker, {
  /** All messages, in order. */
  readonly published: Effect.Effect<ReadonlyArray<Message>>
  /** The messages of each publish. */
  readonly batches: Effect.Effect<ReadonlyArray<Arr.NonEmptyReadonlyArray<Message>>>
  /**
   * The events of one class, read back from the messages as a consumer would
   * read them, upcasting included. Messages of other types are left out.
   */
  readonly decoded: <C extends NotificationEvent.AnyClass>(
    event: C
  ) => Effect.Effect<ReadonlyArray<Event.Instance<C>>, MessageCodec.DecodeError>
  /** Forgets everything. */
  readonly clear: Effect.Effect<void>
}>()("@event-flow/core/testing/RecordingBroker") {}

/**
 * A recording broker, which reads events back with the `MessageCodec`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Broker.Broker | RecordingBroker> = Layer.effectContext(
  Effect.map(MessageCodec.MessageCodec, (codec) => {
    let batches: Array<Arr.NonEmptyReadonlyArray<Message>> = []
    const recording = RecordingBroker.of({
      published: Effect.sync(() => batches.flat()),
      batches: Effect.sync(() => [...batches]),
      decoded: <C extends NotificationEvent.AnyClass>(event: C) =>
        Effect.suspend(() => {
          const known = new Map([[event.tag, event]])
          return Effect.map(
            Effect.forEach(batches.flat(), (message) => decodeKnown(codec, message, known)),
            // The codec decodes to instances of the known class
            (events) => events.filter((event) => event !== undefined) as Array<unknown> as Array<Event.Instance<C>>
          )
        }),
      clear: Effect.sync(() => {
        batches = []
      })
    })
    const broker = Broker.Broker.of({
      name: "recording",
      publish: (messages) =>
        Effect.sync(() => {
          batches.push(messages)
        })
    })
    return Context.make(RecordingBroker, recording).pipe(Context.add(Broker.Broker, broker))
  })
)

// --- internal ---

const decodeKnown = (
  codec: MessageCodec.MessageCodec,
  message: Message,
  known: ReadonlyMap<string, NotificationEvent.AnyClass>
): Effect.Effect<NotificationEvent.Any | undefined, MessageCodec.DecodeError> =>
  Effect.catchIf(
    codec.decode(message, known),
    (error) => error.reason === "UnknownType" || error.reason === "NoType",
    () => Effect.undefined
  )
