/** Records of another client, whatever their headers and bytes: none of them ends a consumer. */
import { assert } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  EventConsumer,
  EventHandler,
  Message,
  NotificationEvent,
  Subscriber
} from "@event-flow/core"
import { Producer } from "@platformatic/kafka"
import { Arbitrary, Effect, Layer, Schema } from "effect"
import {
  broker,
  createTopic,
  eventually,
  live,
  servers,
  subscriber,
  unique,
  withAdmin,
  withServer
} from "./support/kafka.ts"

const Bytes = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))).check(
  Schema.isMaxLength(20)
)
const Value = Schema.Union([Schema.Null, Schema.String, Bytes])
const Name = Schema.Union([
  Schema.Literals(["__proto__", "constructor", "toString", "hasOwnProperty", "toJSON", "x", "X", "", "ü"]),
  Schema.Literals(["ce___proto__", "ce_constructor", "ce_subject", "ce_", "content-type", "traceparent", "baggage"]),
  Schema.Literals(["event-flow-retry-group", "event-flow-retry-step", "dead-letter-reason"]),
  Schema.String
])
const Foreign = Schema.Struct({
  isGood: Schema.Boolean,
  key: Value,
  value: Value,
  type: Schema.Union([Schema.Literals(["Note.v1", "Note.v2", "__proto__.v1", "constructor"]), Value]),
  headers: Schema.Array(Schema.Tuple([Name, Value])).check(Schema.isMaxLength(8))
})

const toBytes = (value: typeof Value.Type): Buffer | null =>
  value === null ? null : typeof value === "string" ? Buffer.from(value) : Buffer.from(value)

type Sent = readonly [name: string, value: Buffer | null]

/** What a message says of these headers, by name in their order; text is compared as bytes. */
const byName = (headers: Iterable<Sent>): ReadonlyArray<readonly [string, ReadonlyArray<string | null>]> => {
  const values = new Map<string, Array<string | null>>()
  for (const [name, value] of headers) {
    values.set(name, [...values.get(name) ?? [], value === null ? null : value.toString("hex")])
  }
  return [...values].sort(([a], [b]) => a < b ? -1 : 1)
}

const headersOf = (message: Message.Message): Array<Sent> =>
  Object.keys(message.headers).flatMap((name) =>
    Message.headerValues(message, name).map((value): Sent => [name, value === null ? null : Buffer.from(value)])
  )

/** Attributes are those that say what the message is, and are checked apart. */
const isAttribute = (name: string): boolean => /^(ce_|content-type$)/i.test(name)
const isOurs = (name: string): boolean => /^(dead-letter-|event-flow-retry-)/.test(name)

const count = 2_000

