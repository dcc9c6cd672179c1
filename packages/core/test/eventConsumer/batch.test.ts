/** Consuming in batches: `EventConsumer` with the option `batch`, and `EventHandler.batch`. */
import { assert, describe, it } from "@effect/vitest"
import { EventConsumer, EventHandler, Inbox, Message } from "@event-flow/core"
import { Context, Effect, Exit, Layer, Option, Schema } from "effect"
import { adjust, Boom, open, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { encode, Ordered, settled } from "./support.ts"

const One = EventHandler.make("One", { on: Ordered, error: Boom })
const All = EventHandler.batch("All", { on: Ordered, error: Boom })

/** Rows of one transaction, which come to the table when it commits. */
const Transaction = Context.Reference<Array<string>>("test/Transaction", { defaultValue: () => [] })

const write = (row: string): Effect.Effect<void> => Effect.map(Transaction, (rows) => void rows.push(row))

/** A table with an inbox in the same transaction, which counts its statements. */
class Database {
  readonly rows: Array<string> = []
  readonly statements: Array<number> = []

  readonly layer = Layer.effect(
    Inbox.Inbox,
    Effect.map(Inbox.Inbox, (memory) => {
      const inTransaction = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
        Effect.suspend(() => {
          const rows: Array<string> = []
          return Effect.onExit(Effect.provideService(effect, Transaction, rows), (exit) =>
            Effect.sync(() => {
              if (Exit.isSuccess(exit)) this.rows.push(...rows)
            }))
        })
      return Inbox.Inbox.of({
        once: (consumer, id, handle) => {
          this.statements.push(1)
          return memory.once(consumer, id, inTransaction(handle))
        },
        onceAll: (consumer, ids, handle) => {
          this.statements.push(ids.length)
          return memory.onceAll(consumer, ids, (isNew) => inTransaction(handle(isNew)))
        }
      })
    })
  ).pipe(Layer.provide(Inbox.layerMemory()))
}

/** The order `n` of a key. */
const order = (n: number, key = "key"): Message.Message =>
  Message.make({
    topic: "orders",
    key,
    body: encode({ n }),
    attributes: { id: String(n), source: "/test", type: "Ordered.v1" }
  })

interface Options extends Partial<EventConsumer.Options<boolean>> {
  readonly one?: EventHandler.HandlerFunction<Ordered, Boom, never, never>
  readonly all?: EventHandler.BatchFunction<Ordered, Boom, never>
}

const consuming = ({ all, one, ...options }: Options = {}) =>
  Effect.gen(function*() {
    const subscriber = new FakeSubscriber()
    const broker = new RecordingBroker()
    const database = new Database()
    const handlers = [...one === undefined ? [] : [One], ...all === undefined ? [] : [All]]
    const { close } = yield* open(
      EventConsumer.layer(handlers, {
        group: "group",
        dedupe: true,
        outage: false,
        batch: { size: 4 },
        ...options
      }).pipe(
        Layer.provide([
          One.toLayer(one ?? (() => Effect.void)),
          All.toLayer(all ?? (() => Effect.void)),
          database.layer,
          subscriber.layer,
          broker.layer
        ]),
        Layer.provide(new RecordingLogger().layer)
      )
    )
    return { broker, close, database, ...subscriber, subscriber }
  })

describe("a consumer in batches", () => {
  it.effect("handles what is ready in one transaction with one statement of the inbox, and acknowledges it", () =>
    Effect.gen(function*() {
      const batches: Array<ReadonlyArray<number>> = []
      const { database, deliver, log } = yield* consuming({
        one: ({ n }) => write(`one ${n}`),
        all: (events) =>
          Effect.andThen(
            Effect.sync(() => void batches.push(events.map(({ n }) => n))),
            write(`all ${events.map(({ n }) => n).join(" ")}`)
          )
      })
      yield* deliver(order(1, "a"), order(2, "b"), order(3, "a"), order(4, "c"), order(5, "a"), order(6, "d"))
      yield* settled
      // Those of a key in their order, and the handlers of batches after the others
      assert.deepStrictEqual(batches, [[1, 3, 5, 2], [4, 6]])
      assert.deepStrictEqual(database.statements, [4, 2])
      assert.deepStrictEqual(database.rows, [
        "one 1",
        "one 3",
        "one 5",
        "one 2",
        "all 1 3 5 2",
        "one 4",
        "one 6",
        "all 4 6"
      ])
      assert.deepStrictEqual(log, ["ack 1", "ack 3", "ack 5", "ack 2", "ack 4", "ack 6"])
    }))

  it.effect("without an inbox too", () =>
    Effect.gen(function*() {
      const batches: Array<number> = []
      const { deliver, log } = yield* consuming({
        dedupe: false,
        all: (events) => Effect.sync(() => void batches.push(events.length))
      })
      yield* deliver(order(1), order(2), order(3))
      yield* settled
      assert.deepStrictEqual(batches, [3])
      assert.deepStrictEqual(log, ["ack 1", "ack 2", "ack 3"])
    }))

  it.effect("drops duplicates: of an earlier batch, and within one", () =>
    Effect.gen(function*() {
      const { database, deliver, log } = yield* consuming({ one: ({ n }) => write(`${n}`) })
      yield* deliver(order(1), order(2), order(1))
      yield* deliver(order(2), order(3))
      yield* settled
      assert.deepStrictEqual(database.rows, ["1", "2", "3"])
      assert.strictEqual(log.length, 5)
    }))

  it.effect("halves a batch that fails, down to the message to blame, about which the policy decides", () =>
    Effect.gen(function*() {
      const tried: Array<string> = []
      const { broker, database, deliver, log } = yield* consuming({
        batch: { size: 8 },
        policy: () => ({ _tag: "DeadLetter", topic: undefined }),
        all: (events) =>
          Effect.suspend(() => {
            tried.push(events.map(({ n }) => n).join(" "))
            return Effect.andThen(
              Effect.forEach(events, ({ n }) => write(`${n}`)),
              events.some(({ n }) => n === 6) ? Effect.fail(new Boom({ id: "6" })) : Effect.void
            )
          })
      })
      yield* deliver(...Array.from({ length: 8 }, (_, i) => order(i + 1)) as [Message.Message])
      yield* settled
      assert.deepStrictEqual(tried, ["1 2 3 4 5 6 7 8", "1 2 3 4", "5 6 7 8", "5 6", "5", "6 7", "6", "7 8"])
      assert.deepStrictEqual(database.rows, ["1", "2", "3", "4", "5", "7", "8"])
      assert.deepStrictEqual(broker.batches.flat().map(({ attributes }) => attributes["id"]), ["6"])
      assert.deepStrictEqual(log, [1, 2, 3, 4, 5, 6, 7, 8].map((n) => `ack ${n}`))
    }))

  it.effect("a message that cannot be decoded, and one whose handler dies, do not lose the others", () =>
    Effect.gen(function*() {
      const { broker, database, deliver } = yield* consuming({
        policy: () => ({ _tag: "DeadLetter", topic: undefined }),
        one: ({ n }) => n === 4 ? Effect.die("bug") : write(`${n}`)
      })
      yield* deliver(order(1), { ...order(2), body: encode({ n: "two" }) }, order(3), order(4), order(5))
      yield* settled
      assert.deepStrictEqual(database.rows, ["1", "3", "5"])
      assert.deepStrictEqual(broker.batches.flat().map(({ attributes }) => attributes["id"]), ["2", "4"])
    }))

  it.effect("waits for more messages as long as it is told to", () =>
    Effect.gen(function*() {
      const batches: Array<number> = []
      const { deliver } = yield* consuming({
        batch: { size: 4, wait: "1 second" },
        all: (events) => Effect.sync(() => void batches.push(events.length))
      })
      yield* deliver(order(1))
      yield* adjust("900 millis")
      yield* deliver(order(2, "other"))
      assert.deepStrictEqual(batches, [])
      yield* adjust("100 millis")
      assert.deepStrictEqual(batches, [2])
      yield* deliver(order(3), order(4), order(5), order(6))
      yield* settled
      assert.deepStrictEqual(batches, [2, 4], "a full batch waits for nobody")
    }))

  it.effect("gives a whole batch back when it is interrupted", () =>
    Effect.gen(function*() {
      const { close, database, deliver, log } = yield* consuming({
        drainTimeout: "1 second",
        all: (events) => Effect.andThen(write(`${events.length}`), Effect.never)
      })
      yield* deliver(order(1), order(2, "other"))
      yield* settled
      yield* Effect.forkChild(close)
      yield* adjust("1 second")
      assert.deepStrictEqual(log.filter((entry) => entry !== "closed").toSorted(), ["nack 1", "nack 2"])
      assert.deepStrictEqual(database.rows, [])
    }))

  it.effect("a handler of batches gets one event where the consumer makes no batches", () =>
    Effect.gen(function*() {
      const batches: Array<number> = []
      const { deliver } = yield* consuming({
        batch: false,
        all: (events) => Effect.sync(() => void batches.push(events.length))
      })
      yield* deliver(order(1), order(2))
      yield* settled
      assert.deepStrictEqual(batches, [1, 1])
    }))

  const Message_ = Schema.Struct({
    key: Schema.Literals(["a", "b", "c"]),
    isPoison: Schema.Literals([false, false, false, true]),
    millis: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 }))
  })

  it.effect.prop(
    "each message is handled once or dead-lettered, in the order of its key, whatever fails beside it",
    [
      Schema.Array(Message_).check(Schema.isMinLength(1), Schema.isMaxLength(40)),
      Schema.Literals([1, 2, 4]),
      Schema.Literals([2, 3, 8, 100])
    ],
    ([messages, concurrency, size]) =>
      Effect.gen(function*() {
        const { broker, database, deliver, log } = yield* consuming({
          concurrency,
          batch: { size },
          policy: () => ({ _tag: "DeadLetter", topic: undefined }),
          one: ({ n }) => Effect.andThen(Effect.sleep(messages[n]!.millis), write(`${messages[n]!.key} ${n}`)),
          all: (events) =>
            events.some(({ n }) => messages[n]!.isPoison) ? Effect.fail(new Boom({ id: "poison" })) : Effect.void
        })
        yield* deliver(...messages.map(({ key }, n) => order(n, key)) as unknown as [Message.Message])
        yield* adjust("1 hour")
        for (const wanted of ["a", "b", "c"]) {
          const good = messages.flatMap(({ isPoison, key }, n) => key === wanted && !isPoison ? [`${key} ${n}`] : [])
          assert.deepStrictEqual(database.rows.filter((row) => row.startsWith(wanted)), good)
        }
        const poison = messages.flatMap(({ isPoison }, n) => isPoison ? [String(n)] : [])
        const dead = broker.batches.flat().map(({ attributes }) => attributes["id"])
        assert.deepStrictEqual(dead.toSorted(), poison.toSorted())
        assert.deepStrictEqual(log.toSorted(), messages.map((_, n) => `ack ${n}`).toSorted())
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 150 } }
  )
})

describe("the inbox in memory", () => {
  it.effect("two batches that have messages in common do not deadlock", () =>
    Effect.gen(function*() {
      const inbox = yield* Inbox.Inbox
      const seen: Array<ReadonlyArray<boolean>> = []
      const note = (isNew: ReadonlyArray<boolean>) =>
        Effect.andThen(Effect.sleep(10), Effect.sync(() => seen.push(isNew)))
      yield* Effect.all([
        inbox.onceAll("group", ["1", "2"], note),
        inbox.onceAll("group", ["2", "3", "1", "3"], note),
        inbox.once("group", "1", Effect.die("a duplicate"))
      ], { concurrency: "unbounded" }).pipe(
        Effect.map(([, , once]) => assert.isTrue(Option.isNone(once))),
        Effect.forkChild({ startImmediately: true })
      )
      yield* adjust(20)
      assert.deepStrictEqual(seen, [[true, true], [false, true, false, false]])
    }).pipe(Effect.provide(Inbox.layerMemory())))
})
