/**
 * What every pair of a `Broker` and a `Subscriber` promises, as tests to run
 * against yours: the behaviours of Watermill's universal pub/sub suite, and those
 * that the event consumer relies on.
 *
 * **Example** (Registering it with vitest)
 *
 * ```ts no-run
 * import { describe, it } from "@effect/vitest"
 * import { MemoryBroker } from "@event-flow/core"
 * import { brokerSuite } from "@event-flow/core/testing"
 *
 * const suite = brokerSuite("memory", MemoryBroker.layer(), {
 *   persistentTopics: true,
 *   oldMessagesForNewGroups: true
 * })
 *
 * describe(suite.name, () => {
 *   for (const { name, run } of suite.cases) it.live(name, () => run, 60_000)
 *   for (const { name, reason } of suite.skipped) it.skip(`${name} (${reason})`)
 * })
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Broker from "../Broker.ts"
import * as ConsumerPolicy from "../ConsumerPolicy.ts"
import * as EventConsumer from "../EventConsumer.ts"
import * as EventFlow from "../EventFlow.ts"
import * as EventHandler from "../EventHandler.ts"
import * as Message from "../Message.ts"
import * as NotificationEvent from "../NotificationEvent.ts"
import * as Subscriber from "../Subscriber.ts"

/**
 * What the pair promises beyond the ports, and how the suite prepares it. A
 * promise that is not made skips the cases that need it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface BrokerSuiteFeatures {
  /**
   * Makes the topics of a case, before it subscribes or publishes: Kafka creates
   * them with some partitions. The suite gives every case new names. Default:
   * nothing, subscribing or publishing makes a topic.
   */
  readonly prepareTopics?: ((topics: ReadonlyArray<string>) => Effect.Effect<void, unknown>) | undefined
  /**
   * A topic keeps what is published before anybody has subscribed. Without it,
   * the suite subscribes first (RabbitMQ: a message without a queue is
   * unroutable). Default: false.
   */
  readonly persistentTopics?: boolean | undefined
  /** A group that subscribes for the first time gets what was published before. Default: false. */
  readonly oldMessagesForNewGroups?: boolean | undefined
  /**
   * Messages of one key are delivered in the order of publishing, over all
   * consumers of a group. Default: true.
   */
  readonly orderPerKey?: boolean | undefined
  /**
   * A group has at most one unacknowledged message of a key: the next one is
   * delivered when the one before is acknowledged, and one that is given back
   * comes before those behind it. (Kafka delivers them ahead, in one lane.)
   * Default: false.
   */
  readonly onePerKey?: boolean | undefined
  /** `Delivery.attempt` is exact, not just above 1 for a redelivery or always 1. Default: false. */
  readonly countsAttempts?: boolean | undefined
  /** A key may be bytes that are no text. Default: false. */
  readonly binaryKeys?: boolean | undefined
  /** Messages are there when the layer that published them is closed. Default: false. */
  readonly durable?: boolean | undefined
  /**
   * A consumer that joins or leaves a group can make messages that were
   * acknowledged come again (Kafka: those not committed yet). Without it, the
   * suite takes a duplicate for a failure. Default: false.
   */
  readonly duplicatesOnRebalance?: boolean | undefined
  /**
   * Restarts the broker, and succeeds when it takes connections again. Both the
   * publisher and the subscription must mend themselves. Default: none, the case
   * is skipped.
   */
  readonly restart?: Effect.Effect<void, unknown> | undefined
  /** How long the suite waits for a message or an end, before the case fails. Default: 30 seconds. */
  readonly patience?: Duration.Input | undefined
}

/**
 * One test.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface BrokerSuiteCase {
  readonly name: string
  /**
   * Runs it, with its own build of the pair's layer, topics and groups: cases
   * may run side by side. It dies with an `Error` that says what was expected.
   * Needs the live clock.
   */
  readonly run: Effect.Effect<void, unknown>
}

/**
 * The tests of a pair.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface BrokerSuite {
  readonly name: string
  readonly cases: ReadonlyArray<BrokerSuiteCase>
  /** What the features leave out. */
  readonly skipped: ReadonlyArray<{ readonly name: string; readonly reason: string }>
}

