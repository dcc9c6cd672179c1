/**
 * The event consumer: what becomes of a message that it handles or cannot handle, in which order and how many at once,
 * how it ends. Most tests use a subscriber that does what they say and keeps what the consumer answers.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  Correlation,
  DomainEvent,
  EventConsumer,
  EventEmitter,
  EventFlow,
  EventFlowError,
  EventHandler,
  Inbox,
  MemoryBroker,
  Message,
  MessageCodec,
  NotificationEvent,
  Subscriber,
  Telemetry,
  Upcast
} from "@event-flow/core"
import type { Schedule as ScheduleType } from "effect"
import {
  Cause,
  Clock,
  Context,
  type Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Metric,
  Option,
  Queue,
  References,
  Schedule,
  Schema,
  Tracer
} from "effect"
import { TestClock } from "effect/testing"
import { bodyOf, Boom, Journal, open, passTime, RecordingBroker, RecordingLogger } from "./fixtures.ts"

class Bang extends Schema.TaggedError<Bang>()("Bang", {}) {}

class Ordered extends NotificationEvent.Class<Ordered>()("Ordered", { n: Schema.Int }, {
  topic: "orders",
  key: ({ n }) => `key ${n}`
}) {}
class Counted extends DomainEvent.Class<Counted>()("Counted", { n: Schema.Int }) {}
class Shipped extends NotificationEvent.Class<Shipped>()("Shipped", { n: Schema.Int }, { topic: "shipments" }) {}

const OnOrdered = EventHandler.make("OnOrdered", {
  on: Ordered,
  emits: [Counted, Shipped],
  error: Schema.Union([Boom, Bang])
})
const OnCounted = EventHandler.make("OnCounted", { on: Counted, emits: [Shipped] })

type Handle = EventHandler.HandlerFunction<Ordered, Boom | Bang, Counted | Shipped, never>

/** A consumer of orders; without the ports. */
const consumer = (handle: Handle, options: Partial<EventConsumer.Options<false>> = {}) =>
  EventConsumer.layer({ group: "group", ...options }).pipe(
    Layer.provide(EventFlow.layer({ handlers: [OnOrdered, OnCounted] })),
    Layer.provide([
      OnOrdered.toLayer(handle),
      OnCounted.toLayer(({ n }, { collect }) => collect(new Shipped({ n })))
    ])
  )

const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))

/** The order `n` on the wire; its id is `n`. */
const order = (n: number, message: Partial<Message.Message> = {}): Message.Message =>
  Message.make({
    topic: "orders",
    key: `key ${n}`,
    body: encode({ n }),
    ...message,
    attributes: { id: String(n), type: "Ordered.v1", ...message.attributes }
  })

/** Delivers what a test says, each key in a lane; `log` has the first answer to each delivery. */
class FakeSubscriber {
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

  readonly deliver = (...messages: ReadonlyArray<Message.Message>): Effect.Effect<void> =>
    Effect.forEach(messages, (message) => Queue.offer(this.#deliveries, this.#delivery(message)), { discard: true })

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
        this.log.push(`${what} ${Message.describeId(message)}${state.isRevoked ? ", revoked" : ""}`)
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

interface SetupOptions extends Partial<EventConsumer.Options<false>> {
  /** What the broker does with dead letters and follow-ups; default: takes them. */
  readonly publish?: ConstructorParameters<typeof RecordingBroker>[0]
}

/** A running consumer between a fake subscriber and a recording broker. */
const setup = ({ publish, ...options }: SetupOptions, handle: Handle) =>
  Effect.gen(function*() {
    const subscriber = new FakeSubscriber()
    const broker = new RecordingBroker(publish)
    const logger = new RecordingLogger()
    const { close, context } = yield* open(
      consumer(handle, options).pipe(
        Layer.provide([subscriber.layer, broker.layer]),
        Layer.provideMerge(logger.layer)
      )
    )
    const { join, topics } = Context.get(context, EventConsumer.EventConsumer)
    const { deliver, log } = subscriber
    return { broker, close, deliver, join, log, logger, subscriber, topics }
  })

const settled = TestClock.adjust(0)

/** Fails so many times for each order, then succeeds. */
const failing = (times: number, error: Boom | Bang = new Boom({ id: "1" })): Handle => {
  const attempts = new Map<number, number>()
  return ({ n }) => {
    attempts.set(n, (attempts.get(n) ?? 0) + 1)
    return attempts.get(n)! <= times ? Effect.fail(error) : Effect.void
  }
}

const text = (headers: Message.Message["headers"] | undefined, name: string): string => String(headers?.[name])

const squashed = <E>(exit: Exit.Exit<unknown, E>): unknown => Exit.isFailure(exit) ? Cause.squash(exit.cause) : exit

const publishError = (reason: Broker.PublishReason): Broker.PublishError =>
  new Broker.PublishError({ topic: "orders.dead-letter", messageType: "Ordered.v1", reason })

describe("a message that is handled", () => {
  it.effect("is acknowledged when its handlers and their follow-ups are done", () =>
    Effect.gen(function*() {
      const { at, entries, work } = new Journal()
      const { broker, deliver, log } = yield* setup(
        { publish: () => work("publish", 10) },
        ({ n }, { collect }) => Effect.andThen(collect(new Counted({ n })), work(`order ${n}`, 10))
      )
      yield* deliver(order(1))
      yield* TestClock.adjust(19)
      assert.deepStrictEqual(log, [])
      yield* TestClock.adjust(1)
      yield* at("end")
      assert.deepStrictEqual(log, ["ack 1"])
      assert.deepStrictEqual(broker.bodies, [[{ n: 1 }]])
      assert.deepStrictEqual(
        entries,
        ["order 1 starts@0", "order 1 ends@10", "publish starts@10", "publish ends@20", "end@20"]
      )
    }))

  it.effect("passes on its correlation, as the cause of what follows from it", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        { concurrency: 3 },
        ({ n }, { collectAll }) => collectAll([new Shipped({ n }), new Counted({ n })])
      )
      yield* deliver(
        order(1, { attributes: { correlationid: "flow", causationid: "older" } }),
        order(2),
        Message.make({ ...order(3), attributes: { type: "Ordered.v1" } })
      )
      yield* settled
      const messages = broker.batches.flat()
      const of = (n: number): ReadonlyArray<ReadonlyArray<string | undefined>> =>
        messages.filter((message) => JSON.stringify(bodyOf(message)) === `{"n":${n}}`).map(({ attributes }) => [
          attributes["correlationid"],
          attributes["causationid"]
        ])
      assert.deepStrictEqual(of(1), [["flow", "1"], ["flow", "1"]])
      assert.deepStrictEqual(of(2), [["2", "2"], ["2", "2"]], "without a correlation id it starts one of its own")
      assert.deepStrictEqual(of(3), [[undefined, undefined], [undefined, undefined]], "a foreign message has no id")
    }))

  it.effect("handlers see the correlation of the flow", () =>
    Effect.gen(function*() {
      const seen: Array<Correlation.Correlation> = []
      const { deliver } = yield* setup(
        {},
        () =>
          Effect.map(
            Correlation.Current,
            (current) => void seen.push(Correlation.make(String(current?.correlationId), current?.causationId))
          )
      )
      yield* deliver(order(1, { attributes: { correlationid: "flow" } }))
      yield* settled
      assert.deepStrictEqual(seen, [Correlation.make("flow", "1")])
    }))

  // Merging costs as much as handling; the map of what a handler's layer brought is made by a merge
  it.effect("its handler's context is merged once for all messages", () =>
    Effect.gen(function*() {
      class Shop extends Context.Service<Shop, { readonly name: string }>()("Shop") {}
      const brought = new Set<unknown>()
      const subscriber = new FakeSubscriber()
      yield* open(
        EventConsumer.layer({ group: "group" }).pipe(
          Layer.provide(EventFlow.layer({ handlers: [OnOrdered] })),
          Layer.provide(
            OnOrdered.toLayer(() =>
              Effect.map(
                Effect.context<never>(),
                ({ mapUnsafe }) => void brought.add(mapUnsafe.get("@event-flow/core/internal/Brought"))
              )
            ).pipe(Layer.provide(Layer.succeed(Shop)({ name: "shop" })))
          ),
          Layer.provide([subscriber.layer, Broker.layerNone])
        )
      )
      yield* subscriber.deliver(order(1), order(2), order(3))
      yield* settled
      assert.deepStrictEqual(subscriber.log, ["ack 1", "ack 2", "ack 3"])
      assert.strictEqual(brought.size, 1)
      assert.isFalse(brought.has(undefined))
    }))
})

