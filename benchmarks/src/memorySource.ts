/** A subscriber in memory whose messages are there already: what is consumed from it pays for no broker and no network. */
import type { Message } from "@event-flow/core"
import { EventHandler, NotificationEvent, Subscriber } from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"
import { keys, work } from "./kafka/work.ts"

export class Measured extends NotificationEvent.Class<Measured>()("Measured", {
  i: Schema.Number,
  padding: Schema.String
}, { topic: "measured", key: ({ i }) => String(i) }) {}

export const Count = EventHandler.make("Count", { on: Measured })

/** The messages come round again; each time in a new delivery, as from a broker. */
export const messages = Array.from({ length: keys }, (_, i): Message.Message => {
  const { body, headers, key } = work(i)
  return {
    topic: "measured",
    key,
    attributes: { id: headers["ce_id"]!, type: headers["ce_type"]!, source: headers["ce_source"]! },
    headers: {},
    body
  }
})

class Delivery implements Subscriber.Delivery {
  readonly message: Message.Message
  readonly attempt = 1
  readonly origin = {}
  readonly #source: Source
  constructor(source: Source, message: Message.Message) {
    this.#source = source
    this.message = message
  }
  get lane(): string {
    return `measured/0/${this.message.key as string}`
  }
  get ack(): Effect.Effect<void> {
    return Effect.sync(() => this.#source.acknowledged())
  }
  get nack(): Effect.Effect<void> {
    return Effect.die("nothing fails here")
  }
  isRevoked(): boolean {
    return false
  }
}

export class Source {
  readonly #messageOf: (i: number) => Message.Message
  #left = 0
  #next = 0
  #inFlight = 0
  #wake: () => void = () => undefined
  #done: () => void = () => undefined

  constructor(messageOf: (i: number) => Message.Message) {
    this.#messageOf = messageOf
  }

  /** Delivers a number of messages; resolves when all are acknowledged. */
  run(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#left = count
      this.#done = resolve
      this.#wake()
    })
  }

  acknowledged(): void {
    if (--this.#inFlight === 0 && this.#left === 0) this.#done()
  }

  readonly #take: Subscriber.Subscription["take"] = Effect.suspend(() => {
    const room = Math.min(500, this.#left, 2_000 - this.#inFlight)
    if (room === 0) return Effect.flatMap(this.#waiting, () => this.#take)
    const deliveries = Array.from({ length: room }, () => new Delivery(this, this.#messageOf(this.#next++)))
    this.#left -= room
    this.#inFlight += room
    return Effect.succeed(deliveries as [Delivery, ...Array<Delivery>])
  })

  readonly #waiting = Effect.callback<void>((resume) => {
    this.#wake = () => resume(Effect.void)
    // What was acknowledged in this very turn has made room already
    setImmediate(this.#wake)
  })

  readonly layer = Layer.succeed(Subscriber.Subscriber)({
    name: "bench",
    subscribe: () => Effect.succeed({ take: this.#take, onRevoked: () => Effect.void })
  })
}