/**
 * The tests of a pair of a `Broker` and a `Subscriber`.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const brokerSuite = <E>(
  name: string,
  layer: Layer.Layer<Broker.Broker | Subscriber.Subscriber, E>,
  features: BrokerSuiteFeatures = {}
): BrokerSuite => {
  const cases: Array<BrokerSuiteCase> = []
  const skipped: Array<BrokerSuite["skipped"][number]> = []
  for (const { name, needs, run } of definitions) {
    const missing = needs?.find((feature) => !has(features, feature))
    if (missing !== undefined) {
      skipped.push({ name, reason: `not promised: ${missing}` })
      continue
    }
    cases.push({
      name,
      run: Effect.suspend(() => run(new Bench(layer, features))).pipe(Effect.scoped, Effect.provide(layer))
    })
  }
  return { name: `brokerSuite: ${name}`, cases, skipped }
}

// --- internal ---

type Ports = Broker.Broker | Subscriber.Subscriber
type Test<A = void> = Effect.Effect<A, unknown, Ports | Scope.Scope>

interface Definition {
  readonly name: string
  readonly needs?: ReadonlyArray<keyof BrokerSuiteFeatures>
  readonly run: (bench: Bench) => Test
}

const has = (features: BrokerSuiteFeatures, feature: keyof BrokerSuiteFeatures): boolean =>
  feature === "orderPerKey" ? features.orderPerKey !== false : Boolean(features[feature])

const encoder = new TextEncoder()
const decoder = new TextDecoder()

const textOf = (message: Message.Message): string => decoder.decode(message.body)

const bytesOf = (value: Message.HeaderValue | undefined): ReadonlyArray<number> | undefined =>
  value === undefined ? undefined : Array.from(typeof value === "string" ? encoder.encode(value) : value)

const numbers = (count: number, from = 1): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, i) => String(from + i))

const check = (condition: boolean, expectation: () => string): void => {
  if (!condition) throw new Error(expectation())
}

const checkSame = (actual: unknown, expected: unknown, what: string): void => {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)]
  check(a === e, () => `${what}\n  expected: ${e}\n  actual:   ${a}`)
}

const sorted = (values: Iterable<string>): ReadonlyArray<string> => [...values].sort((a, b) => Number(a) - Number(b))

const unique = (): string => SecureRandom.uuidV7Unsafe().replaceAll("-", "").slice(-16)

interface SubscribeOptions {
  readonly topics: ReadonlyArray<string>
  readonly group?: string | undefined
  readonly maxInFlight?: number | undefined
  /** Into which reader deliveries go; default: a new one. */
  readonly into?: Reader | undefined
}

