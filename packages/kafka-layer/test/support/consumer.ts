/** Publishing, consuming and counting, without vitest: processes of their own use it, too. */
import { Broker, Message, Subscriber } from "@event-flow/core"
import type { KafkaConfig } from "@event-flow/kafka-layer"
import { type Background, inBackground } from "@event-flow/test-support/background"
import { Deferred, Effect } from "effect"
import type { Scope } from "effect"

/** Quick to notice and to recover, for tests. */
export const consuming: KafkaConfig.Consuming = {
  sessionTimeout: "6 seconds",
  heartbeatInterval: "500 millis",
  rebalanceTimeout: "15 seconds",
  revokeTimeout: "3 seconds",
  commitInterval: "200 millis",
  fetchWait: "100 millis"
}

/** A message whose body is its number. */
export const numbered = (topic: string, i: number, key?: string): Message.Message =>
  Message.make({
    topic,
    key,
    attributes: {
      specversion: "1.0",
      id: `id-${i}`,
      type: "Numbered.v1",
      source: "/test",
      datacontenttype: "application/json"
    },
    body: new TextEncoder().encode(JSON.stringify(i))
  })

export const numberOf = (message: Message.Message): number => Number(new TextDecoder().decode(message.body!))

/** Publishes `count` numbered messages over `keys` keys, `concurrency` at once. */
export const publishNumbered = (
  topic: string,
  count: number,
  options: { readonly keys?: number; readonly from?: number; readonly concurrency?: number } = {}
) =>
  Effect.gen(function*() {
    const broker = yield* Broker.Broker
    const from = options.from ?? 0
    yield* Effect.forEach(
      Array.from({ length: count }, (_, i) => from + i),
      (i) => broker.publish([numbered(topic, i, options.keys === undefined ? undefined : `key-${i % options.keys}`)]),
      { concurrency: options.concurrency ?? 200, discard: true }
    )
  })

/** Who handled what, how often. */
export class Tally {
  readonly counts = new Map<number, number>()
  readonly lastOfKey = new Map<string, number>()
  handled = 0
  /** First deliveries that came after a later one of their key. */
  outOfOrder = 0
  readonly #waiters: Array<{ readonly distinct: number; readonly done: Deferred.Deferred<void> }> = []

  add(delivery: Subscriber.Delivery): void {
    const number = numberOf(delivery.message)
    this.addNumber(number, typeof delivery.message.key === "string" ? delivery.message.key : undefined)
  }

  addNumber(number: number, key: string | undefined): void {
    this.handled++
    const isFirst = !this.counts.has(number)
    this.counts.set(number, (this.counts.get(number) ?? 0) + 1)
    if (key !== undefined && isFirst) {
      if ((this.lastOfKey.get(key) ?? -1) > number) this.outOfOrder++
      else this.lastOfKey.set(key, number)
    }
    for (const { distinct, done } of this.#waiters) {
      if (this.counts.size >= distinct) Deferred.doneUnsafe(done, Effect.void)
    }
  }

  get distinct(): number {
    return this.counts.size
  }

  get duplicated(): number {
    return this.handled - this.counts.size
  }

  lost(sent: number): number {
    let lost = 0
    for (let i = 0; i < sent; i++) if (!this.counts.has(i)) lost++
    return lost
  }

  /** Waits until so many different messages were handled. */
  reached(distinct: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.counts.size >= distinct) return Effect.void
      const done = Deferred.makeUnsafe<void>()
      this.#waiters.push({ distinct, done })
      return Deferred.await(done)
    })
  }
}

interface Consuming {
  readonly topics: readonly [string, ...Array<string>]
  readonly group: string
  readonly maxInFlight?: number
}

type Handle = (delivery: Subscriber.Delivery) => Effect.Effect<void>

/**
 * A consumer on the port alone: lanes in parallel, in order within one. It ends with the scope, and gives back what it
 * has taken. When its subscription fails or its handler dies, the test does.
 */
export const consume = (
  options: Consuming,
  handle: Handle
): Effect.Effect<
  Subscriber.Subscription,
  Subscriber.SubscribeError,
  Subscriber.Subscriber | Background | Scope.Scope
> =>
  Effect.gen(function*() {
    const subscription = yield* subscribe(options)
    yield* inBackground(handleAll(subscription, handle))
    return subscription
  })

/** The same, for as long as the subscription does not fail. */
export const consumeUntilFailure = (
  options: Consuming,
  handle: Handle
): Effect.Effect<never, Subscriber.SubscribeError, Subscriber.Subscriber | Background | Scope.Scope> =>
  Effect.flatMap(subscribe(options), (subscription) => handleAll(subscription, handle))

// --- internal ---

const subscribe = (options: Consuming) =>
  Subscriber.Subscriber.use((subscriber) => subscriber.subscribe({ maxInFlight: 100, ...options }))

const handleAll = (
  subscription: Subscriber.Subscription,
  handle: Handle
): Effect.Effect<never, Subscriber.SubscribeError, Background | Scope.Scope> => {
  const lanes = new Map<string, Array<Subscriber.Delivery>>()
  const one = (delivery: Subscriber.Delivery): Effect.Effect<void> =>
    Effect.suspend(() => delivery.isRevoked() ? delivery.nack : Effect.andThen(handle(delivery), delivery.ack))
  const lane = (key: string, queue: Array<Subscriber.Delivery>): Effect.Effect<void> =>
    Effect.suspend(() => {
      const next = queue[0]
      if (next === undefined) {
        lanes.delete(key)
        return Effect.void
      }
      return Effect.flatMap(one(next), () => {
        queue.shift()
        return lane(key, queue)
      })
    })
  const start = (delivery: Subscriber.Delivery) => {
    const key = delivery.lane
    if (key === undefined) return inBackground(one(delivery))
    const queue = lanes.get(key)
    if (queue !== undefined) {
      queue.push(delivery)
      return Effect.void
    }
    const fresh = [delivery]
    lanes.set(key, fresh)
    return inBackground(lane(key, fresh))
  }
  return Effect.forever(
    Effect.flatMap(subscription.take, (deliveries) => Effect.forEach(deliveries, start, { discard: true }))
  )
}
