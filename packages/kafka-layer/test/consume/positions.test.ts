/** Where a group begins and goes on: nothing is skipped that it did not choose to skip. */
import { assert } from "@effect/vitest"
import { Broker, type Subscriber } from "@event-flow/core"
import { KafkaHealth } from "@event-flow/kafka-layer"
import type { KafkaConfig } from "@event-flow/kafka-layer"
import { inBackground } from "@event-flow/test-support/background"
import { Effect, Fiber, Schedule } from "effect"
import {
  broker,
  commitOffset,
  committed,
  committedMetadata,
  consume,
  consumeUntilFailure,
  createAgain,
  createTopic,
  deleteTopic,
  eventually,
  live,
  numbered,
  publishNumbered,
  servers,
  subscriber,
  Tally,
  unique,
  withAdmin,
  withServer
} from "../support/kafka.ts"

const into = (tally: Tally) => (delivery: Subscriber.Delivery) => Effect.sync(() => tally.add(delivery))

/** A consumer for as long as a test needs it. */
const member = (
  topic: string,
  group: string,
  tally: Tally,
  options: Partial<KafkaConfig.Consumer> = {}
) => Effect.provide(consume({ topics: [topic], group }, into(tally)), subscriber(options))

const isCommitted = (group: string, topic: string, offset: number) =>
  eventually(
    `${offset} is committed`,
    Effect.map(committed(group, topic), (offsets) => offsets.get(0) === offset)
  )

/** Deletes a topic and makes another of its name, with messages whose numbers begin at 1,000. */
const replace = (topic: string, messages: number, partitions = 1) =>
  Effect.gen(function*() {
    yield* deleteTopic(topic)
    yield* createAgain(topic, partitions)
    // The publisher may know the old one still
    const service = yield* Broker.Broker
    yield* Effect.forEach(Array.from({ length: messages }, (_, i) => 1_000 + i), (i) =>
      Effect.retry(service.publish([numbered(topic, i, `key-${i % 10}`)]), Schedule.spaced("50 millis")), {
      concurrency: 50,
      discard: true
    })
  })

/** How many of `count` messages from number `from` on were not handled. */
const lost = (tally: Tally, from: number, count: number): number => {
  let missing = 0
  for (let i = from; i < from + count; i++) if (!tally.counts.has(i)) missing++
  return missing
}