/** Deliveries in the order of their arrival. */
class Reader {
  readonly #deliveries = Queue.make<Subscriber.Delivery, Subscriber.SubscribeError>().pipe(Effect.runSync)
  readonly #bench: Bench
  constructor(bench: Bench) {
    this.#bench = bench
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

  /** What has arrived and was not asked for. */
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
class Bench {
  /** To build once more, besides the one that the case runs with. */
  readonly layer: Layer.Layer<Ports, unknown>
  readonly features: BrokerSuiteFeatures
  readonly #run = unique()

  constructor(layer: Layer.Layer<Ports, unknown>, features: BrokerSuiteFeatures) {
    this.layer = Layer.fresh(layer)
    this.features = features
  }

  readonly group = (name = "group"): string => `suite-${this.#run}-${name}`

  readonly topics = <const Names extends ReadonlyArray<string>>(
    ...names: Names
  ): Effect.Effect<{ readonly [Name in keyof Names]: string }, unknown> => {
    const topics = names.map((name) => `suite-${this.#run}-${name}`)
    return Effect.as(this.features.prepareTopics?.(topics) ?? Effect.void, topics as never)
  }

  readonly soon = (what: () => string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.timeoutOrElse(effect, {
      duration: this.features.patience ?? "30 seconds",
      orElse: () => Effect.die(new Error(`Waited in vain for ${what()}`))
    })

  /** Subscribes, in a scope that ends with the case at the latest. */
  readonly subscribe = (options: SubscribeOptions): Test<Open> =>
    Effect.gen({ self: this }, function*() {
      const subscriber = yield* Subscriber.Subscriber
      const scope = yield* Scope.fork(yield* Effect.scope)
      const subscription = yield* subscriber.subscribe({
        topics: options.topics as Arr.NonEmptyReadonlyArray<string>,
        group: options.group ?? this.group(),
        maxInFlight: options.maxInFlight ?? 100
      }).pipe(Scope.provide(scope), this.soon(() => "a subscription"))
      const reader = options.into ?? new Reader(this)
      // Stops taking before the subscription closes, as its owner should
      yield* Effect.forkIn(reader.feed(subscription), scope)
      const close = Scope.close(scope, Exit.void).pipe(this.soon(() => "the end of a subscription"))
      return { next: reader.next, until: reader.until, waiting: reader.waiting, close }
    })

  readonly publish = (topic: string, texts: Iterable<string>, key?: (text: string) => string | undefined): Test =>
    Effect.gen({ self: this }, function*() {
      const { publish } = yield* Broker.Broker
      const messages = Array.from(texts, (text) => toMessage(topic, text, key?.(text)))
      yield* publish(messages as never).pipe(this.soon(() => "the end of a publish"))
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

const toMessage = (topic: string, text: string, key: string | undefined): Message.Message =>
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

/** The first time each was seen. */
const firsts = (values: ReadonlyArray<string>): ReadonlyArray<string> => [...new Set(values)]

const keyOf = (text: string): string => `key-${Number(text) % 5}`

const checkOrderPerKey = (seen: ReadonlyArray<string>, what: string): void => {
  for (const key of new Set(seen.map(keyOf))) {
    const ofKey = firsts(seen).filter((text) => keyOf(text) === key)
    checkSame(ofKey, sorted(ofKey), `${what}: the order of ${key}`)
  }
}

const definitions: ReadonlyArray<Definition> = [
  {
    name: "publish and subscribe: every message arrives once",
    run: Effect.fnUntraced(function*(bench) {
      const [topic, other] = yield* bench.topics("topic", "other")
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(50))
      yield* bench.publish(topic, numbers(50, 51))
      const seen = yield* reader.until(numbers(100))
      // After a while in which nothing came
      yield* bench.fence(other)
      yield* bench.publish(topic, ["101"])
      bench.checkComplete([...seen, ...(yield* reader.until(["101"]))], numbers(101), "what arrived")
    })
  },
  {
    name: "a message keeps its key, attributes, headers and body byte for byte",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = yield* bench.subscribe({ topics: [topic] })
      const { publish } = yield* Broker.Broker
      const attributes = {
        specversion: "1.0",
        id: SecureRandom.uuidV7Unsafe(),
        type: "Zażółć.v2",
        source: "/suite/Ελλάδα?a=1&b=%20",
        subject: "ключ 🔑",
        time: "2026-01-02T03:04:05.678Z",
        datacontenttype: "application/json; charset=utf-8",
        correlationid: "c-1",
        causationid: "c-0",
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        customextension: "42"
      }
      const headers = {
        plain: "text",
        "X-Mixed-Case": "kept",
        unicode: "naïve 🛫",
        empty: "",
        binary: new Uint8Array([0xff, 0x00, 0xfe, 0x80])
      }
      const bodies = [
        encoder.encode("{\"title\":\"šŧŕąñģė 🛬\"}"),
        new Uint8Array(0),
        Uint8Array.from({ length: 256 }, (_, i) => 255 - i)
      ]
      for (const body of bodies) {
        for (const key of ["ключ 🔑", undefined]) {
          const sent = Message.make({ topic, key, attributes, headers, body })
          yield* publish([sent])
          const delivery = yield* reader.next("a message")
          const { message } = delivery
          checkSame(message.topic, topic, "topic")
          checkSame(message.key, key, "key")
          checkSame(Array.from(message.body), Array.from(body), "body")
          checkSame(
            Object.entries(message.attributes).sort(),
            Object.entries(attributes).sort(),
            "attributes"
          )
          for (const [name, value] of Object.entries(headers)) {
            checkSame(bytesOf(message.headers[name]), bytesOf(value), `header ${name}`)
          }
          yield* delivery.ack
        }
      }
    })
  },
  {
    name: "a key that is no text keeps its bytes",
    needs: ["binaryKeys"],
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = yield* bench.subscribe({ topics: [topic] })
      const { publish } = yield* Broker.Broker
      const key = new Uint8Array([0xff, 0x00, 0xc3])
      yield* publish([Message.make({ topic, key, body: encoder.encode("1") })])
      const delivery = yield* reader.next("the message")
      checkSame(bytesOf(delivery.message.key), bytesOf(key), "key")
      yield* delivery.ack
    })
  },
  {
    name: "a foreign message without attributes, key and headers arrives as it is",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = yield* bench.subscribe({ topics: [topic] })
      const { publish } = yield* Broker.Broker
      yield* publish([Message.make({ topic, body: encoder.encode("1") })])
      const { ack, message } = yield* reader.next("the message")
      checkSame([textOf(message), message.key, message.attributes], ["1", undefined, {}], "body, key and attributes")
      yield* ack
    })
  },
  {
    name: "many subscribers and publishers: each message goes to one consumer of the group",
    run: Effect.fnUntraced(function*(bench) {
      const [topic, other] = yield* bench.topics("topic", "other")
      const reader = new Reader(bench)
      yield* Effect.forEach(numbers(4), () => bench.subscribe({ topics: [topic], into: reader, maxInFlight: 10 }))
      yield* Effect.forEach(
        numbers(4),
        (publisher) =>
          Effect.forEach(numbers(25, Number(publisher) * 100), (text) => bench.publish(topic, [text], keyOf), {
            concurrency: 5
          }),
        { concurrency: "unbounded" }
      )
      const expected = numbers(4).flatMap((publisher) => numbers(25, Number(publisher) * 100))
      const seen = yield* reader.until(expected)
      yield* bench.fence(other)
      if (bench.features.duplicatesOnRebalance !== true) {
        checkSame(yield* reader.waiting, 0, "deliveries when all have arrived")
      }
      bench.checkComplete(seen, expected, "what arrived")
    })
  },
  {
    name: "two groups each get everything",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const first = yield* bench.subscribe({ topics: [topic], group: bench.group("first") })
      const second = yield* bench.subscribe({ topics: [topic], group: bench.group("second") })
      yield* bench.publish(topic, numbers(20))
      bench.checkComplete(yield* first.until(numbers(20)), numbers(20), "the first group")
      bench.checkComplete(yield* second.until(numbers(20)), numbers(20), "the second group")
    })
  },
  {
    name: "topics are isolated",
    run: Effect.fnUntraced(function*(bench) {
      const [left, right] = yield* bench.topics("left", "right")
      const readers = yield* Effect.forEach(
        [left, right],
        (topic) => bench.subscribe({ topics: [topic], group: bench.group() })
      )
      yield* bench.publish(left, numbers(10))
      yield* bench.publish(right, numbers(10, 11))
      bench.checkComplete(yield* readers[0]!.until(numbers(10)), numbers(10), "the left topic")
      bench.checkComplete(yield* readers[1]!.until(numbers(10, 11)), numbers(10, 11), "the right topic")
    })
  },
  {
    name: "one subscription to many topics, one publish to many topics",
    run: Effect.fnUntraced(function*(bench) {
      const topics: ReadonlyArray<string> = yield* bench.topics("a", "b", "c", "d", "e")
      const reader = yield* bench.subscribe({ topics })
      const { publish } = yield* Broker.Broker
      yield* publish(numbers(50).map((text, i) => toMessage(topics[i % 5]!, text, undefined)) as never)
      const wrong: Array<string> = []
      yield* reader.until(numbers(50), ({ ack, message }) => {
        if (message.topic !== topics[(Number(textOf(message)) - 1) % 5]) wrong.push(textOf(message))
        return ack
      })
      checkSame(wrong, [], "messages under the wrong topic")
    })
  },
  {
    name: "publishing right before reading loses nothing",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const isFirst = bench.features.persistentTopics !== true || bench.features.oldMessagesForNewGroups !== true
      const early = isFirst ? yield* bench.subscribe({ topics: [topic] }) : undefined
      yield* bench.publish(topic, numbers(10))
      const reader = early ?? (yield* bench.subscribe({ topics: [topic] }))
      const publishing = yield* Effect.forkChild(
        Effect.forEach(numbers(10, 11), (text) => bench.publish(topic, [text])),
        { startImmediately: true }
      )
      bench.checkComplete(yield* reader.until(numbers(20)), numbers(20), "what arrived")
      yield* Fiber.join(publishing)
    })
  },
  {
    name: "a new group gets the messages from before it, in order",
    needs: ["persistentTopics", "oldMessagesForNewGroups"],
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      yield* bench.publish(topic, numbers(10), () => "key")
      const first = yield* bench.subscribe({ topics: [topic], group: bench.group("first") })
      checkSame(firsts(yield* first.until(numbers(10))), numbers(10), "the first group")
      yield* bench.publish(topic, numbers(10, 11), () => "key")
      const second = yield* bench.subscribe({ topics: [topic], group: bench.group("second") })
      checkSame(firsts(yield* second.until(numbers(20))), numbers(20), "the second group")
    })
  },
  {
    name: "messages outlive the layer that published them",
    needs: ["durable"],
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      // Where a queue is made by subscribing
      if (bench.features.persistentTopics !== true) {
        const { close } = yield* bench.subscribe({ topics: [topic] })
        yield* close
      }
      yield* Effect.provide(bench.publish(topic, numbers(20)), bench.layer)
      const reader = yield* bench.subscribe({ topics: [topic] })
      bench.checkComplete(yield* reader.until(numbers(20)), numbers(20), "what arrived")
    })
  },
  {
    name: "a message that is not acknowledged is delivered again",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(10))
      const attempts = new Map<string, Array<number>>()
      while ([...attempts.values()].filter((list) => list.length >= 2).length < 10) {
        const delivery = yield* reader.next("redeliveries")
        const text = textOf(delivery.message)
        const list = attempts.get(text) ?? []
        attempts.set(text, [...list, delivery.attempt])
        yield* list.length === 0 ? delivery.nack : delivery.ack
      }
      checkSame(sorted(attempts.keys()), numbers(10), "what was redelivered")
      if (bench.features.countsAttempts === true) {
        checkSame([...attempts.values()], numbers(10).map(() => [1, 2]), "attempts")
      }
    })
  },
  {
    name: "only the first of ack and nack counts",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, ["1"])
      const first = yield* reader.next("the message")
      yield* first.ack
      yield* first.nack
      yield* first.ack
      yield* bench.publish(topic, ["2"])
      const second = yield* reader.next("the next message")
      checkSame(textOf(second.message), "2", "what comes after an acknowledged message")
      yield* second.nack
      yield* second.ack
      const again = yield* reader.next("the redelivery")
      checkSame(textOf(again.message), "2", "what comes after nack")
      yield* again.ack
    })
  },
  {
    name: "consuming goes on after errors, over many subscriptions",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const first = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(10))
      yield* first.until(numbers(10), (delivery) => delivery.nack)
      yield* first.close
      const second = yield* bench.subscribe({ topics: [topic] })
      yield* second.until(numbers(10), (delivery) => delivery.nack)
      yield* second.close
      const third = yield* bench.subscribe({ topics: [topic] })
      yield* third.until(numbers(10))
    })
  },
  {
    name: "what a closed subscription has not acknowledged comes again",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const first = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(20))
      const acknowledged: Array<string> = []
      yield* first.until(numbers(20), (delivery) => {
        const text = textOf(delivery.message)
        if (Number(text) > 10) return Effect.void
        acknowledged.push(text)
        return delivery.ack
      })
      yield* first.close
      const second = yield* bench.subscribe({ topics: [topic] })
      const seen = yield* second.until(numbers(10, 11))
      if (bench.features.duplicatesOnRebalance !== true) {
        checkSame(sorted(seen), numbers(10, 11), "what came again")
      }
    })
  },
  {
    name: "acknowledging a later message does not acknowledge an earlier one",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const first = yield* bench.subscribe({ topics: [topic] })
      const key = bench.features.onePerKey === true ? undefined : () => "key"
      yield* bench.publish(topic, numbers(5), key)
      yield* first.until(numbers(5), (delivery) => textOf(delivery.message) === "2" ? Effect.void : delivery.ack)
      yield* first.close
      const second = yield* bench.subscribe({ topics: [topic] })
      yield* second.until(["2"])
    })
  },
  {
    name: "an acknowledgement after the subscription has closed does nothing",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const first = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, ["1"])
      const delivery = yield* first.next("the message")
      yield* first.close
      check(delivery.isRevoked(), () => "a delivery of a closed subscription must be revoked")
      yield* delivery.ack
      const second = yield* bench.subscribe({ topics: [topic] })
      yield* second.until(["1"])
    })
  },
  {
    name: "subscriptions close side by side, and others take over",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = new Reader(bench)
      const open = yield* Effect.forEach(
        numbers(4),
        () => bench.subscribe({ topics: [topic], into: reader, maxInFlight: 3 })
      )
      yield* bench.publish(topic, numbers(40), keyOf)
      // Some are acknowledged, some in hand, some still in the broker
      const done = new Set<string>()
      for (const delivery of [yield* reader.next("a message"), yield* reader.next("a message")]) {
        yield* delivery.ack
        done.add(textOf(delivery.message))
      }
      yield* Effect.forEach(open, ({ close }) => Effect.all([close, close], { concurrency: 2 }), {
        concurrency: "unbounded"
      })
      const last = yield* bench.subscribe({ topics: [topic] })
      yield* last.until(numbers(40).filter((text) => !done.has(text)))
    })
  },
  {
    name: "the layer closes while subscriptions are open and messages on their way",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(bench.layer, scope)
      yield* Effect.gen(function*() {
        const subscriptions = yield* Effect.forEach(
          numbers(3),
          () => bench.subscribe({ topics: [topic], maxInFlight: 2 })
        )
        const publishing = yield* Effect.forkChild(
          Effect.forEach(numbers(20), (text) => bench.publish(topic, [text]), { concurrency: 5 }),
          { startImmediately: true }
        )
        yield* Effect.all([
          Scope.close(scope, Exit.void).pipe(bench.soon(() => "the end of the layer")),
          ...subscriptions.map(({ close }) => close)
        ], { concurrency: "unbounded" })
        const published = yield* Fiber.await(publishing).pipe(bench.soon(() => "the end of the publishes"))
        check(
          Exit.isSuccess(published) || Cause.findErrorOption(published.cause)._tag === "Some",
          () => `a publish to a closed layer must succeed or fail with a PublishError: ${String(published)}`
        )
        const late = yield* Effect.exit(bench.publish(topic, ["late"]))
        check(
          Exit.isFailure(late) && Cause.findErrorOption(late.cause)._tag === "Some",
          () => `a publish after the layer's end must fail with a PublishError: ${String(late)}`
        )
      }).pipe(Effect.provide(context))
    })
  },
  {
    name: "at most maxInFlight are unacknowledged",
    run: Effect.fnUntraced(function*(bench) {
      const [topic, other] = yield* bench.topics("topic", "other")
      const reader = yield* bench.subscribe({ topics: [topic], maxInFlight: 3 })
      yield* bench.publish(topic, numbers(10))
      const held: Array<Subscriber.Delivery> = []
      const seen = new Set<string>()
      while (seen.size < 10) {
        if (held.length < Math.min(3, 10 - seen.size + held.length)) {
          const delivery = yield* reader.next("a message while fewer than 3 are unacknowledged")
          held.push(delivery)
          seen.add(textOf(delivery.message))
          continue
        }
        // Once is enough: a look outside is slow
        if (seen.size === 3) yield* bench.fence(other)
        checkSame(yield* reader.waiting, 0, "deliveries beyond maxInFlight")
        yield* held.shift()!.ack
      }
      yield* Effect.forEach(held, (delivery) => delivery.ack)
    })
  },
  {
    name: "messages of a key keep their order, whatever the number of consumers",
    needs: ["orderPerKey"],
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = new Reader(bench)
      yield* Effect.forEach(numbers(3), () => bench.subscribe({ topics: [topic], into: reader, maxInFlight: 10 }))
      // By one publish each, and several in one
      for (const text of numbers(20)) yield* bench.publish(topic, [text], keyOf)
      yield* bench.publish(topic, numbers(80, 21), keyOf)
      const seen = yield* reader.until(numbers(100))
      bench.checkComplete(seen, numbers(100), "what arrived")
      checkOrderPerKey(seen, "deliveries")
    })
  },
  {
    name: "deliveries of a key share a lane, in which they are in order",
    needs: ["orderPerKey"],
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(50), keyOf)
      const lanes = new Map<string, Set<string | undefined>>()
      const seen = yield* reader.until(numbers(50), ({ ack, lane, message }) => {
        const key = keyOf(textOf(message))
        lanes.set(key, (lanes.get(key) ?? new Set()).add(lane))
        return ack
      })
      checkOrderPerKey(seen, "deliveries")
      for (const [key, of] of lanes) {
        check(of.size === 1 && !of.has(undefined), () => `${key} must have one lane, not ${[...of].join(", ")}`)
      }
    })
  },
  {
    name: "no delivery of a key past an unacknowledged one",
    needs: ["orderPerKey", "onePerKey"],
    run: Effect.fnUntraced(function*(bench) {
      const [topic, other] = yield* bench.topics("topic", "other")
      const reader = new Reader(bench)
      yield* Effect.forEach(numbers(2), () => bench.subscribe({ topics: [topic], into: reader }))
      yield* bench.publish(topic, numbers(5), () => "key")
      for (const text of numbers(5)) {
        const first = yield* reader.next("the next of the key")
        checkSame(textOf(first.message), text, "the next of the key")
        if (text === "1") yield* bench.fence(other)
        checkSame(yield* reader.waiting, 0, "deliveries behind an unacknowledged one")
        yield* first.nack
        const again = yield* reader.next("the redelivery")
        checkSame(textOf(again.message), text, "what comes after nack: the same again, before those behind it")
        checkSame(yield* reader.waiting, 0, "deliveries behind an unacknowledged one")
        yield* again.ack
      }
    })
  },
  {
    name: "an unacknowledged key does not hold up others",
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(20), keyOf)
      const held: Array<Subscriber.Delivery> = []
      const others = numbers(20).filter((text) => keyOf(text) !== keyOf("1"))
      yield* reader.until(["1", ...others], (delivery) => {
        if (keyOf(textOf(delivery.message)) !== keyOf("1")) return delivery.ack
        held.push(delivery)
        return Effect.void
      })
      yield* Effect.forEach(held, (delivery) => delivery.ack)
    })
  },
  {
    name: "through the event consumer: keys in order, a handler that fails is retried",
    run: Effect.fnUntraced(function*(bench) {
      const flow = yield* noteFlow(bench)
      const handled = yield* Queue.make<string>()
      const failed = new Set<number>()
      yield* flow.consume({
        handle: ({ n }) => {
          if (n % 3 > 0 || failed.has(n)) return Effect.asVoid(Queue.offer(handled, String(n)))
          failed.add(n)
          return Effect.fail("fails once")
        }
      })
      yield* flow.publish(numbers(50))
      const missing = new Set(numbers(50))
      const seen: Array<string> = []
      while (missing.size > 0) {
        const text = yield* Queue.take(handled).pipe(bench.soon(() => `handlers of ${sorted(missing)}`))
        missing.delete(text)
        seen.push(text)
      }
      bench.checkComplete(seen, numbers(50), "what was handled")
      if (has(bench.features, "orderPerKey")) checkOrderPerKey(seen, "handlers")
    })
  },
  {
    name: "through the event consumer: a handler is interrupted on close, and another consumer handles its message",
    run: Effect.fnUntraced(function*(bench) {
      const flow = yield* noteFlow(bench)
      const started = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const first = yield* flow.consume({
        drainTimeout: 0,
        handle: () =>
          Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      })
      yield* flow.publish(["1"])
      yield* Deferred.await(started).pipe(bench.soon(() => "the handler"))
      yield* first.close
      yield* Deferred.await(interrupted).pipe(bench.soon(() => "the interruption of the handler"))
      const handled = yield* Deferred.make<number>()
      yield* flow.consume({ handle: ({ n }) => Deferred.succeed(handled, n) })
      checkSame(yield* Deferred.await(handled).pipe(bench.soon(() => "the second consumer")), 1, "what was handled")
    })
  },
  {
    name: "through the event consumer: a dead letter keeps key, attributes, headers and body",
    run: Effect.fnUntraced(function*(bench) {
      const flow = yield* noteFlow(bench)
      const dead = yield* bench.subscribe({ topics: [`${flow.topic}.dead-letter`], group: bench.group("dead") })
      yield* flow.consume({ handle: () => Effect.void })
      const { publish } = yield* Broker.Broker
      const poison = Message.make({
        topic: flow.topic,
        key: "ключ",
        attributes: { specversion: "1.0", id: SecureRandom.uuidV7Unsafe(), type: "SuiteUnknown.v1", source: "/suite" },
        headers: { plain: "text", binary: new Uint8Array([0xff, 0x00, 0xfe]) },
        body: new Uint8Array([0xff, 0x00, 0x01])
      })
      yield* publish([poison])
      const { ack, message } = yield* dead.next("the dead letter")
      checkSame(message.key, poison.key, "key")
      checkSame(Object.entries(message.attributes).sort(), Object.entries(poison.attributes).sort(), "attributes")
      checkSame(Array.from(message.body), Array.from(poison.body), "body")
      for (const name of ["plain", "binary"]) {
        checkSame(bytesOf(message.headers[name]), bytesOf(poison.headers[name]), `header ${name}`)
      }
      const expected = { reason: "Undecodable", topic: flow.topic, group: bench.group(), attempts: "1" }
      for (const [name, value] of Object.entries(expected)) {
        checkSame(bytesOf(message.headers[`dead-letter-${name}`]), bytesOf(value), `header dead-letter-${name}`)
      }
      yield* ack
    })
  },
  {
    name: "publisher and subscription survive two restarts of the broker",
    needs: ["restart"],
    run: Effect.fnUntraced(function*(bench) {
      const [topic] = yield* bench.topics("topic")
      const reader = yield* bench.subscribe({ topics: [topic] })
      const restart = bench.features.restart!
      const publish = (texts: ReadonlyArray<string>) =>
        Effect.forEach(texts, (text) =>
          bench.publish(topic, [text], keyOf).pipe(
            Effect.retry({
              schedule: Schedule.spaced("200 millis"),
              while: (error) => error instanceof Broker.PublishError && error.isRetryable
            }),
            bench.soon(() => `the broker to take message ${text}`)
          ))
      yield* publish(numbers(10))
      yield* reader.until(numbers(10))
      yield* restart
      yield* publish(numbers(10, 11))
      yield* reader.until(numbers(10, 11))
      // And while messages are published
      const publishing = yield* Effect.forkChild(publish(numbers(30, 21)), { startImmediately: true })
      yield* restart
      yield* Fiber.join(publishing)
      yield* reader.until(numbers(30, 21))
    })
  }
]