describe("the default policy", () => {
  it.effect("retries 5 times with jitter, then dead-letters the message as it came, with the reason", () =>
    Effect.gen(function*() {
      const times: Array<number> = []
      const { broker, deliver, log, logger } = yield* setup(
        {},
        ({ n }) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            times.push(now)
            return Effect.fail(new Boom({ id: String(n) }))
          })
      )
      const message = order(1, {
        key: new Uint8Array([0xff, 0]),
        attributes: { subject: "s", traceparent: "t", correlationid: "c", extension: "e" },
        headers: { text: "as it was", bytes: new Uint8Array([0xfe]) }
      })
      yield* deliver(message)
      yield* settled
      assert.deepStrictEqual(times, [0])
      yield* TestClock.adjust("1 minute")

      const delays = times.slice(1).map((time, i) => time - times[i]!)
      assert.strictEqual(delays.length, 5)
      const exact = [100, 200, 400, 800, 1600]
      for (const [i, delay] of delays.entries()) {
        assert.isTrue(delay >= 0.8 * exact[i]! - 1 && delay <= 1.2 * exact[i]! + 1, `retry ${i + 1} after ${delay} ms`)
      }
      assert.notDeepEqual(delays, exact)

      assert.deepStrictEqual(broker.batches, [[{
        topic: "orders.dead-letter",
        key: message.key,
        attributes: message.attributes,
        headers: {
          ...message.headers,
          "dead-letter-reason": "HandlerFailed",
          "dead-letter-error": new EventFlowError.EventHandlerError({
            event: "Ordered",
            handler: "OnOrdered",
            cause: new Boom({ id: "1" })
          }).message,
          "dead-letter-topic": "orders",
          "dead-letter-group": "group",
          "dead-letter-attempts": "6",
          "dead-letter-partition": "7",
          "dead-letter-offset": "42"
        },
        body: message.body
      }]])
      assert.deepStrictEqual(log, ["ack 1"])
      assert.deepStrictEqual(logger.entries, [`Warn Dead-lettered message 1 of topic "orders" after 6 attempt(s)`])
    }))

  it.effect("is asked whatever the flow's onFailure: a message is never lost to a log", () =>
    Effect.gen(function*() {
      const subscriber = new FakeSubscriber()
      const broker = new RecordingBroker()
      const asked: Array<string> = []
      yield* open(
        EventConsumer.layer({
          group: "group",
          policy: (failure) => {
            asked.push(failure._tag === "HandlerFailed" ? failure.error._tag : failure._tag)
            return ConsumerPolicy.deadLetter()
          }
        }).pipe(
          Layer.provide(EventFlow.layer({ handlers: [OnOrdered], onFailure: "log" })),
          Layer.provide([OnOrdered.toLayer(failing(1)), subscriber.layer, broker.layer, new RecordingLogger().layer])
        )
      )
      yield* subscriber.deliver(order(1))
      yield* settled
      assert.deepStrictEqual(asked, ["EventsFailed"])
      assert.strictEqual(broker.batches.length, 1)
    }))

  it.effect("shortens the reason that a dead letter carries", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        {},
        ({ n }) => Effect.die(new Error(`${"x".repeat(n)}😀${"y".repeat(9)}`))
      )
      yield* deliver(order(989), order(990), order(998), order(999))
      yield* settled
      const reasons = broker.batches.flat().map(({ headers }) => text(headers, "dead-letter-error"))
      assert.deepStrictEqual(reasons, [
        `${"x".repeat(989)}😀${"y".repeat(9)}`,
        `${"x".repeat(990)}😀${"y".repeat(7)}…`,
        `${"x".repeat(998)}…`,
        `${"x".repeat(999)}…`
      ])
    }))

  it.effect("dead-letters what dies with a value that has no text", () =>
    Effect.gen(function*() {
      const { broker, deliver, log } = yield* setup({}, () => Effect.die(Object.create(null)))
      yield* deliver(order(1))
      yield* settled
      assert.deepStrictEqual([broker.batches.length, log], [1, ["ack 1"]])
    }))

  it.effect("a retry that succeeds ends it", () =>
    Effect.gen(function*() {
      const { broker, deliver, log, logger } = yield* setup({}, failing(5))
      yield* deliver(order(1))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([log, broker.batches, logger.entries], [["ack 1"], [], []])
    }))

  const undecodable: ReadonlyArray<readonly [MessageCodec.DecodeError["reason"], string, Message.Message]> = [
    ["NoType", "without a type", Message.make({ ...order(1), attributes: { id: "1" } })],
    ["UnknownType", "of a type that nobody handles", order(1, { attributes: { type: "Other.v1" } })],
    ["UnknownType", "of a type without a version", order(1, { attributes: { type: "Ordered" } })],
    ["UnknownVersion", "of a newer version", order(1, { attributes: { type: "Ordered.v2" } })],
    ["InvalidBody", "with a body that is no text", order(1, { body: new Uint8Array([0xff]) })],
    ["InvalidBody", "with an empty body", order(1, { body: new Uint8Array(0) })],
    ["InvalidBody", "with a body that is no JSON", order(1, { body: new TextEncoder().encode("{") })],
    ["InvalidBody", "with a body of another shape", order(1, { body: encode({ n: "one" }) })],
    ["InvalidBody", "with a body that is no object", order(1, { body: encode(null) })]
  ]
  for (const [reason, what, message] of undecodable) {
    it.effect(`dead-letters at once a message ${what}`, () =>
      Effect.gen(function*() {
        const { broker, deliver, log } = yield* setup({}, () => Effect.void)
        yield* deliver(message, order(2))
        yield* settled
        const [letter, ...rest] = broker.batches.flat()
        assert.deepStrictEqual(rest, [])
        assert.strictEqual(letter?.body, message.body)
        assert.strictEqual(text(letter?.headers, "dead-letter-reason"), "Undecodable")
        assert.include(text(letter?.headers, "dead-letter-error"), reason)
        assert.strictEqual(text(letter?.headers, "dead-letter-attempts"), "1")
        assert.deepStrictEqual(log, ["ack 1", "ack 2"])
      }))
  }

  it.effect("dead-letters a defect at once, and logs it as the bug that it is", () =>
    Effect.gen(function*() {
      const { broker, deliver, log, logger } = yield* setup({}, () => Effect.die(new Error("a bug")))
      yield* deliver(order(1))
      yield* settled
      const [letter] = broker.batches.flat()
      assert.strictEqual(text(letter?.headers, "dead-letter-reason"), "HandlerDied")
      assert.strictEqual(text(letter?.headers, "dead-letter-error"), "a bug")
      assert.deepStrictEqual(log, ["ack 1"])
      assert.deepStrictEqual(logger.entries, [
        "Error A handler died on message 1",
        `Warn Dead-lettered message 1 of topic "orders" after 1 attempt(s)`
      ])
    }))

  it.effect("a failure beside a defect is a defect", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        {},
        () => Effect.failCause(Cause.combine(Cause.fail(new Boom({ id: "1" })), Cause.die("a bug")))
      )
      yield* deliver(order(1))
      yield* settled
      assert.strictEqual(text(broker.batches.flat()[0]?.headers, "dead-letter-reason"), "HandlerDied")
    }))

  it.effect("a handler that interrupts itself counts as a defect: it would be delivered for ever", () =>
    Effect.gen(function*() {
      const { broker, deliver, log } = yield* setup({}, ({ n }) => n === 1 ? Effect.interrupt : Effect.void)
      yield* deliver(order(1), order(2))
      yield* settled
      assert.strictEqual(text(broker.batches.flat()[0]?.headers, "dead-letter-reason"), "HandlerDied")
      assert.deepStrictEqual(log, ["ack 1", "ack 2"])
    }))
})

