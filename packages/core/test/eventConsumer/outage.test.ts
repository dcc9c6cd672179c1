/** A dependency that is away is not the fault of the messages: they wait for it, and nothing is put aside. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  EventConsumer,
  EventHandler,
  Health,
  Inbox,
  MemoryBroker,
  Message,
  NotificationEvent,
  Subscriber,
  Telemetry
} from "@event-flow/core"
import { Context, Effect, Exit, Fiber, Layer, Metric, Schedule, Schema } from "effect"
import { adjust, bodyOf, Boom, open, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { Bang, consumer, encode, order, Orders, ordersFlow, settled, setup, text } from "./support.ts"

class Away extends Schema.TaggedError<Away>()("Away", {}) {}
class Sold extends NotificationEvent.Class<Sold>()("Sold", { n: Schema.Int }, { topic: "sales" }) {}
const Count = EventHandler.make("Count", { on: Sold, error: Away })

const sale = (n: number, keys: number): Message.Message =>
  Message.make({
    topic: "sales",
    key: `key ${n % keys}`,
    attributes: { id: String(n), type: "Sold.v1" },
    body: encode({ n })
  })

/** A database that is there or not. */
class Database {
  isUp = true
  tries = 0
  readonly rows: Array<number> = []

  readonly insert = (n: number, error: Effect.Effect<never, Away>): Effect.Effect<void, Away> =>
    Effect.suspend(() => {
      this.tries++
      if (!this.isUp) return error
      this.rows.push(n)
      return Effect.void
    })
}

const ways = {
  "as a defect": Effect.die(new Error("connection refused")),
  "as a typed error": Effect.fail(new Away())
}

/** Consumes sales into a database; the inbox is in the same one. */
const counting = (
  database: Database,
  away: Effect.Effect<never, Away>,
  options: Partial<EventConsumer.Options>,
  logger: RecordingLogger
) =>
  Effect.gen(function*() {
    const inbox = Layer.effect(
      Inbox.Inbox,
      Effect.map(Inbox.Inbox, (inner) =>
        Inbox.Inbox.of({
          ...inner,
          once: (consumer, messageId, handle) =>
            database.isUp
              ? inner.once(consumer, messageId, handle)
              : Effect.fail(new Inbox.InboxError({ consumer, messageId, cause: "connection refused" }))
        }))
    ).pipe(Layer.provide(Inbox.layerMemory()))
    const live = EventConsumer.layer([Count], { group: "counting", ...options }).pipe(
      Layer.provide(Count.toLayer(({ n }) => database.insert(n, away))),
      Layer.provide([inbox, logger.layer])
    )
    const { close, context } = yield* open(live)
    const memory = yield* MemoryBroker.MemoryBroker
    return { ...Context.get(context, EventConsumer.EventConsumer), close, dead: memory.messages("sales.dead-letter") }
  })

/** Publishes a sale every so many milliseconds, for so long. */
const selling = (count: number, keys: number, every: number) =>
  Effect.gen(function*() {
    const { publish } = yield* Broker.Broker
    for (let n = 0; n < count; n++) {
      yield* publish([sale(n, keys)])
      yield* Effect.sleep(every)
    }
  })

const inOrder = (rows: ReadonlyArray<number>, keys: number): boolean => {
  const last = new Map<number, number>()
  return rows.every((n) => {
    const before = last.get(n % keys) ?? -1
    last.set(n % keys, n)
    return n > before
  })
}

describe("an outage of 10 minutes", { concurrent: false }, () => {
  const cases = [
    ...Object.entries(ways).flatMap(([name, away]) =>
      [1, 4, 16].map((concurrency) => ({ name, away, concurrency, dedupe: false }))
    ),
    { name: "to the inbox as well", away: ways["as a defect"], concurrency: 4, dedupe: true }
  ]
  for (const { away, concurrency, dedupe, name } of cases) {
    it.effect(`${name}, concurrency ${concurrency}: none dead-lettered, none lost, keys in order`, () =>
      Effect.gen(function*() {
        const database = new Database()
        const logger = new RecordingLogger("Warn")
        const { close, dead, state } = yield* counting(database, away, { concurrency, dedupe }, logger)
        const [total, keys] = [1_300, 20]
        const publishing = yield* Effect.forkChild(selling(total, keys, 500))
        yield* adjust("10 seconds")
        assert.strictEqual(database.rows.length, 21)
        database.isUp = false
        database.tries = 0
        yield* adjust("1 minute")
        const { tries } = database
        assert.strictEqual((yield* state)._tag, "Paused")
        yield* adjust("9 minutes")
        assert.isAtMost(database.tries - tries, 9 * 2 + 1, "one message every 30 seconds")
        database.isUp = true
        yield* adjust("31 seconds")
        assert.deepStrictEqual(yield* state, { _tag: "Running" })
        yield* Fiber.join(publishing).pipe(Effect.zip(adjust("10 seconds"), { concurrent: true }))
        assert.strictEqual((yield* dead).length, 0, "dead letters")
        assert.deepStrictEqual([...database.rows].sort((a, b) => a - b), Array.from({ length: total }, (_, n) => n))
        assert.isTrue(inOrder(database.rows, keys))
        yield* close
      }).pipe(Effect.provide(MemoryBroker.layer())))
  }
})