withServer("records of another client", () => {
  live("each is handled or dead-lettered with what it had, and the consumer goes on", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("foreign", 3)
      const dead = `${topic}.dead-letter`
      yield* withAdmin(
        servers,
        (admin) => admin.createTopics({ topics: [{ topic: dead, partitions: 1, replicas: 1 }] })
      )
      class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
      const Handle = EventHandler.make("Handle", { on: Note })
      const handled: Array<number> = []
      const consumer = EventConsumer.layer([Handle], {
        group: unique("foreign"),
        concurrency: 4,
        // Tombstones as well
        policy: () => ConsumerPolicy.deadLetter()
      }).pipe(
        Layer.provide(Handle.toLayer(({ n }) => Effect.sync(() => void handled.push(n))))
      )
      const seed = process.env["SEED"] ?? String(Date.now())
      const foreign = yield* Arbitrary.sampleEffect(Arbitrary.schema(Foreign), { count, seed, size: 8 })
      const sent = foreign.map(({ headers, isGood, key, type, value }, i) => {
        const others = headers.filter(([name]) => !isGood || !isAttribute(name))
        return {
          isGood,
          key: toBytes(key),
          value: isGood ? Buffer.from(JSON.stringify({ n: i })) : toBytes(value),
          headers: [
            // Half of a surrogate pair has no encoding
            ...others.map(([name, value]): Sent => [Buffer.from(name).toString(), toBytes(value)]),
            ["ce_id", Buffer.from(String(i))],
            // Read as it is, a text is an event's type; a bad one has none of ours
            ["ce_type", toBytes(isGood ? "Note.v1" : type === "Note.v1" ? "Other.v1" : type)]
          ] satisfies ReadonlyArray<Sent>
        }
      })
      const bad = new Set(sent.flatMap(({ isGood }, i) => isGood ? [] : [i]))
      const letters = new Map<number, Message.Message>()
      yield* Effect.gen(function*() {
        const { join } = yield* EventConsumer.EventConsumer
        yield* produce(topic, sent)
        yield* produce(topic, [{
          key: null,
          value: Buffer.from(JSON.stringify({ n: count })),
          headers: [["ce_type", Buffer.from("Note.v1")]]
        }])
        const subscription = yield* Subscriber.Subscriber.use((subscriber) =>
          subscriber.subscribe({ topics: [dead], group: unique("dead"), maxInFlight: 100 })
        )
        const reading = Effect.gen(function*() {
          while (letters.size < bad.size) {
            for (const { ack, message } of yield* subscription.take) {
              letters.set(Number(message.attributes["id"]), message)
              yield* ack
            }
          }
          yield* eventually("all good ones are handled", () => handled.length >= count - bad.size + 1)
        })
        yield* Effect.raceFirst(reading, join)
      }).pipe(Effect.provide(consumer))
      assert.deepStrictEqual(
        handled.toSorted((a, b) => a - b),
        [...sent.keys()].filter((i) => !bad.has(i)).concat(count),
        `handled, SEED=${seed}`
      )
      assert.deepStrictEqual([...letters.keys()].sort((a, b) => a - b), [...bad], `dead-lettered, SEED=${seed}`)
      for (const [i, letter] of letters) {
        const { headers, key, value } = sent[i]!
        const what = `message ${i}, SEED=${seed}`
        const foreign = (headers: ReadonlyArray<Sent>) =>
          byName(headers.filter(([name]) => !isAttribute(name) && !isOurs(name)))
        assert.deepStrictEqual(foreign(headersOf(letter)), foreign(headers), what)
        assert.strictEqual(letter.key === undefined, key === null, what)
        if (key !== null) assert.strictEqual(Buffer.from(letter.key!).toString("hex"), key.toString("hex"), what)
        assert.strictEqual(
          letter.body && Buffer.from(letter.body).toString("hex"),
          value && value.toString("hex"),
          what
        )
        assert.isUndefined(letter.headers["dead-letter-without"], what)
      }
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])))
})

withServer("records as large as the topic takes", () => {
  live(
    "are dead-lettered as they came, since there is no room to say why, and the consumer goes on",
    () =>
      Effect.gen(function*() {
        const settings = { "max.message.bytes": "10000" }
        const topic = yield* createTopic("large", 1, servers, settings)
        const dead = `${topic}.dead-letter`
        yield* withAdmin(servers, (admin) =>
          admin.createTopics({
            topics: [{ topic: dead, partitions: 1, replicas: 1 }],
            configs: Object.entries(settings).map(([name, value]) => ({ name, value }))
          }))
        class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
        const Handle = EventHandler.make("Handle", { on: Note })
        const handled: Array<number> = []
        const consumer = EventConsumer.layer([Handle], { group: unique("large") }).pipe(
          Layer.provide(Handle.toLayer(({ n }) => Effect.sync(() => void handled.push(n))))
        )
        const headers = [["ce_type", Buffer.from("Other.v1")]] as const
        for (let i = 0; i < 10; i++) {
          yield* produce(topic, [{ key: Buffer.from(`key-${i}`), value: Buffer.alloc(9_850, i), headers }])
          yield* produce(topic, [{
            key: null,
            value: Buffer.from(JSON.stringify({ n: i })),
            headers: [["ce_type", Buffer.from("Note.v1")]]
          }])
        }
        const letters: Array<Message.Message> = []
        yield* Effect.gen(function*() {
          const subscription = yield* Subscriber.Subscriber.use((subscriber) =>
            subscriber.subscribe({ topics: [dead], group: unique("dead"), maxInFlight: 100 })
          )
          while (letters.length < 10) {
            for (const { ack, message } of yield* subscription.take) {
              letters.push(message)
              yield* ack
            }
          }
          yield* eventually("the good ones are handled", () => handled.length >= 10)
        }).pipe(Effect.provide(consumer))
        assert.deepStrictEqual(handled, [...Array(10).keys()])
        for (const [i, letter] of letters.entries()) {
          assert.deepStrictEqual([letter.key, letter.body!.length, letter.body![0]], [`key-${i}`, 9_850, i])
          assert.deepStrictEqual([Object.keys(letter.headers), letter.attributes["type"]], [[], "Other.v1"])
        }
      }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()]))
  )
})