describe("a policy of one's own", () => {
  it.effect("skips: acknowledged, and logged", () =>
    Effect.gen(function*() {
      const { broker, deliver, log, logger } = yield* setup({ policy: () => ConsumerPolicy.skip }, failing(1))
      yield* deliver(order(1), order(2, { body: encode({}) }))
      yield* settled
      assert.deepStrictEqual([log, broker.batches], [["ack 1", "ack 2"], []])
      assert.deepStrictEqual(logger.entries, [1, 2].map((n) => `Warn Skipped message ${n} of topic "orders"`))
    }))

  it.effect("ignores what it has no handler for, without a warning, and leaves the rest to another policy", () =>
    Effect.gen(function*() {
      const other = (id: number, type: string) => order(id, { attributes: { type } })
      const messages = [other(1, "Other.v1"), other(2, "com.example.other"), other(3, "Ordered.v9"), order(4)]
      const own = yield* setup(
        { policy: ConsumerPolicy.ignoreUnknownTypes(() => ConsumerPolicy.deadLetter("own")) },
        () => Effect.die("bug")
      )
      yield* own.deliver(...messages)
      yield* settled
      assert.deepStrictEqual(own.log, ["ack 1", "ack 2", "ack 3", "ack 4"])
      assert.deepStrictEqual(own.broker.batches.flat().map(({ attributes, topic }) => [topic, attributes["id"]]), [
        ["own", "3"],
        ["own", "4"]
      ])
      assert.isFalse(own.logger.entries.some((entry) => /message [12]/.test(entry)))

      const byDefault = yield* setup({ policy: ConsumerPolicy.ignoreUnknownTypes() }, () => Effect.void)
      yield* byDefault.deliver(...messages)
      yield* settled
      assert.deepStrictEqual(byDefault.log, ["ack 1", "ack 2", "ack 3", "ack 4"])
      assert.deepStrictEqual(byDefault.broker.batches.flat().map(({ attributes }) => attributes["id"]), ["3"])
    }))

  it.effect("stops: the message stays unacknowledged, what is behind it is not handled, and whoever joins is told", () =>
    Effect.gen(function*() {
      const { entries, note, work } = new Journal()
      const { deliver, join, log, logger } = yield* setup(
        { concurrency: 2, policy: () => ConsumerPolicy.stop },
        ({ n }) =>
          n === 1 ? Effect.andThen(Effect.sleep(5), Effect.fail(new Boom({ id: "1" }))) : work(`order ${n}`, 10)
      )
      yield* deliver(order(1), order(2), order(3, { key: "key 1" }), order(4))
      const exit = yield* passTime(
        join.pipe(Effect.tapError((error) => note("detail" in error ? error.detail : error.message)))
      )
      const error = squashed(exit)
      assert.isTrue(error instanceof EventConsumer.ConsumerStopped && error.messageId === "1")
      assert.strictEqual((error as EventConsumer.ConsumerStopped).topic, "orders")
      assert.include(String((error as EventConsumer.ConsumerStopped).cause), "boom 1")
      assert.deepStrictEqual(log, ["nack 1", "ack 2", "closed"], "it lets go when what runs is done")
      assert.deepStrictEqual(entries, ["order 2 starts@0", "order 2 ends@10", "the policy says so"])
      assert.deepStrictEqual(logger.entries, ["Fatal The consumer has ended"])
    }))

  it.effect("decides by the error's type, and names the topic of dead letters", () =>
    Effect.gen(function*() {
      const policy: ConsumerPolicy.ConsumerPolicy = (failure) => {
        if (failure._tag === "Undecodable") return ConsumerPolicy.deadLetter("unreadable")
        if (failure._tag === "HandlerDied" || failure.error._tag !== "EventHandlerError") return ConsumerPolicy.stop
        return failure.error.cause instanceof Boom
          ? ConsumerPolicy.retry(Schedule.recurs(2), ConsumerPolicy.deadLetter("boomed"))
          : ConsumerPolicy.skip
      }
      const { broker, deliver, log } = yield* setup(
        { policy },
        ({ n }) => Effect.fail(n === 1 ? new Boom({ id: "1" }) : new Bang())
      )
      yield* deliver(order(1), order(2), order(3, { body: encode(null) }))
      yield* settled
      assert.deepStrictEqual(
        broker.batches.flat().map(({ attributes, headers, topic }) => [
          attributes["id"],
          topic,
          text(headers, "dead-letter-attempts")
        ]),
        [["1", "boomed", "3"], ["3", "unreadable", "1"]]
      )
      assert.deepStrictEqual(log, ["ack 1", "ack 2", "ack 3"])
    }))

  it.effect("may retry what cannot be decoded and what died", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        { policy: () => ConsumerPolicy.retry(Schedule.recurs(2)) },
        () => Effect.die("bug")
      )
      yield* deliver(order(1), order(2, { body: encode(null) }))
      yield* settled
      assert.deepStrictEqual(
        broker.batches.flat().map(({ headers }) => text(headers, "dead-letter-attempts")),
        ["3", "3"]
      )
    }))

  it.effect("that makes a new schedule each time does not retry for ever", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        { policy: () => ConsumerPolicy.retry(Schedule.recurs(3)) },
        () => Effect.fail(new Boom({ id: "1" }))
      )
      yield* deliver(order(1))
      yield* settled
      assert.strictEqual(text(broker.batches.flat()[0]?.headers, "dead-letter-attempts"), "4")
    }))

  it.effect("counts the retries of each kind of failure by itself", () =>
    Effect.gen(function*() {
      let attempt = 0
      const recurs = (times: number): ScheduleType.Schedule<unknown> => Schedule.recurs(times)
      const { broker, deliver } = yield* setup(
        {
          policy: (failure) =>
            failure._tag === "HandlerFailed" && failure.error._tag === "EventHandlerError" &&
              failure.error.cause instanceof Boom
              ? ConsumerPolicy.retry(recurs(2))
              : ConsumerPolicy.retry(recurs(5))
        },
        () => Effect.fail(attempt++ % 2 === 0 ? new Boom({ id: "1" }) : new Bang())
      )
      yield* deliver(order(1))
      yield* settled
      // Boom, Bang, Boom, Bang, Boom: after the third Boom its two retries are used up
      assert.strictEqual(text(broker.batches.flat()[0]?.headers, "dead-letter-attempts"), "5")
    }))

  it.effect("that throws ends the consumer with the defect, the message unacknowledged", () =>
    Effect.gen(function*() {
      const bug = new Error("a bug in the policy")
      const { deliver, join, log } = yield* setup({
        policy: () => {
          throw bug
        }
      }, failing(1))
      yield* deliver(order(1))
      assert.strictEqual(squashed(yield* Effect.exit(join)), bug)
      assert.deepStrictEqual(log, ["nack 1", "closed"])
    }))
})

