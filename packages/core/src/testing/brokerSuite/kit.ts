/** What the cases of the suite are made of: messages that are numbers, readers, and checks. */
import * as Arr from "effect/Array"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Broker from "../../Broker.ts"
import { emptyRecord } from "../../BrokerLayer.ts"
import * as Message from "../../Message.ts"
import * as Subscriber from "../../Subscriber.ts"
import type { Features } from "./features.ts"

type Ports = Broker.Broker | Subscriber.Subscriber
export type Test<A = void> = Effect.Effect<A, unknown, Ports | Scope.Scope>

export interface Definition {
  readonly name: string
  /** Left out where one of these is not promised. */
  readonly needs?: ReadonlyArray<keyof Features>
  /** Left out where one of these is promised. */
  readonly lacks?: ReadonlyArray<keyof Features>
  readonly run: (bench: Bench) => Test
}

export const encoder = new TextEncoder()
const decoder = new TextDecoder()

export const textOf = (message: Message.Message): string => decoder.decode(message.body ?? undefined)

/** A layer may give text as bytes, and the other way round. */
export const bytesOf = (value: Message.HeaderValue | undefined): ReadonlyArray<number> | undefined | null =>
  value === undefined || value === null
    ? value
    : Array.from(typeof value === "string" ? encoder.encode(value) : value)

/** The values of a header as bytes. */
export const headerBytes = (message: Message.Message, name: string) => Message.headerValues(message, name).map(bytesOf)

/** Headers of a foreign message: of one name twice, without a value, and with names that objects have for themselves. */
export const oddHeaders: Message.Headers = Object.assign(emptyRecord<Message.Headers[string]>(), {
  twice: ["1", new Uint8Array([0xff]), null, "1"],
  nothing: null,
  constructor: "a name like any other",
  toString: new Uint8Array([0xff])
}, JSON.parse("{\"__proto__\":\"a name as well\"}"))

export const numbers = (count: number, from = 1): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, i) => String(from + i))

export const check = (condition: boolean, expectation: () => string): void => {
  if (!condition) throw new Error(expectation())
}

export const checkSame = (actual: unknown, expected: unknown, what: string): void => {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)]
  check(a === e, () => `${what}\n  expected: ${e}\n  actual:   ${a}`)
}

export const sorted = (values: Iterable<string>): ReadonlyArray<string> =>
  [...values].sort((a, b) => Number(a) - Number(b))

/** The first time each was seen. */
export const firsts = (values: ReadonlyArray<string>): ReadonlyArray<string> => [...new Set(values)]

export const keyOf = (text: string): string => `key-${Number(text) % 5}`

export const checkOrderPerKey = (seen: ReadonlyArray<string>, what: string): void => {
  for (const key of new Set(seen.map(keyOf))) {
    const ofKey = firsts(seen).filter((text) => keyOf(text) === key)
    checkSame(ofKey, sorted(ofKey), `${what}: the order of ${key}`)
  }
}

const unique = (): string => SecureRandom.uuidV7Unsafe().replaceAll("-", "").slice(-16)

export const toMessage = (topic: string, text: string, key: string | undefined): Message.Message =>
  Message.make({
    topic,
    key,
    attributes: {
      specversion: "1.0",
      id: SecureRandom.uuidV7Unsafe(),
      type: "SuiteMessage.v1",
      source: "/suite",
      datacontenttype: "text/plain"
    },
    body: encoder.encode(text)
  })

interface SubscribeOptions extends Pick<Subscriber.SubscribeOptions, "topics" | "ephemeral"> {
  readonly group?: string | undefined
  readonly maxInFlight?: number | undefined
  /** Into which reader deliveries go; default: a new one. */
  readonly into?: Reader | undefined
}

/** Deliveries in the order of their arrival. */
export class Reader {
  readonly #deliveries: Queue.Queue<Subscriber.Delivery, Subscriber.SubscribeError>
  readonly #bench: Bench
  private constructor(bench: Bench, deliveries: Queue.Queue<Subscriber.Delivery, Subscriber.SubscribeError>) {
    this.#bench = bench
    this.#deliveries = deliveries
  }

  /** A queue wakes whoever waits for it by the scheduler of the fiber that made it: that of the case. */
  static make(bench: Bench): Effect.Effect<Reader> {
    return Effect.map(
      Queue.make<Subscriber.Delivery, Subscriber.SubscribeError>(),
      (deliveries) => new Reader(bench, deliveries)
    )
  }