withServer("where a group goes on", () => {
  for (const startFrom of ["earliest", "latest"] as const) {
    live(
      `a topic is deleted and created again while it is consumed from ${startFrom}: nothing is skipped`,
      () =>
        Effect.gen(function*() {
          const topic = yield* createTopic("again", 1)
          const group = unique("again")
          const tally = new Tally()
          const layer = subscriber({ startFrom })
          yield* Effect.gen(function*() {
            yield* consume({ topics: [topic], group }, into(tally))
            const health = yield* KafkaHealth.KafkaHealth
            yield* publishNumbered(topic, 100, { keys: 10 })
            yield* tally.reached(100)
            yield* isCommitted(group, topic, 100)
            // More than the old one had: its offset 100 exists
            yield* replace(topic, 200)
            yield* tally.reached(300)
            yield* isCommitted(group, topic, 200)
            assert.deepStrictEqual([lost(tally, 1_000, 200), tally.handled], [0, 300])
            yield* eventually(
              "nothing lags",
              Effect.map(
                health.subscriptions,
                ([it]) => it!.partitions[0]!.committed === 200 && it!.partitions[0]!.lag === 0
              )
            )
            // Fewer than the old one had
            yield* replace(topic, 30)
            yield* eventually("they come again", () => tally.handled === 330)
            yield* isCommitted(group, topic, 30)
          }).pipe(Effect.scoped, Effect.provide(layer))
          // A restart goes on at the end of the new one
          const after = new Tally()
          yield* member(topic, group, after, { startFrom })
          yield* publishNumbered(topic, 10, { from: 5_000 })
          yield* after.reached(10)
          assert.strictEqual(after.handled, 10)
        }).pipe(Effect.scoped, Effect.provide(broker()))
    )
  }

  live(
    "a topic is deleted and created again under two members of a group: nothing is skipped",
    () =>
      Effect.gen(function*() {
        const topic = yield* createTopic("again", 4)
        const group = unique("again")
        const tally = new Tally()
        yield* member(topic, group, tally)
        yield* member(topic, group, tally)
        yield* publishNumbered(topic, 400, { keys: 40 })
        yield* tally.reached(400)
        yield* replace(topic, 1_000, 4)
        yield* tally.reached(1_400)
        assert.strictEqual(lost(tally, 1_000, 1_000), 0)
      }).pipe(Effect.scoped, Effect.provide(broker()))
  )

  live(
    "a commit says of which topic it is: that of another one does not count after a restart",
    () =>
      Effect.gen(function*() {
        const topic = yield* createTopic("labelled", 1)
        const group = unique("labelled")
        const tally = new Tally()
        yield* publishNumbered(topic, 100, { keys: 10 })
        yield* Effect.scoped(Effect.andThen(member(topic, group, tally), isCommitted(group, topic, 100)))
        const metadata = (yield* committedMetadata(group, topic)).get(0)!
        // Nobody consumes while the topic is replaced, and a commit comes late
        yield* replace(topic, 200)
        yield* commitOffset(group, topic, { offset: 100, metadata, leaderEpoch: 0 })
        yield* Effect.scoped(
          Effect.andThen(member(topic, group, tally, { startFrom: "latest" }), isCommitted(group, topic, 200))
        )
        assert.deepStrictEqual([lost(tally, 1_000, 200), tally.handled], [0, 300])
        // In another cluster the same topic has another id: its offset was chosen by whoever copied it
        yield* commitOffset(group, topic, { offset: 150, metadata: metadata.replace(/[^:]*$/, "elsewhere") })
        const copied = new Tally()
        yield* Effect.scoped(Effect.andThen(member(topic, group, copied), copied.reached(50)))
        assert.strictEqual(copied.handled, 50)
      }).pipe(Effect.scoped, Effect.provide(broker()))
  )

  live("latest: where a group begins is committed, of empty partitions too", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("late", 2)
      const group = unique("late")
      const service = yield* Broker.Broker
      yield* service.publish([numbered(topic, 0, "old")])
      const tally = new Tally()
      // It is a member for a moment
      yield* Effect.scoped(member(topic, group, tally, { startFrom: "latest", commitInterval: "10 seconds" }))
      yield* publishNumbered(topic, 50, { from: 1, keys: 50 })
      yield* member(topic, group, tally, { startFrom: "latest" })
      yield* tally.reached(50)
      assert.deepStrictEqual([lost(tally, 1, 50), tally.handled], [0, 50])
    }).pipe(Effect.scoped, Effect.provide(broker())))

  live("latest: a group that another member joins as its first messages come loses none", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("late", 8)
      const group = unique("late")
      const tally = new Tally()
      yield* member(topic, group, tally, { startFrom: "latest" })
      const publishing = yield* inBackground(publishNumbered(topic, 400, { concurrency: 1 }))
      yield* member(topic, group, tally, { startFrom: "latest" })
      yield* Fiber.join(publishing)
      yield* tally.reached(400)
      assert.strictEqual(tally.lost(400), 0)
    }).pipe(Effect.scoped, Effect.provide(broker())))

  live("latest: two members that begin a group together get nothing old", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("late", 8)
      const group = unique("late")
      yield* publishNumbered(topic, 400, { keys: 100 })
      const tally = new Tally()
      yield* member(topic, group, tally, { startFrom: "latest" })
      yield* member(topic, group, tally, { startFrom: "latest" })
      yield* publishNumbered(topic, 400, { keys: 100, from: 400 })
      yield* eventually("all new ones are there", () => lost(tally, 400, 400) === 0)
      assert.strictEqual(Math.min(...tally.counts.keys()), 400)
    }).pipe(Effect.scoped, Effect.provide(broker())))

  live(
    "latest: a partition that is added later begins at its first message, while consuming and after a restart",
    () =>
      Effect.gen(function*() {
        const topic = yield* createTopic("grown", 1)
        const group = unique("grown")
        const tally = new Tally()
        const service = yield* Broker.Broker
        const options = { startFrom: "latest", metadataMaxAge: "500 millis" } as const
        // Published before the consumer can know of the partitions
        const grow = (count: number, from: number) =>
          Effect.gen(function*() {
            yield* withAdmin(servers, (admin) => admin.createPartitions({ topics: [{ name: topic, count }] }))
            yield* Effect.forEach(
              Array.from({ length: 100 }, (_, i) => from + i),
              (i) => service.publish([numbered(topic, i, `key-${i}`)]),
              { concurrency: 1, discard: true }
            )
          })
        yield* service.publish([numbered(topic, 9_999)])
        yield* Effect.scoped(Effect.gen(function*() {
          yield* member(topic, group, tally, options)
          yield* grow(3, 0)
          yield* tally.reached(100)
          yield* eventually(
            "all is committed",
            Effect.map(committed(group, topic), (offsets) =>
              [...offsets.values()].reduce((sum, offset) => sum + offset, 0) === 101)
          )
        }))
        yield* grow(6, 100)
        yield* member(topic, group, tally, options)
        yield* tally.reached(200)
        assert.deepStrictEqual([tally.lost(200), tally.handled], [0, 200])
      }).pipe(Effect.scoped, Effect.provide(broker({ metadataMaxAge: "20 millis" })))
  )

  const outOfRange = (
    name: string,
    options: Partial<KafkaConfig.Consumer>,
    commit: { readonly offset: number; readonly isKnown?: boolean },
    expected: { readonly first: number; readonly count: number }
  ) =>
    live(`out of range, ${name}`, () =>
      Effect.gen(function*() {
        const topic = yield* createTopic("range", 1)
        const group = unique("range")
        yield* publishNumbered(topic, 100, { keys: 10, concurrency: 1 })
        // A group that has committed
        const tally = new Tally()
        yield* Effect.scoped(Effect.andThen(member(topic, group, tally), isCommitted(group, topic, 100)))
        const metadata = (yield* committedMetadata(group, topic)).get(0)!
        yield* commitOffset(group, topic, {
          offset: commit.offset,
          ...(commit.isKnown === true ? { metadata, leaderEpoch: 0 } : undefined)
        })
        yield* withAdmin(
          servers,
          (admin) => admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: 50n }] }] })
        )
        const after = new Tally()
        yield* member(topic, group, after, options)
        // Where it goes on is committed, further back as well
        yield* isCommitted(group, topic, 100)
        yield* publishNumbered(topic, 1, { from: 100 })
        yield* eventually("the new one is there", () => after.counts.has(100))
        assert.deepStrictEqual([Math.min(...after.counts.keys()), after.handled], [expected.first, expected.count])
      }).pipe(Effect.scoped, Effect.provide(broker())))
  const deleted = { offset: 10 }
  const cutOff = { offset: 500 }
  outOfRange("deleted by retention: at the first message", {}, deleted, { first: 50, count: 51 })
  outOfRange("the same, with startFrom latest", { startFrom: "latest" }, deleted, { first: 50, count: 51 })
  outOfRange("the same, latest where one wants it", { outOfRange: "latest" }, deleted, { first: 100, count: 1 })
  outOfRange("above the end of a log of which nothing is known: at its first message", {}, cutOff, {
    first: 50,
    count: 51
  })
  outOfRange("above the end of the log that was read: at its end", {}, { ...cutOff, isKnown: true }, {
    first: 100,
    count: 1
  })
  outOfRange("above the end, earliest where one wants it", { outOfRange: "earliest" }, { ...cutOff, isKnown: true }, {
    first: 50,
    count: 51
  })

  live("out of range: fails where one wants it, and says what is gone", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("range", 1)
      const group = unique("range")
      yield* publishNumbered(topic, 100, { keys: 10 })
      yield* commitOffset(group, topic, { offset: 10 })
      yield* withAdmin(servers, (admin) =>
        admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: 50n }] }] }))
      const error = yield* Effect.flip(consumeUntilFailure({ topics: [topic], group }, () =>
        Effect.void))
      assert.strictEqual(error.reason._tag, "Rejected")
      assert.include(error.message, "offsets 10 to 49 were deleted before this group handled them")
    }).pipe(Effect.scoped, Effect.provide([broker(), subscriber({ outOfRange: "fail" })])))
})