describe("a dead letter that cannot be published", () => {
  const reasons = { detail: "the test says so" }

  for (const reason of [new Broker.Timeout(reasons), new Broker.Unreachable(reasons)]) {
    it.effect(`is published again while that may help: ${reason._tag}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        let failures = 10
        const { broker, deliver, log, logger } = yield* setup(
          { publish: () => failures-- > 0 ? Effect.fail(publishError(reason)) : Effect.void, concurrency: 2 },
          ({ n }) => n === 1 ? Effect.die("bug") : note(`order ${n}`)
        )
        yield* deliver(order(1), order(2, { key: "key 1" }), order(3))
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(log, ["ack 3"], "unacknowledged, and what is behind it waits")
        // 0.2, 0.4, ... 25.6 s, then every 30 s
        yield* TestClock.adjust("2 minutes")
        assert.deepStrictEqual(log, ["ack 3", "ack 1", "ack 2"])
        assert.strictEqual(broker.batches.length, 11)
        assert.deepStrictEqual(entries, ["order 3", "order 2"])
        assert.strictEqual(
          logger.entries.filter((entry) => entry === `Error Could not publish a dead letter to "orders.dead-letter"`)
            .length,
          10
        )
      }))
  }

  const lost = [
    ...[
      Broker.UnknownTopic,
      Broker.MessageTooLarge,
      Broker.NotAuthorised,
      Broker.Closed,
      Broker.EncodeFailed,
      Broker.Rejected
    ].map((Reason) => publishError(new Reason(reasons))),
    new Broker.BrokerNotFound({ topic: "orders.dead-letter", event: "Ordered.v1" })
  ]
  for (const error of lost) {
    const name = error._tag === "PublishError" ? error.reason._tag : error._tag
    it.effect(`ends the consumer where nothing helps, the message unacknowledged: ${name}`, () =>
      Effect.gen(function*() {
        const { broker, deliver, join, log } = yield* setup({ publish: () => Effect.fail(error) }, failing(9))
        yield* deliver(order(1, { body: encode(null) }), order(2))
        const exit = yield* passTime(join)
        const stopped = squashed(exit)
        assert.isTrue(stopped instanceof EventConsumer.ConsumerStopped && stopped.cause === error)
        assert.strictEqual(broker.batches.length, 1)
        assert.deepStrictEqual(log, ["nack 1", "closed"])
      }))
  }
})

describe("duplicates", () => {
  const deduping = (inbox: Layer.Layer<Inbox.Inbox>, handle: Handle, policy?: ConsumerPolicy.ConsumerPolicy) =>
    Effect.gen(function*() {
      const subscriber = new FakeSubscriber()
      const broker = new RecordingBroker()
      const logger = new RecordingLogger()
      yield* open(
        EventConsumer.layer({ group: "group", dedupe: true, concurrency: 2, policy }).pipe(
          Layer.provide(EventFlow.layer({ handlers: [OnOrdered] })),
          Layer.provide([OnOrdered.toLayer(handle), subscriber.layer, broker.layer, inbox]),
          Layer.provide(logger.layer)
        )
      )
      return { broker, logger, ...subscriber }
    })

  it.effect("are acknowledged and not handled", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { deliver, log } = yield* deduping(Inbox.layerMemory(), ({ n }) => work(`order ${n}`, 10))
      yield* deliver(order(1), order(1, { key: "another lane" }))
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(log, [], "the second waits for the first")
      yield* TestClock.adjust(5)
      yield* deliver(order(1))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1", "ack 1", "ack 1"])
      assert.deepStrictEqual(entries, ["order 1 starts@0", "order 1 ends@10"])
    }))

  it.effect("a failure is not remembered: its retry, and a redelivery of a dead letter, are handled", () =>
    Effect.gen(function*() {
      let attempts = 0
      const { broker, deliver, log } = yield* deduping(
        Inbox.layerMemory(),
        () => ++attempts > 2 ? Effect.void : Effect.fail(new Boom({ id: "1" })),
        () => ConsumerPolicy.retry(Schedule.recurs(1))
      )
      yield* deliver(order(1), order(1), order(1))
      yield* settled
      assert.strictEqual(attempts, 3)
      assert.strictEqual(broker.batches.length, 1)
      assert.deepStrictEqual(log, ["ack 1", "ack 1", "ack 1"])
    }))

  it.effect("a message without an id is no duplicate of another, which is said once", () =>
    Effect.gen(function*() {
      let handled = 0
      const { deliver, logger } = yield* deduping(Inbox.layerMemory(), () => Effect.sync(() => void handled++))
      const foreign = Message.make({ ...order(1), attributes: { type: "Ordered.v1" } })
      yield* deliver(foreign, foreign)
      yield* settled
      assert.strictEqual(handled, 2)
      assert.deepStrictEqual(logger.entries, [
        `Warn A message of topic "orders" has no id: duplicates of such messages are not dropped`
      ])
    }))

  it.effect("an id is one of its source: the same one of another source is another message", () =>
    Effect.gen(function*() {
      let handled = 0
      const { deliver } = yield* deduping(Inbox.layerMemory(), () => Effect.sync(() => void handled++))
      const from = (source: string, id: string) => order(1, { attributes: { source, id } })
      yield* deliver(
        from("/billing", "1"),
        from("/orders", "1"),
        from("/orders", "1"),
        from("/orders", "1 1"),
        order(1)
      )
      yield* settled
      assert.strictEqual(handled, 4)
    }))

  it.effect("an inbox that fails is a failure like any other", () =>
    Effect.gen(function*() {
      let failures = 2
      const inbox = Layer.effect(
        Inbox.Inbox,
        Effect.map(Inbox.Inbox, ({ once }) =>
          Inbox.Inbox.of({
            once: (consumer, messageId, handle) =>
              failures-- > 0
                ? Effect.fail(new Inbox.InboxError({ consumer, messageId, cause: "down" }))
                : once(consumer, messageId, handle)
          }))
      ).pipe(Layer.provide(Inbox.layerMemory()))
      const seen: Array<string> = []
      const { deliver, log } = yield* deduping(inbox, () => Effect.void, (failure) => {
        seen.push(failure._tag === "HandlerFailed" ? failure.error._tag : failure._tag)
        return ConsumerPolicy.defaultPolicy(failure)
      })
      yield* deliver(order(1))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(seen, ["InboxError", "InboxError"])
      assert.deepStrictEqual(log, ["ack 1"])
    }))
})

describe("order and concurrency", () => {
  const Work = Schema.Struct({
    key: Schema.Literals(["a", "b", "c", "d"]),
    keyless: Schema.Literals([false, false, false, true]),
    millis: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 })),
    failures: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 }))
  })
  const pause = 5
  const retries = 2

  const memory = Effect.gen(function*() {
    const { context } = yield* open(MemoryBroker.layer())
    const { messages, pending } = Context.get(context, MemoryBroker.MemoryBroker)
    return {
      layer: Layer.succeedContext(context),
      send: (message: Message.Message) => Context.get(context, Broker.Broker).publish([message]),
      dead: messages("orders.dead-letter"),
      unsettled: pending
    }
  })

  const fake = Effect.sync(() => {
    const { deliver, layer, log } = new FakeSubscriber()
    const broker = new RecordingBroker()
    let sent = 0
    return {
      layer: Layer.merge(layer, broker.layer),
      send: (message: Message.Message) => Effect.andThen(Effect.sync(() => sent++), deliver(message)),
      dead: Effect.sync(() => broker.batches.flat()),
      unsettled: Effect.sync(() => sent - log.filter((entry) => entry.startsWith("ack")).length)
    }
  })

  const ports = [["delivers a key one at a time", memory], ["delivers ahead", fake]] as const
  for (const [what, makePorts] of ports) {
    it.effect.prop(
      `each message once, those of a key in order, no more at once than allowed, no worker idle: a broker that ${what}`,
      {
        work: Schema.Array(Work).check(Schema.isMaxLength(25)),
        concurrency: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
        maxInFlight: Schema.Int.check(Schema.isBetween({ minimum: 5, maximum: 30 }))
      },
      ({ concurrency, maxInFlight, work }) =>
        Effect.gen(function*() {
          const attempts = work.map(() => 0)
          const finished: Array<number> = []
          const running = new Set<number>()
          let most = 0
          let end = 0
          const laneOf = (n: number) => work[n]!.keyless ? `message ${n}` : work[n]!.key
          const handle: Handle = ({ n }) =>
            Effect.gen(function*() {
              const { failures, millis } = work[n]!
              assert.isFalse([...running].some((other) => laneOf(other) === laneOf(n)), "two of a key at once")
              running.add(n)
              most = Math.max(most, running.size)
              yield* Effect.sleep(millis)
              running.delete(n)
              end = yield* Clock.currentTimeMillis
              if (attempts[n]!++ < failures) return yield* new Boom({ id: String(n) })
              finished.push(n)
            })
          const { dead, layer, send, unsettled } = yield* makePorts
          const { close } = yield* open(
            consumer(handle, {
              concurrency,
              maxInFlight,
              policy: (failure) =>
                failure._tag === "HandlerFailed"
                  ? ConsumerPolicy.retry(Schedule.upTo(Schedule.spaced(pause), { times: retries }))
                  : ConsumerPolicy.stop
            }).pipe(Layer.provide([layer, new RecordingLogger().layer]))
          )
          const start = yield* Clock.currentTimeMillis
          for (const n of work.keys()) yield* send(order(n, { key: work[n]!.keyless ? undefined : work[n]!.key }))
          yield* TestClock.adjust("1 hour")
          assert.strictEqual(yield* unsettled, 0)
          yield* close

          // The model: what each message takes, and what becomes of it
          const poison = (n: number) => work[n]!.failures > retries
          const cost = (n: number) => {
            const runs = Math.min(work[n]!.failures, retries) + 1
            return runs * work[n]!.millis + (runs - 1) * pause
          }
          const all = [...work.keys()]
          const lanes = new Map<string, Array<number>>()
          for (const n of all) lanes.set(laneOf(n), [...lanes.get(laneOf(n)) ?? [], n])
          const sum = (list: ReadonlyArray<number>) => list.reduce((total, n) => total + cost(n), 0)

          assert.deepStrictEqual(attempts, all.map((n) => Math.min(work[n]!.failures, retries) + 1))
          assert.sameMembers(finished, all.filter((n) => !poison(n)))
          const letters = (yield* dead).map(({ attributes }) => Number(attributes["id"]))
          assert.sameMembers(letters, all.filter(poison))
          for (const lane of lanes.values()) {
            assert.deepStrictEqual(finished.filter((n) => lane.includes(n)), lane.filter((n) => !poison(n)))
            assert.deepStrictEqual(letters.filter((n) => lane.includes(n)), lane.filter(poison))
          }
          assert.isAtMost(most, concurrency)
          // Graham's bound of a schedule in which no worker is idle while a key is ready
          const longest = Math.max(0, ...Array.from(lanes.values(), sum))
          assert.isAtMost(end - start, sum(all) / concurrency + longest * (1 - 1 / concurrency) + 0.001)
        }),
      { arbitrary: { runs: 150, seed: 1 } }
    )
  }

  it.effect("a message that is stuck, or waits for its retry, holds up its own key only", () =>
    Effect.gen(function*() {
      const { deliver, log } = yield* setup(
        { concurrency: 3, policy: () => ConsumerPolicy.retry(Schedule.spaced("1 hour")) },
        ({ n }) => n === 1 ? Effect.never : n === 2 ? Effect.fail(new Boom({ id: "2" })) : Effect.void
      )
      yield* deliver(order(1), order(2), order(3, { key: "key 1" }), order(4, { key: "key 2" }))
      yield* deliver(...Array.from({ length: 50 }, (_, i) => order(i + 5, { key: `key ${i % 5 + 3}` })))
      yield* settled
      assert.deepStrictEqual(log, Array.from({ length: 50 }, (_, i) => `ack ${i + 5}`))
    }))

  it.effect("a key with many messages takes turns with the others", () =>
    Effect.gen(function*() {
      const { deliver, log } = yield* setup({}, () => Effect.void)
      yield* deliver(...[1, 2, 3].map((n) => order(n, { key: "busy" })), order(4), order(5))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1", "ack 4", "ack 5", "ack 2", "ack 3"])
    }))

  for (const concurrency of [1, 3]) {
    it.effect(`no more than ${concurrency} at once, of messages without a key too`, () =>
      Effect.gen(function*() {
        let running = 0
        const { deliver, log } = yield* setup(
          { concurrency },
          () =>
            Effect.andThen(Effect.sync(() => running++), Effect.sleep(10)).pipe(
              Effect.ensuring(Effect.sync(() => running--))
            )
        )
        yield* deliver(...Array.from({ length: 7 }, (_, n) => order(n, { key: undefined })))
        for (const done of [0, concurrency]) {
          yield* settled
          assert.deepStrictEqual([running, log.length], [concurrency, done])
          yield* TestClock.adjust(10)
        }
        yield* TestClock.adjust(100)
        assert.strictEqual(log.length, 7)
      }))
  }

  it.effect("takes 16 messages for each of concurrency, or as many as maxInFlight says", () =>
    Effect.gen(function*() {
      const of = (options: SetupOptions) =>
        Effect.map(setup(options, () => Effect.void), ({ subscriber }) => subscriber.subscriptions[0]?.maxInFlight)
      assert.deepStrictEqual(
        [yield* of({}), yield* of({ concurrency: 4 }), yield* of({ concurrency: 4, maxInFlight: 5 })],
        [16, 64, 5]
      )
    }))

  for (const option of ["concurrency", "maxInFlight"]) {
    for (const value of [0, -1, 1.5, NaN, Infinity]) {
      it.effect(`${option} of ${value} is an error at once: nothing would be consumed`, () =>
        Effect.gen(function*() {
          const exit = yield* Effect.exit(setup({ [option]: value }, () => Effect.void))
          assert.include(String(squashed(exit)), `EventConsumer "group": ${option} must be a whole number from 1`)
        }))
    }
  }

  it.effect("with the memory broker, no more than maxInFlight are taken from the group", () =>
    Effect.gen(function*() {
      yield* open(consumer(() => Effect.never, { concurrency: 10, maxInFlight: 3 }))
      const { publish } = yield* Broker.Broker
      yield* publish([order(1), order(2), order(3), order(4), order(5)])
      yield* settled
      const subscriber = yield* Subscriber.Subscriber
      const other = yield* subscriber.subscribe({ topics: ["orders"], group: "group", maxInFlight: 10 })
      assert.deepStrictEqual((yield* other.take).map(({ message }) => bodyOf(message)), [{ n: 4 }, { n: 5 }])
    }).pipe(Effect.provide(MemoryBroker.layer())))
})

describe("closing", () => {
  it.effect("what runs is finished, what has not started is given back in order", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { close } = yield* open(consumer(({ n }) => work(`order ${n}`, 10), { concurrency: 2 }))
      const { publish } = yield* Broker.Broker
      yield* publish([order(1), order(2), order(3), order(4), order(5, { key: "key 1" })])
      yield* TestClock.adjust(5)
      yield* passTime(close)
      assert.deepStrictEqual(entries, ["order 1 starts@0", "order 2 starts@0", "order 1 ends@10", "order 2 ends@10"])
      const subscriber = yield* Subscriber.Subscriber
      const { take } = yield* subscriber.subscribe({ topics: ["orders"], group: "group", maxInFlight: 10 })
      assert.deepStrictEqual((yield* take).map(({ message }) => bodyOf(message)), [{ n: 3 }, { n: 4 }, { n: 5 }])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  const bounds: ReadonlyArray<readonly [Duration.Input | undefined, number]> = [[undefined, 30_000], [
    "1 second",
    1_000
  ], [0, 0]]
  for (const [drainTimeout, millis] of bounds) {
    it.effect(`drainTimeout ${drainTimeout}: after ${millis} ms, what still runs is interrupted and given back`, () =>
      Effect.gen(function*() {
        const { entries, work } = new Journal()
        const { close, deliver, log, logger } = yield* setup(
          { concurrency: 3, drainTimeout },
          ({ n }) => n === 2 ? Effect.fail(new Boom({ id: "2" })) : work(`order ${n}`, 60_000)
        )
        yield* deliver(order(1))
        yield* settled
        const closing = yield* Effect.forkChild(Effect.andThen(close, Clock.currentTimeMillis))
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(yield* Fiber.join(closing), millis)
        assert.deepStrictEqual(entries, ["order 1 starts@0", `order 1 interrupted@${millis}`])
        assert.deepStrictEqual(log, ["nack 1", "closed"], "unacknowledged, before the subscription ends")
        assert.deepStrictEqual(logger.entries, [
          "Warn Handlers did not end before the drain timeout: interrupting them"
        ])
      }))
  }

  it.effect("does not wait when nothing runs, and says nothing", () =>
    Effect.gen(function*() {
      const { close, deliver, log, logger } = yield* setup({}, () => Effect.void)
      yield* deliver(order(1))
      yield* settled
      yield* close
      assert.deepStrictEqual([log, logger.entries], [["ack 1", "closed"], []])
    }))

  it.effect("run takes a codec of its context", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const subscriber = new FakeSubscriber()
      const codec: MessageCodec.MessageCodec = {
        encode: () => Effect.die("not used"),
        decode: ({ attributes }) => Effect.sync(() => new Ordered({ n: Number(attributes["id"]) }))
      }
      yield* EventConsumer.run({ group: "group" }).pipe(
        Effect.provide(
          EventFlow.layer({ handlers: [OnOrdered] }).pipe(
            Layer.provide(OnOrdered.toLayer(({ n }) => note(`order ${n}`))),
            Layer.provideMerge([subscriber.layer, Broker.layerNone, Layer.succeed(MessageCodec.MessageCodec)(codec)])
          )
        ),
        Effect.forkChild
      )
      yield* subscriber.deliver(order(7, { body: new Uint8Array() }))
      yield* settled
      assert.deepStrictEqual(entries, ["order 7"])
    }))

  it.effect("interrupting run, mid-handler, leaves the message unacknowledged", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const subscriber = new FakeSubscriber()
      const running = yield* EventConsumer.run({ group: "group", drainTimeout: 5 }).pipe(
        Effect.provide(
          EventFlow.layer({ handlers: [OnOrdered] }).pipe(
            Layer.provide(OnOrdered.toLayer(() => work("order", 60_000))),
            Layer.provideMerge(Layer.merge(subscriber.layer, Broker.layerNone))
          )
        ),
        Effect.forkChild
      )
      yield* subscriber.deliver(order(1), order(2))
      yield* settled
      yield* passTime(Fiber.interrupt(running))
      assert.deepStrictEqual(subscriber.log, ["nack 1", "closed"])
      assert.deepStrictEqual(entries, ["order starts@0", "order interrupted@5"])
    }))
})

describe("revoked deliveries", () => {
  it.effect("those that run are interrupted, those that wait are not handled, others go on", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { deliver, log, subscriber } = yield* setup({ concurrency: 2 }, ({ n }) => work(`order ${n}`, 10))
      yield* deliver(order(1), order(2), order(3, { key: "key 1" }), order(4), order(5))
      yield* TestClock.adjust(5)
      yield* subscriber.revoke(({ attributes }) => ["1", "3", "4"].includes(attributes["id"]!))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(entries, [
        "order 1 starts@0",
        "order 2 starts@0",
        "order 1 interrupted@5",
        "order 5 starts@5",
        "order 2 ends@10",
        "order 5 ends@15"
      ])
      // Each gets an answer, which tells the subscriber that nobody works on it any more
      assert.sameMembers(log, ["nack 1, revoked", "nack 3, revoked", "nack 4, revoked", "ack 2", "ack 5"])
    }))

  it.effect("those that wait are answered before the listener ends, with no worker free for them", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const { deliver, log, subscriber } = yield* setup({}, ({ n }) => work(`order ${n}`, 10))
      yield* deliver(
        order(1, { key: "a" }),
        order(2, { key: "a" }),
        order(3, { key: "b" }),
        order(4, { key: "b" }),
        order(5, { key: undefined }),
        order(6, { key: "c" })
      )
      yield* settled
      yield* subscriber.revoke(({ attributes }) => !["1", "4"].includes(attributes["id"]!))
      assert.sameMembers(log, [2, 3, 5, 6].map((n) => `nack ${n}, revoked`))
      yield* deliver(order(7, { key: "c" }), order(8, { key: "a" }))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(entries.filter((entry) => entry.includes("starts")), [
        "order 1 starts@0",
        "order 4 starts@10",
        "order 7 starts@20",
        "order 8 starts@30"
      ])
    }))

  it.effect("that are revoked while their retry is due are not handled again", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      // A subscriber that tells nobody: the consumer finds out by itself
      const { deliver, log, subscriber } = yield* setup(
        { policy: () => ConsumerPolicy.retry(Schedule.spaced("1 second")) },
        ({ n }) => Effect.andThen(note(`order ${n}`), n === 1 ? Effect.fail(new Boom({ id: "1" })) : Effect.void)
      )
      yield* deliver(order(1), order(2))
      yield* settled
      yield* subscriber.revokeSilently(({ attributes }) => attributes["id"] === "1")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(entries, ["order 1", "order 2"])
      assert.deepStrictEqual(log, ["nack 1, revoked", "ack 2"])
    }))

  // A fiber may yield between any two steps, and be interrupted there
  it.effect("an interruption at any step does not keep the key from what comes next", () =>
    Effect.gen(function*() {
      const { deliver, log, subscriber } = yield* Effect.provideService(
        setup({ concurrency: 2 }, ({ n }) => n % 2 === 1 ? Effect.never : Effect.void),
        References.MaxOpsBeforeYield,
        3
      )
      for (let steps = 0; steps < 100; steps++) {
        yield* deliver(order(2 * steps + 1, { key: "key" }))
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        yield* subscriber.revoke(() => true)
        yield* deliver(order(2 * steps + 2, { key: "key" }))
        while (!log.includes(`ack ${2 * steps + 2}`)) yield* Effect.yieldNow
      }
    }), 5_000)

  it.effect("the listener ends when the interrupted handlers have", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      const { deliver, subscriber } = yield* setup(
        {},
        () => Effect.onInterrupt(Effect.never, () => Effect.andThen(Effect.sleep(10), at("cleaned up")))
      )
      yield* deliver(order(1))
      yield* settled
      yield* passTime(Effect.andThen(subscriber.revoke(() => true), at("revoked")))
      assert.deepStrictEqual(entries, ["cleaned up@10", "revoked@10"])
    }))

  it.effect("a retry, and a dead letter that waits for the broker, end as well; the key goes on with what comes next", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const unreachable = new Broker.Unreachable({ detail: "the test says so" })
      const { broker, deliver, log, subscriber } = yield* setup(
        { concurrency: 2, publish: () => Effect.fail(publishError(unreachable)) },
        ({ n }) => {
          if (n === 1) return Effect.andThen(note("order 1"), Effect.fail(new Boom({ id: "1" })))
          return n === 2 ? Effect.die("bug") : note(`order ${n}`)
        }
      )
      yield* deliver(order(1), order(2))
      yield* settled
      yield* subscriber.revoke(() => true)
      yield* deliver(order(3, { key: "key 1" }), order(4, { key: "key 2" }))
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(entries, ["order 1", "order 3", "order 4"])
      assert.strictEqual(broker.batches.length, 1)
      assert.deepStrictEqual(log.slice(-2), ["ack 3", "ack 4"])
    }))
})

describe("a consumer that ends by itself", () => {
  it.effect("gives back what it has taken, though its layer stays open", () =>
    Effect.gen(function*() {
      const { context } = yield* open(
        consumer(failing(9), { policy: () => ConsumerPolicy.stop }).pipe(
          Layer.provideMerge(new RecordingLogger().layer)
        )
      )
      const { publish } = yield* Broker.Broker
      yield* publish([order(1), order(2, { key: "key 1" }), order(3)])
      yield* Effect.exit(Context.get(context, EventConsumer.EventConsumer).join)
      const subscriber = yield* Subscriber.Subscriber
      const { take } = yield* subscriber.subscribe({ topics: ["orders"], group: "group", maxInFlight: 10 })
      assert.deepStrictEqual((yield* take).map(({ message }) => bodyOf(message)), [{ n: 1 }, { n: 3 }])
    }).pipe(Effect.provide(MemoryBroker.layer())), 5_000)

  it.effect("a subscription that breaks ends it", () =>
    Effect.gen(function*() {
      const { join, log, logger, subscriber } = yield* setup({}, () => Effect.void)
      const error = Subscriber.subscribeError(
        { topics: ["orders"], group: "group" },
        new Broker.UnknownTopic({ detail: "deleted" })
      )
      yield* subscriber.fail(error)
      assert.deepStrictEqual(yield* Effect.exit(join), Exit.fail(error))
      assert.deepStrictEqual([log, logger.entries], [["closed"], ["Fatal The consumer has ended"]])
    }))

  it.effect("one that cannot subscribe is not built", () =>
    Effect.gen(function*() {
      const error = Subscriber.subscribeError(
        { topics: ["orders"], group: "group" },
        new Broker.NotAuthorised({ detail: "no" })
      )
      const refusing = Layer.succeed(Subscriber.Subscriber)({ name: "fake", subscribe: () => Effect.fail(error) })
      const exit = yield* Effect.exit(
        Layer.build(consumer(() => Effect.void).pipe(Layer.provide([refusing, Broker.layerNone])))
      )
      assert.deepStrictEqual(exit, Exit.fail(error))
    }))
})

describe("topics", () => {
  it.effect("are those of the notification events that have a handler, each once", () =>
    Effect.gen(function*() {
      class Returned extends NotificationEvent.Class<Returned>()("Returned", {}, { topic: "shipments" }) {}
      const OnShipped = EventHandler.make("OnShipped", { on: Shipped })
      const OnReturned = EventHandler.make("OnReturned", { on: Returned })
      const subscriber = new FakeSubscriber()
      const { context } = yield* open(
        EventConsumer.layer({ group: "group" }).pipe(
          Layer.provide(EventFlow.layer({ handlers: [OnCounted, OnShipped, OnOrdered, OnReturned] })),
          Layer.provide([
            OnShipped.toLayer(() => Effect.void),
            OnReturned.toLayer(() => Effect.void),
            OnOrdered.toLayer(() => Effect.void),
            OnCounted.toLayer(() => Effect.void),
            subscriber.layer,
            Broker.layerNone
          ])
        )
      )
      const { group, topics } = Context.get(context, EventConsumer.EventConsumer)
      assert.deepStrictEqual([group, topics], ["group", ["shipments", "orders"]])
      assert.deepStrictEqual(subscriber.subscriptions[0]?.topics, ["shipments", "orders"])
    }))

  it.effect("may be named; a message on any of them is handled by its type", () =>
    Effect.gen(function*() {
      const { deliver, log, topics } = yield* setup({ topics: ["orders.retry", "more"] }, () => Effect.void)
      assert.deepStrictEqual(topics, ["orders.retry", "more"])
      yield* deliver(order(1, { topic: "more" }))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1"])
    }))

  it.effect("none: there is nothing to consume", () =>
    Effect.gen(function*() {
      const layer = EventConsumer.layer({ group: "group" }).pipe(
        Layer.provide(EventFlow.layer({ handlers: [OnCounted] })),
        Layer.provide([OnCounted.toLayer(() => Effect.void), new FakeSubscriber().layer, Broker.layerNone])
      )
      assert.deepStrictEqual(
        yield* Effect.exit(Layer.build(layer)),
        Exit.fail(new EventConsumer.NothingToConsume({ group: "group" }))
      )
    }))
})

describe("versions", () => {
  const upcast = Upcast.from(Schema.Struct({ name: Schema.String }))
    .to(Schema.Struct({ first: Schema.String, last: Schema.String }), ({ name }) => {
      if (name === "") throw new Error("an upcast with a bug")
      const [first = "", last = ""] = name.split(" ")
      return { first, last }
    })
    .toCurrent(({ first, last }) => ({ full: `${last}, ${first}` }))

  // The same event as three generations of the program define it
  class V1 extends NotificationEvent.Class<V1>()("Hired", { name: Schema.String }, { topic: "people" }) {}
  class V2 extends NotificationEvent.Class<V2>()("Hired", { first: Schema.String, last: Schema.String }, {
    topic: "people",
    version: 2,
    upcast: Upcast.from(Schema.Struct({ name: Schema.String })).toCurrent(({ name }) => ({ first: name, last: "" }))
  }) {}
  class Hired extends NotificationEvent.Class<Hired>()("Hired", { full: Schema.String }, {
    topic: "people",
    version: 3,
    upcast
  }) {}
  class V4 extends NotificationEvent.Class<V4>()("Hired", { id: Schema.Int }, { topic: "people", version: 4 }) {}
  const OnHired = EventHandler.make("OnHired", { on: Hired })

  it.effect("older messages are upcast on their way through the broker, newer ones and bad ones dead-lettered", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const logger = new RecordingLogger()
      yield* open(
        EventConsumer.layer({ group: "group" }).pipe(
          Layer.provide(EventFlow.layer({ handlers: [OnHired] })),
          Layer.provide(OnHired.toLayer((hired) => note(`${hired instanceof Hired} ${hired.full}`))),
          Layer.provide(logger.layer)
        )
      )
      yield* EventEmitter.EventEmitter.use(({ publish }) =>
        publish([
          new V1({ name: "Ada Lovelace" }),
          new V2({ first: "Grace", last: "Hopper" }),
          new Hired({ full: "Turing, Alan" }),
          new V4({ id: 4 }),
          new V1({ name: "" })
        ])
      ).pipe(Effect.provide(EventFlow.layer({ handlers: [] })))
      yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
      assert.deepStrictEqual(entries, ["true Lovelace, Ada", "true Hopper, Grace", "true Turing, Alan"])
      const letters = yield* MemoryBroker.MemoryBroker.use(({ messages }) => messages("people.dead-letter"))
      assert.deepStrictEqual(letters.map(({ attributes }) => attributes["type"]), ["Hired.v4", "Hired.v1"])
      const [newer, bad] = letters.map(({ headers }) => text(headers, "dead-letter-error"))
      assert.include(newer, "UnknownVersion: this program knows \"Hired\" up to version 3: deploy it first")
      assert.include(bad, "an upcast with a bug")
      assert.isTrue(logger.entries.some((entry) => entry.startsWith("Error Decoding died on message")))
    }).pipe(Effect.provide(MemoryBroker.layer())))
})

describe("telemetry", () => {
  /** Keeps the spans it makes. */
  const recordingTracer = (): { readonly spans: Array<Tracer.NativeSpan>; readonly tracer: Tracer.Tracer } => {
    const spans: Array<Tracer.NativeSpan> = []
    return {
      spans,
      tracer: Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
    }
  }

  const emit = (n: number) =>
    EventEmitter.EventEmitter.use(({ publish }) => publish([new Ordered({ n })])).pipe(
      Effect.provide(EventFlow.layer({ handlers: [] }))
    )

  const parentOf = (span: Tracer.NativeSpan | undefined): string | undefined =>
    span === undefined ? undefined : Option.getOrUndefined(span.parent)?.spanId

  it.effect("the span of processing is a child of the span of publishing, in the trace of the request", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recordingTracer()
      const named = (name: string) => spans.filter((span) => span.name === name)
      yield* Effect.gen(function*() {
        const { context } = yield* open(consumer(({ n }, { collect }) => collect(new Shipped({ n }))))
        yield* Effect.withSpan(emit(1), "request")
        yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
        const [request] = named("request")
        const [publish] = named("publish orders")
        const [process] = named("process orders")
        const [followUp] = named("publish shipments")
        assert.strictEqual(parentOf(publish), request?.spanId)
        assert.strictEqual(parentOf(process), publish?.spanId)
        assert.strictEqual(parentOf(followUp), process?.spanId)
        assert.deepStrictEqual(
          [publish, process, followUp].map((span) => span?.traceId),
          Array.from({ length: 3 }, () => request?.traceId)
        )
        const stored = yield* MemoryBroker.MemoryBroker.use(({ messages }) => messages("orders"))
        const attributes = stored[0]!.attributes
        assert.strictEqual(attributes["traceparent"], `00-${publish!.traceId}-${publish!.spanId}-01`)
        assert.deepStrictEqual([publish!.kind, process!.kind], ["producer", "consumer"])
        assert.deepStrictEqual(Object.fromEntries(process!.attributes), {
          "messaging.system": "memory",
          "messaging.destination.name": "orders",
          "messaging.consumer.group.name": "group",
          "messaging.operation.name": "process",
          "messaging.operation.type": "process",
          "messaging.message.id": attributes["id"]
        })
        return context
      }).pipe(Effect.provide(MemoryBroker.layer()), Effect.withTracer(tracer))
    }))

  it.effect("without a traceparent, or with a malformed one, processing starts a trace", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recordingTracer()
      const id = "4bf92f3577b34da6a3ce929d0e0e4736"
      const malformed = [
        "",
        "nonsense",
        `00-${id}-00f067aa0ba902b7`,
        `00-${id.toUpperCase()}-00f067aa0ba902b7-01`,
        `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
        `00-${id}-${"0".repeat(16)}-01`,
        `ff-${id}-00f067aa0ba902b7-01`,
        `00-${id}-00f067aa0ba902b7-01-more`,
        `01-${id}-00f067aa0ba902b7-01more`
      ]
      // The span in which the consumer is built is not the parent of all that it will ever do
      const { deliver } = yield* setup({}, () => Effect.void).pipe(Effect.withSpan("build"), Effect.withTracer(tracer))
      yield* deliver(order(0), ...malformed.map((traceparent, i) => order(i + 1, { attributes: { traceparent } })))
      yield* settled
      const processed = spans.filter(({ name }) => name === "process orders")
      assert.strictEqual(processed.length, malformed.length + 1)
      assert.deepStrictEqual(processed.map(parentOf), processed.map(() => undefined))
    }))

  it.effect("the span of a message that is dead-lettered says so, and the consumer goes on", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recordingTracer()
      const { deliver, log } = yield* Effect.withTracer(
        setup(
          { policy: (failure) => failure._tag === "Undecodable" ? ConsumerPolicy.skip : ConsumerPolicy.deadLetter() },
          ({ n }) => n === 1 ? Effect.fail(new Boom({ id: "1" })) : n === 2 ? Effect.die("a bug") : Effect.void
        ),
        tracer
      )
      yield* deliver(order(1), order(2), order(3), order(4, { body: encode(null) }))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1", "ack 2", "ack 3", "ack 4"])
      assert.deepStrictEqual(
        spans.filter(({ name }) => name === "process orders").map(({ attributes, status }) => [
          status._tag === "Ended" && Exit.isFailure(status.exit),
          attributes.get("error.type")
        ]),
        [[true, "EventHandlerError"], [true, "defect"], [false, undefined], [false, undefined]]
      )
    }))

  it.effect("a publisher's decision not to sample is respected", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recordingTracer()
      const { deliver } = yield* Effect.withTracer(setup({}, () => Effect.void), tracer)
      const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
      yield* deliver(
        order(1, { attributes: { traceparent: `${trace}-00` } }),
        order(2, { attributes: { traceparent: `${trace}-01` } }),
        // Of a version to come
        order(3, { attributes: { traceparent: `01${trace.slice(2)}-03-more` } })
      )
      yield* settled
      const processed = spans.filter(({ name }) => name === "process orders")
      assert.deepStrictEqual(
        processed.map((span) => Option.getOrUndefined(span.parent)?.sampled),
        [false, true, true]
      )
    }))

  const measured = (telemetry: Layer.Layer<never>) =>
    Effect.gen(function*() {
      yield* open(
        EventConsumer.layer({
          group: "group",
          dedupe: true,
          policy: (failure) => failure._tag === "Undecodable" ? ConsumerPolicy.skip : ConsumerPolicy.deadLetter()
        }).pipe(
          Layer.provide(EventFlow.layer({ handlers: [OnOrdered] })),
          Layer.provide([
            OnOrdered.toLayer(({ n }) => n === 3 ? Effect.fail(new Boom({ id: "3" })) : Effect.sleep(20)),
            Inbox.layerMemory(),
            new RecordingLogger().layer
          ]),
          Layer.provide(telemetry)
        )
      )
      const { publish } = yield* Broker.Broker
      yield* publish([order(1), order(1), order(2), order(3), order(4, { body: encode(null) })])
      yield* TestClock.adjust("1 minute")
      const snapshots = yield* Metric.snapshot
      return snapshots.filter(({ id }) => id.startsWith("messaging.")).map((
        { attributes, id, state }
      ): Record<string, unknown> => ({
        id,
        ...attributes,
        count: (state as { readonly count: unknown }).count,
        ..."sum" in state ? { sum: state.sum } : {}
      }))
    }).pipe(Effect.provide(MemoryBroker.layer()), Effect.provideService(Metric.MetricRegistry, new Map()))

  it.effect("metrics count outcomes and measure processing", () =>
    Effect.gen(function*() {
      const common = {
        "messaging.system": "memory",
        "messaging.destination.name": "orders",
        "messaging.consumer.group.name": "group"
      }
      const consumed = (outcome: string, count: number) => ({
        id: "messaging.client.consumed.messages",
        ...common,
        "event_flow.outcome": outcome,
        count
      })
      assert.sameDeepMembers(yield* measured(Telemetry.layer({ metrics: true })), [
        consumed("handled", 2),
        consumed("duplicate", 1),
        consumed("dead_lettered", 1),
        consumed("skipped", 1),
        {
          id: "messaging.process.duration",
          ...common,
          "messaging.operation.name": "process",
          "messaging.operation.type": "process",
          count: 4,
          sum: 0.04
        },
        {
          id: "messaging.process.duration",
          ...common,
          "messaging.operation.name": "process",
          "messaging.operation.type": "process",
          "error.type": "EventHandlerError",
          count: 1,
          sum: 0
        }
      ])
    }))

  it.effect("nothing is measured when metrics are off, as they are by default", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* measured(Layer.empty), [])
      assert.deepStrictEqual(yield* measured(Telemetry.layer({ handlerSpans: true })), [])
      assert.deepStrictEqual(yield* Effect.withTracer(measured(Layer.empty), recordingTracer().tracer), [])
    }))
})