const goesAway = Effect.die(new Error("connection refused"))

/** The orders that are dead-lettered, with how often they were tried. */
const deadOrders = (broker: RecordingBroker) =>
  broker.batches.flat().map(({ attributes, headers }) => [attributes["id"], text(headers, "dead-letter-attempts")])

describe("a consumer in an outage", () => {
  it.effect("says so: a warning, its state, a metric; and that it goes on", () =>
    Effect.gen(function*() {
      let isUp = false
      const { close, deliver, log, logger, state, subscriber } = yield* setup(
        { outage: { after: 3 }, concurrency: 2 },
        () => isUp ? Effect.void : goesAway
      )
      const gauge = Metric.withAttributes(Telemetry.pausedConsumers, { "messaging.consumer.group.name": "group" })
      assert.deepStrictEqual(yield* state, { _tag: "Running" })
      yield* deliver(order(1), order(2))
      yield* settled
      assert.deepStrictEqual(yield* state, { _tag: "Running" })
      yield* deliver(order(3))
      yield* settled
      yield* deliver(order(4))
      yield* settled
      const paused = yield* state
      assert.isTrue(paused._tag === "Paused" && paused.failure._tag === "HandlerDied" && paused.held === 3)
      assert.strictEqual((yield* Metric.value(gauge)).value, 1)
      const [health] = (yield* Health.all).filter(({ component }) => component === "consumer")
      assert.deepStrictEqual([health?.state, health?.detail, health?.topics], ["paused", "connection refused", [
        "orders"
      ]])
      assert.isTrue(yield* Health.isConnected)
      yield* adjust("3 seconds")
      isUp = true
      yield* adjust("4 seconds")
      assert.deepStrictEqual(yield* state, { _tag: "Running" })
      assert.strictEqual((yield* Metric.value(gauge)).value, 0)
      assert.deepStrictEqual((yield* Health.all).map(({ state }) => state), ["connected"])
      assert.sameMembers(log, ["ack 1", "ack 2", "ack 3", "ack 4"])
      assert.deepStrictEqual(logger.entries.filter((entry) => !entry.startsWith("Error")), [
        "Warn Consumer \"group\" pauses: several messages in a row failed in the same way, so a dependency may be " +
        "away. It tries one message from time to time, the first in 1s, and goes on when one is handled",
        "Warn Consumer \"group\" stays paused after 1s: message 4 of topic \"orders\" failed again. It tries the " +
        "next one in 2s",
        "Warn Consumer \"group\" stays paused after 3s: message 1 of topic \"orders\" failed again. It tries the " +
        "next one in 4s",
        "Info Consumer \"group\" goes on after a pause of 7s: a message was handled"
      ])
      yield* close
      assert.strictEqual(subscriber.log.at(-1), "closed")
      assert.deepStrictEqual(yield* state, { _tag: "Ended" })
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()), Effect.provide(Health.layer)))

  it.effect("goes on when a handler that was running all the time succeeds", () =>
    Effect.gen(function*() {
      const { deliver, state } = yield* setup(
        { outage: { after: 2 }, concurrency: 3 },
        ({ n }) => n === 1 ? Effect.sleep(500) : goesAway
      )
      yield* deliver(order(1), order(2), order(3))
      yield* settled
      assert.strictEqual((yield* state)._tag, "Paused")
      yield* adjust(500)
      assert.strictEqual((yield* state)._tag, "Running")
    }))

  it.effect("gives everything back at once when it closes, in order", () =>
    Effect.gen(function*() {
      const { close } = yield* open(consumer(() => goesAway, { outage: {}, concurrency: 2 }))
      const { publish } = yield* Broker.Broker
      yield* publish([1, 2, 3, 4, 5, 6].map((n) => order(n, { key: `key ${n % 3}` })) as [Message.Message])
      yield* adjust("1 minute")
      yield* close
      const subscriber = yield* Subscriber.Subscriber
      const { take } = yield* subscriber.subscribe({ topics: ["orders"], group: "group", maxInFlight: 10 })
      const taken = yield* take
      yield* Effect.forEach(taken, ({ ack }) => ack)
      const rest = [...taken, ...(yield* take)].map(({ attempt, message }) => [attempt, bodyOf(message)])
      assert.deepStrictEqual(rest.filter(([attempt]) => attempt === 2), [1, 2, 3].map((n) => [2, { n }]))
    }).pipe(Effect.provide(Layer.merge(MemoryBroker.layer(), new RecordingLogger().layer))))

  it.effect("gives back what is revoked; its key goes on with what comes next", () =>
    Effect.gen(function*() {
      let isUp = false
      const { deliver, log, state, subscriber } = yield* setup(
        { outage: {}, concurrency: 3 },
        ({ n }) => isUp || n > 9 ? Effect.void : goesAway
      )
      yield* deliver(order(1), order(2), order(3), order(4, { key: "key 1" }), order(5, { key: "key 2" }))
      yield* settled
      yield* subscriber.revoke(({ attributes }) => ["1", "2", "5"].includes(attributes["id"]!))
      assert.sameMembers(log, ["nack 1, revoked", "nack 2, revoked", "nack 5, revoked"])
      const paused = yield* state
      assert.strictEqual(paused._tag === "Paused" ? paused.held : undefined, 1)
      yield* deliver(order(6, { key: "key 1" }))
      isUp = true
      yield* adjust("1 second")
      assert.sameMembers(log.slice(3), ["ack 4", "ack 3", "ack 6"])
      assert.isBelow(log.indexOf("ack 4"), log.indexOf("ack 6"))
    }))

  it.effect("tries another one when that which it tries is taken away, or cannot be decoded", () =>
    Effect.gen(function*() {
      let isUp = false
      const { deliver, log, state, subscriber } = yield* setup(
        { outage: {}, concurrency: 3 },
        ({ n }) => isUp ? Effect.void : n === 4 ? Effect.never : goesAway
      )
      yield* deliver(order(1), order(2), order(3))
      yield* settled
      yield* deliver(order(4), order(5, { body: encode(null) }))
      yield* adjust("1 second")
      yield* subscriber.revoke(({ attributes }) => attributes["id"] === "4")
      yield* settled
      assert.deepStrictEqual(log, ["nack 4, revoked", "ack 5"])
      assert.strictEqual((yield* state)._tag, "Paused")
      isUp = true
      yield* adjust("2 seconds")
      assert.sameMembers(log.slice(2), ["ack 1", "ack 2", "ack 3"])
    }))

  it.effect("puts aside what fails, one message each time, when the pause lasts too long", () =>
    Effect.gen(function*() {
      const { broker, deliver, log } = yield* setup(
        { outage: { maxProbe: "10 seconds", maxPause: "1 hour" }, concurrency: 2 },
        ({ n }) => n < 9 ? goesAway : Effect.void
      )
      yield* deliver(...[1, 2, 3, 4, 5, 9].map((n) => order(n, { key: "key" })))
      yield* deliver(...[6, 7, 8].map((n) => order(n)))
      yield* adjust("59 minutes")
      assert.deepStrictEqual(log, [])
      yield* adjust("90 seconds")
      const dead = deadOrders(broker).length
      assert.isTrue(dead > 2 && dead < 5, `${dead} after half a minute`)
      yield* adjust("2 minutes")
      assert.sameMembers(log, [1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => `ack ${n}`))
      assert.strictEqual(deadOrders(broker).length, 8)
    }))

  it.effect("never puts a message aside for its inbox, however long that is away", () =>
    Effect.gen(function*() {
      const subscriber = new FakeSubscriber()
      const broker = new RecordingBroker()
      yield* open(
        EventConsumer.layer(Orders, { group: "group", dedupe: true, outage: { maxPause: "1 minute" } }).pipe(
          Layer.provide(ordersFlow(() => Effect.void)),
          Layer.provide([subscriber.layer, broker.layer, new RecordingLogger().layer]),
          Layer.provide(
            Layer.succeed(Inbox.Inbox)({
              once: (consumer, messageId) =>
                Effect.fail(new Inbox.InboxError({ consumer, messageId, cause: "connection refused" })),
              onceAll: (consumer, [messageId]) =>
                Effect.fail(new Inbox.InboxError({ consumer, messageId: messageId!, cause: "connection refused" }))
            })
          )
        )
      )
      yield* subscriber.deliver(order(1), order(2), order(3), order(4))
      yield* adjust("10 hours")
      assert.deepStrictEqual([subscriber.log, broker.batches], [[], []])
    }))
})