interface ConsumeOptions {
  readonly handle: (note: { readonly n: number }) => Effect.Effect<unknown, string>
  readonly drainTimeout?: Duration.Input | undefined
}

/** A notification event of a new topic, with what publishes and consumes it. */
const noteFlow = Effect.fnUntraced(function*(bench: Bench) {
  const [topic] = yield* bench.topics("topic", "topic.dead-letter")
  class SuiteNote extends NotificationEvent.Class<SuiteNote>()("SuiteNote", { n: Schema.Int }, {
    topic,
    key: ({ n }) => keyOf(String(n))
  }) {}
  const Handle = EventHandler.make("Handle", { on: SuiteNote, error: Schema.String })
  return {
    topic,
    publish: (texts: ReadonlyArray<string>): Test =>
      Effect.gen(function*() {
        const { publish } = yield* Broker.Broker
        const messages = texts.map((text) =>
          Message.make({
            ...toMessage(topic, JSON.stringify({ n: Number(text) }), keyOf(text)),
            attributes: { specversion: "1.0", id: SecureRandom.uuidV7Unsafe(), type: "SuiteNote.v1", source: "/suite" }
          })
        )
        yield* publish(messages as never).pipe(bench.soon(() => "the end of a publish"))
      }),
    consume: ({ drainTimeout, handle }: ConsumeOptions): Test<{ readonly close: Effect.Effect<void> }> =>
      Effect.gen(function*() {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const consumer = EventConsumer.layer({
          group: bench.group(),
          concurrency: 4,
          drainTimeout,
          policy: (failure) =>
            failure._tag === "HandlerFailed" ? ConsumerPolicy.retry(retries) : ConsumerPolicy.deadLetter()
        }).pipe(
          Layer.provide(EventFlow.layer({ handlers: [Handle] })),
          Layer.provide(Handle.toLayer((note) => Effect.asVoid(handle(note))))
        )
        yield* Layer.buildWithScope(consumer, scope).pipe(bench.soon(() => "the consumer"))
        return { close: Scope.close(scope, Exit.void).pipe(bench.soon(() => "the end of the consumer")) }
      })
  }
})

const retries = Schedule.upTo(Schedule.spaced("10 millis"), { times: 5 })
