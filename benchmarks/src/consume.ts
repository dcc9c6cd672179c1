/**
 * `npm run bench:consume -w benchmarks`: what `EventConsumer` costs a message, from a subscriber in memory whose
 * messages are there already: no broker, no network.
 */
import type { Message } from "@event-flow/core"
import { Broker, EventConsumer, EventHandler, NotificationEvent, Subscriber } from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"
import { parseArgs } from "node:util"
import { keys, work } from "./kafka/work.ts"

const { values } = parseArgs({
  options: {
    reps: { type: "string", default: "9" },
    count: { type: "string", default: "200000" },
    concurrency: { type: "string", default: "16" }
  }
})
const count = Number(values.count)

class Measured extends NotificationEvent.Class<Measured>()("Measured", {
  i: Schema.Number,
  padding: Schema.String
}, { topic: "measured", key: ({ i }) => String(i) }) {}

/** The messages come round again; each time in a new delivery, as from a broker. */
const messages = Array.from({ length: keys }, (_, i): Message.Message => {
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

class Source {
  #left = 0
  #next = 0
  #inFlight = 0
  #wake: () => void = () => undefined
  #done: () => void = () => undefined

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

  readonly take: Subscriber.Subscription["take"] = Effect.suspend(() => {
    const room = Math.min(500, this.#left, 2_000 - this.#inFlight)
    if (room === 0) return Effect.flatMap(this.#waiting, () => this.take)
    const deliveries = Array.from({ length: room }, () => new Delivery(this, messages[this.#next++ % keys]!))
    this.#left -= room
    this.#inFlight += room
    return Effect.succeed(deliveries as [Delivery, ...Array<Delivery>])
  })

  readonly #waiting = Effect.callback<void>((resume) => {
    this.#wake = () => resume(Effect.void)
    // What was acknowledged in this very turn has made room already
    setImmediate(this.#wake)
  })
}

const source = new Source()
let handled = 0
const Count = EventHandler.make("Count", { on: Measured })
const live = EventConsumer.layer([Count], {
  group: "bench",
  concurrency: Number(values.concurrency),
  maxInFlight: 2_000
}).pipe(
  Layer.provide(Count.toLayer(() => Effect.sync(() => void handled++))),
  Layer.provide([
    Broker.layerNone,
    Layer.succeed(Subscriber.Subscriber)({
      name: "bench",
      subscribe: () => Effect.succeed({ take: source.take, onRevoked: () => Effect.void })
    })
  ])
)

const program = Effect.gen(function*() {
  yield* Layer.build(live)
  const taken: Array<number> = []
  for (let rep = -2; rep < Number(values.reps); rep++) {
    const start = performance.now()
    yield* Effect.promise(() => source.run(count))
    if (rep >= 0) taken.push((performance.now() - start) * 1e6 / count)
  }
  taken.sort((a, b) => a - b)
  if (handled !== count * (Number(values.reps) + 2)) throw new Error(`handled ${handled}`)
  const round = Math.round
  process.stdout.write(
    `ns a message: median ${round(taken[taken.length >> 1]!)}, best ${round(taken[0]!)}, worst ${
      round(taken.at(-1)!)
    }\n`
  )
})

await Effect.runPromise(Effect.scoped(program))
process.exit(0)