describe("no outage", () => {
  it.effect("a message that fails alone is dead-lettered, after it was tried once more", () =>
    Effect.gen(function*() {
      const { broker, deliver, log, logger, state } = yield* setup(
        { outage: { patience: "5 seconds" } },
        ({ n }) => n === 2 ? goesAway : Effect.void
      )
      yield* deliver(order(1), order(2), order(3, { key: "key 2" }), order(4))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1", "ack 4"], "others go on meanwhile, not those of its key")
      yield* adjust("5 seconds")
      assert.deepStrictEqual(log, ["ack 1", "ack 4", "ack 2", "ack 3"])
      assert.deepStrictEqual(deadOrders(broker), [["2", "2"]])
      // On a quiet topic as well
      yield* deliver(order(2))
      yield* adjust("5 seconds")
      assert.strictEqual(deadOrders(broker).length, 2)
      assert.deepStrictEqual(yield* state, { _tag: "Running" })
      assert.isFalse(logger.entries.some((entry) => entry.includes("pauses")))
    }))

  it.effect("bad messages in a row, among good ones, are dead-lettered; the good ones wait for a second", () =>
    Effect.gen(function*() {
      const { broker, deliver, log } = yield* setup({ outage: {} }, ({ n }) => n < 6 ? goesAway : Effect.void)
      yield* deliver(...[1, 2, 3, 4, 5, 6, 7, 8].map((n) => order(n)))
      yield* settled
      assert.deepStrictEqual(log, [])
      // The first that is tried is 4, then 5, then 6
      yield* adjust("7 seconds")
      assert.sameMembers(log, ["ack 6", "ack 7", "ack 8"])
      yield* adjust("5 seconds")
      assert.sameMembers(deadOrders(broker).map(([id]) => id), ["1", "2", "3", "4", "5"])
      assert.strictEqual(log.length, 8)
    }))

  it.effect("bad messages in a row are dead-lettered on a quiet topic too, once others were handled three times", () =>
    Effect.gen(function*() {
      const { broker, deliver, log } = yield* setup({ outage: {} }, ({ n }) => n < 6 ? goesAway : Effect.void)
      yield* deliver(...[1, 2, 3, 4, 5].map((n) => order(n)))
      for (const n of [6, 7, 8]) {
        yield* adjust("30 minutes")
        assert.deepStrictEqual(deadOrders(broker), [])
        yield* deliver(order(n))
      }
      yield* adjust("1 minute")
      assert.sameMembers(deadOrders(broker).map(([id]) => id), ["1", "2", "3", "4", "5"])
      assert.strictEqual(log.length, 8)
    }))

  it.effect("a typed error while others are handled is dead-lettered when its retries end", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        {
          outage: {},
          concurrency: 2,
          policy: () => ConsumerPolicy.retry(Schedule.recurs(5).pipe(Schedule.addDelay(() => Effect.succeed(100))))
        },
        ({ n }) => n === 1 ? Effect.fail(new Boom({ id: "1" })) : Effect.void
      )
      yield* deliver(order(1))
      for (let n = 2; n < 12; n++) {
        yield* deliver(order(n))
        yield* adjust(50)
      }
      yield* adjust(50)
      assert.deepStrictEqual(deadOrders(broker), [["1", "6"]])
    }))

  const decided: ReadonlyArray<readonly [string, ConsumerPolicy.ConsumerPolicy, Partial<Message.Message>]> = [
    ["typed errors that the policy dead-letters at once", () => ConsumerPolicy.deadLetter(), {}],
    ["typed errors that it skips", () => ConsumerPolicy.skip, {}],
    ["what cannot be decoded", () => ConsumerPolicy.retry(Schedule.recurs(1)), { body: encode(null) }]
  ]
  for (const [name, policy, change] of decided) {
    it.effect(`${name} are the fault of the messages, however many there are`, () =>
      Effect.gen(function*() {
        const { deliver, log } = yield* setup({ outage: {}, policy }, () => Effect.fail(new Boom({ id: "1" })))
        yield* deliver(...Array.from({ length: 20 }, (_, n) => order(n, change)))
        yield* settled
        assert.strictEqual(log.length, 20)
      }))
  }

  it.effect("failures of different kinds are no row", () =>
    Effect.gen(function*() {
      const { deliver, state } = yield* setup(
        { outage: {}, concurrency: 7, policy: () => ConsumerPolicy.retry(Schedule.spaced("1 second")) },
        ({ n }) => [goesAway, Effect.fail(new Boom({ id: "1" })), Effect.fail(new Bang())][n % 3]!
      )
      yield* deliver(...[1, 2, 3, 4, 5, 6].map((n) => order(n)))
      yield* settled
      assert.strictEqual((yield* state)._tag, "Running")
      yield* deliver(order(7))
      yield* adjust("1 second")
      assert.strictEqual((yield* state)._tag, "Paused")
    }))

  it.effect("patience of 0: the policy is asked at once", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup({ outage: { patience: 0 } }, () => goesAway)
      yield* deliver(order(1), order(2))
      yield* settled
      assert.deepStrictEqual(deadOrders(broker), [["1", "1"], ["2", "1"]])
    }))
})

