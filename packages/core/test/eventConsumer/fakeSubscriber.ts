/** A subscriber that does what a test says and keeps what the consumer answers. */
import { Message, Subscriber } from "@event-flow/core"
import { Effect, Layer, Queue } from "effect"
import { describeId } from "../../src/internal/describe.ts"

/** Delivers what a test says, each key in a lane; `log` has the first answer to each delivery. */
export class FakeSubscriber {
  readonly log: Array<string> = []
  readonly subscriptions: Array<Subscriber.SubscribeOptions> = []
  readonly #deliveries = Effect.runSync(Queue.make<Subscriber.Delivery, Subscriber.SubscribeError>())
  readonly #open = new Map<Subscriber.Delivery, { isRevoked: boolean }>()
  #listener: Effect.Effect<void> = Effect.void

  readonly layer: Layer.Layer<Subscriber.Subscriber> = Layer.succeed(Subscriber.Subscriber)({
    name: "fake",
    subscribe: (options) =>
      Effect.gen({ self: this }, function*() {
        this.subscriptions.push(options)
        yield* Effect.addFinalizer(() => Effect.sync(() => this.log.push("closed")))
        return {
          take: Queue.takeAll(this.#deliveries),
          onRevoked: (listener) =>
            Effect.sync(() => {
              this.#listener = listener
            })
        }
      })
  })

  /** Delivers messages as one batch. */
  readonly deliver = (...messages: ReadonlyArray<Message.Message>): Effect.Effect<void> =>
    Effect.asVoid(Queue.offerAll(this.#deliveries, messages.map((message) => this.#delivery(message))))

  /** Takes unanswered deliveries back. */
  readonly revokeSilently = (isRevoked: (message: Message.Message) => boolean): Effect.Effect<void> =>
    Effect.sync(() => {
      for (const [delivery, state] of this.#open) state.isRevoked ||= isRevoked(delivery.message)
    })

  /** Takes unanswered deliveries back, and waits for the listener. */
  readonly revoke = (isRevoked: (message: Message.Message) => boolean): Effect.Effect<void> =>
    Effect.andThen(this.revokeSilently(isRevoked), Effect.suspend(() => this.#listener))

  readonly fail = (error: Subscriber.SubscribeError) => Queue.fail(this.#deliveries, error)

  #delivery(message: Message.Message): Subscriber.Delivery {
    const state = { isRevoked: false }
    const answer = (what: string) =>
      Effect.sync(() => {
        if (!this.#open.delete(delivery)) return
        this.log.push(`${what} ${describeId(message)}${state.isRevoked ? ", revoked" : ""}`)
      })
    const delivery: Subscriber.Delivery = {
      message,
      attempt: 1,
      origin: { topic: message.topic, partition: "7", offset: "42" },
      lane: Message.keyString(message),
      ack: answer("ack"),
      nack: answer("nack"),
      isRevoked: () => state.isRevoked
    }
    this.#open.set(delivery, state)
    return delivery
  }
}