  readonly feed = (subscription: Subscriber.Subscription): Effect.Effect<never> =>
    subscription.take.pipe(
      Effect.flatMap((deliveries) => Queue.offerAll(this.#deliveries, deliveries)),
      Effect.forever,
      Effect.catch((error) => Effect.andThen(Queue.fail(this.#deliveries, error), Effect.never))
    )

  /** The next delivery that was not taken back. */
  readonly next = (what: string): Effect.Effect<Subscriber.Delivery, Subscriber.SubscribeError> =>
    Queue.take(this.#deliveries).pipe(
      Effect.repeat({ while: (delivery) => delivery.isRevoked() }),
      this.#bench.soon(() => what)
    )

  /** How many deliveries have arrived that nobody has asked for. */
  readonly waiting = Effect.sync((): number => Queue.sizeUnsafe(this.#deliveries))

  /** Hands on deliveries, one at a time, until their texts contain these; gives all texts in order. */
  readonly until = (
    texts: Iterable<string>,
    handle: (delivery: Subscriber.Delivery) => Effect.Effect<void> = (delivery) => delivery.ack
  ): Effect.Effect<ReadonlyArray<string>, Subscriber.SubscribeError> => {
    const missing = new Set(texts)
    const seen: Array<string> = []
    return Effect.gen({ self: this }, function*() {
      while (missing.size > 0) {
        const delivery = yield* this.next(`messages ${sorted(missing)}; arrived: ${seen.join(",") || "none"}`)
        const text = textOf(delivery.message)
        yield* handle(delivery)
        missing.delete(text)
        seen.push(text)
      }
      return seen
    })
  }
}

/** A subscription and what reads from it. */
interface Open extends Pick<Reader, "next" | "until" | "waiting"> {
  readonly close: Effect.Effect<void>
}

/** What a case works with. */
export class Bench {
  /** To build once more, besides the one that the case runs with. */
  readonly layer: Layer.Layer<Ports, unknown>
  readonly features: Features
  readonly #run = unique()

  constructor(layer: Layer.Layer<Ports, unknown>, features: Features) {
    this.layer = Layer.fresh(layer)
    this.features = features
  }

  readonly group = (name = "group"): string => `suite-${this.#run}-${name}`

  /** A topic of this case alone. */
  readonly topic = (name = "topic"): Effect.Effect<string, unknown> => {
    const topic = `suite-${this.#run}-${name}`
    return Effect.as(this.features.prepareTopics?.([topic]) ?? Effect.void, topic)
  }

  readonly soon = (what: () => string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.timeoutOrElse(effect, {
      duration: this.features.patience ?? "30 seconds",
      orElse: () => Effect.die(new Error(`Waited too long for ${what()}`))
    })

  /** Subscribes, in a scope that ends with the case at the latest. */
  readonly subscribe = (options: SubscribeOptions): Test<Open> =>
    Effect.gen({ self: this }, function*() {
      const subscriber = yield* Subscriber.Subscriber
      const scope = yield* Scope.fork(yield* Effect.scope)
      const subscription = yield* subscriber.subscribe({
        topics: options.topics,
        group: options.group ?? this.group(),
        maxInFlight: options.maxInFlight ?? 100,
        ephemeral: options.ephemeral
      }).pipe(Scope.provide(scope), this.soon(() => "a subscription"))
      const reader = options.into ?? (yield* Reader.make(this))
      // Stops taking before the subscription closes, as its owner should
      yield* Effect.forkIn(reader.feed(subscription), scope)
      const close = Scope.close(scope, Exit.void).pipe(this.soon(() => "the end of a subscription"))
      return { next: reader.next, until: reader.until, waiting: reader.waiting, close }
    })

  /** Publishes messages with these texts, by one publish. */
  readonly publish = (topic: string, texts: Iterable<string>, key?: (text: string) => string | undefined): Test =>
    this.publishAll(Array.from(texts, (text) => toMessage(topic, text, key?.(text))))

  readonly publishAll = (messages: ReadonlyArray<Message.Message>): Test =>
    Effect.gen({ self: this }, function*() {
      const { publish } = yield* Broker.Broker
      if (Arr.isReadonlyArrayNonEmpty(messages)) {
        yield* publish(messages).pipe(this.soon(() => "the end of a publish"))
      }
    })

  /**
   * Whatever the broker had to deliver has been delivered, as far as that can be
   * known from outside: a message published now, to this other topic, has come
   * back.
   */
  readonly fence = (topic: string): Test =>
    Effect.gen({ self: this }, function*() {
      const fence = yield* this.subscribe({ topics: [topic], group: this.group("fence") })
      const text = unique()
      yield* this.publish(topic, [text])
      yield* fence.until([text])
      yield* fence.close
    })

  /** No more than once each, or at least once each where a broker may repeat them. */
  readonly checkComplete = (actual: ReadonlyArray<string>, expected: ReadonlyArray<string>, what: string): void => {
    const repeats = this.features.duplicatesOnRebalance === true
    checkSame(sorted(repeats ? new Set(actual) : actual), sorted(expected), what)
  }
}