withServer("a compacted topic", () => {
  live(
    "with deletions fills no dead letters, and its tombstones are handled where an event is one",
    () =>
      Effect.gen(function*() {
        const topic = yield* createTopic("compacted", 2, servers, { "cleanup.policy": "compact" })
        const dead = `${topic}.dead-letter`
        yield* withAdmin(
          servers,
          (admin) => admin.createTopics({ topics: [{ topic: dead, partitions: 1, replicas: 1 }] })
        )
        class Stored extends NotificationEvent.Class<Stored>()("Stored", { n: Schema.Int }, { topic }) {}
        class Removed extends NotificationEvent.Class<Removed>()("Removed", { key: Schema.String }, {
          topic,
          key: ({ key }) => key,
          tombstone: (key) => ({ key })
        }) {}
        const OnStored = EventHandler.make("OnStored", { on: Stored })
        const OnRemoved = EventHandler.make("OnRemoved", { on: Removed })
        const stored: Record<string, number> = { all: 0, some: 0 }
        const removed: Array<string> = []
        const handlers = (who: string) =>
          Layer.merge(
            OnStored.toLayer(() => Effect.sync(() => void stored[who]!++)),
            OnRemoved.toLayer(({ key }) => Effect.sync(() => void removed.push(key)))
          )
        const consumers = Layer.merge(
          Layer.provide(EventConsumer.layer([OnStored, OnRemoved], { group: unique("all") }), handlers("all")),
          Layer.fresh(Layer.provide(EventConsumer.layer([OnStored], { group: unique("some") }), handlers("some")))
        )
        const key = (i: number) => Buffer.from(`key-${i}`)
        const value = Buffer.from("{\"n\":1}")
        const type = [["ce_type", Buffer.from("Stored.v1")]] as const
        yield* produce(
          topic,
          Array.from({ length: 200 }, (_, i) =>
            // Every fourth one removes the key before it, half of them with the headers of what it was
            i % 4 === 3
              ? { key: key(i - 1), value: null, headers: i % 8 === 3 ? type : [] }
              : { key: key(i), value, headers: type })
        )
        const { publish } = yield* Broker.Broker
        yield* publish([Message.make({ topic, key: "ours", attributes: { type: "Removed.v1" }, body: null })])
        yield* eventually(
          "all are handled",
          () => stored["all"] === 150 && stored["some"] === 150 && removed.length === 51
        )
          .pipe(Effect.provide(consumers))
        assert.include(removed, "ours")
        const [offsets] = yield* withAdmin(
          servers,
          (admin) =>
            admin.listOffsets({ topics: [{ name: dead, partitions: [{ partitionIndex: 0, timestamp: -1n }] }] })
        )
        assert.strictEqual(Number(offsets!.partitions[0]!.offset), 0, "dead letters")
      }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()]))
  )
})

/** Sends with the bare client. */
const produce = (
  topic: string,
  records: ReadonlyArray<{
    readonly key: Buffer | null
    readonly value: Buffer | null
    readonly headers: ReadonlyArray<Sent>
  }>
) =>
  Effect.acquireUseRelease(
    Effect.sync(() => new Producer({ clientId: "foreign", bootstrapBrokers: [...servers] })),
    (producer) =>
      Effect.promise(() =>
        producer.send({
          messages: records.map(({ headers, key, value }) => ({
            topic,
            // Its types know neither a record nor a header without a value, which it sends as such
            key: key as Buffer,
            value: value as Buffer,
            // A map of buffers, each a key of its own: names may come more than once
            headers: new Map(headers.map(([name, value]) => [Buffer.from(name), value as Buffer]))
          }))
        })
      ),
    (producer) => Effect.promise(() => producer.close())
  )