describe("a consumer of several events", () => {
  class Checked extends NotificationEvent.Class<Checked>()("Checked", { n: Schema.Int }, { topic: "sales" }) {}
  const Check = EventHandler.make("Check", { on: Checked })

  it.effect("an event whose handling needs nothing shows nothing of what others need", () =>
    Effect.gen(function*() {
      const { context } = yield* open(
        EventConsumer.layer([Count, Check], { group: "both", concurrency: 2, outage: {} }).pipe(
          Layer.provide([Count.toLayer(() => goesAway), Check.toLayer(() => Effect.void)])
        )
      )
      const { state } = Context.get(context, EventConsumer.EventConsumer)
      const { publish } = yield* Broker.Broker
      for (let n = 0; n < 20; n++) {
        const type = n % 2 === 0 ? "Sold.v1" : "Checked.v1"
        yield* publish([Message.copy(sale(n, 100), { attributes: { id: String(n), type } })])
        yield* adjust(100)
      }
      assert.strictEqual((yield* state)._tag, "Paused")
      yield* adjust("1 hour")
      const memory = yield* MemoryBroker.MemoryBroker
      assert.strictEqual(yield* memory.pending, 10, "the others are tried one after the other, and handled")
      assert.deepStrictEqual(yield* memory.messages("sales.dead-letter"), [])
    }).pipe(Effect.provide(Layer.merge(MemoryBroker.layer(), new RecordingLogger().layer))))
})

describe("outages that come and go", () => {
  it.effect.prop(
    "lose nothing, and keep the order of keys",
    [
      Schema.Array(Schema.Tuple([
        Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 8_000 })),
        Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 60_000 }))
      ])).check(Schema.isMinLength(1), Schema.isMaxLength(5)),
      Schema.Literals([1, 2, 5]),
      Schema.Boolean
    ],
    ([windows, concurrency, isDefect]) =>
      Effect.gen(function*() {
        const database = new Database()
        const away = ways[isDefect ? "as a defect" : "as a typed error"]
        const { close, dead } = yield* counting(database, away, { concurrency }, new RecordingLogger("Fatal"))
        const keys = 7
        const millis = windows.reduce((sum, [up, down]) => sum + up + down, 0)
        const total = Math.ceil(millis / 250)
        const publishing = yield* Effect.forkChild(selling(total, keys, 250))
        for (const [up, down] of windows) {
          yield* adjust(up)
          database.isUp = false
          yield* adjust(down)
          database.isUp = true
        }
        yield* adjust("5 minutes")
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(publishing)))
        assert.strictEqual((yield* dead).length, 0, "dead letters")
        assert.strictEqual(new Set(database.rows).size, total)
        assert.strictEqual(database.rows.length, total)
        assert.isTrue(inOrder(database.rows, keys))
        yield* close
      }).pipe(Effect.provide(MemoryBroker.layer())),
    { arbitrary: { runs: 30, seed: 11 } }
  )
})
