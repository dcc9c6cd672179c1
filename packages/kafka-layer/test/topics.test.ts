import { assert } from "@effect/vitest"
import { NotificationEvent } from "@event-flow/core"
import { KafkaTopics } from "@event-flow/kafka-layer"
import { Effect, Schema } from "effect"
import { live, servers, unique, withServer } from "./support/kafka.ts"

withServer("KafkaTopics", () => {
  live("creates what is missing, once, and says what differs", () =>
    Effect.gen(function*() {
      const topic = unique("topics")
      class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, { topic }) {}
      class Cancelled extends NotificationEvent.Class<Cancelled>()("Cancelled", { id: Schema.String }, { topic }) {}
      const topics = yield* KafkaTopics.KafkaTopics
      const wanted = KafkaTopics.specs([Announced, Cancelled], { partitions: 3, retention: "1 day" })
      assert.deepStrictEqual(wanted, [
        { topic, partitions: 3, retention: "1 day" },
        { topic: `${topic}.dead-letter`, partitions: 1, retention: "1 day" }
      ])
      assert.deepStrictEqual(
        yield* topics.check(wanted),
        wanted.map(({ topic }) => ({ topic, setting: "topic", wanted: "exists", actual: undefined }))
      )
      // At once, as programs that start together do
      const another = KafkaTopics.KafkaTopics.use((another) => another.ensure(wanted)).pipe(
        Effect.provide(KafkaTopics.layer({ bootstrapServers: servers }))
      )
      const reports = yield* Effect.all([topics.ensure(wanted), another, another], { concurrency: "unbounded" })
      assert.strictEqual(reports.flatMap(({ created }) => created).length, 2)
      assert.deepStrictEqual(yield* topics.ensure(wanted), { created: [], differences: [] })
      assert.deepStrictEqual(yield* topics.check(wanted), [])
      const report = yield* topics.ensure([
        { topic, partitions: 6, replicas: 1, retention: "2 days", settings: { "cleanup.policy": "compact" } }
      ])
      assert.deepStrictEqual(report.created, [])
      assert.deepStrictEqual(report.differences, [
        { topic, setting: "partitions", wanted: "6", actual: "3" },
        { topic, setting: "retention.ms", wanted: "172800000", actual: "86400000" },
        { topic, setting: "cleanup.policy", wanted: "compact", actual: "delete" }
      ])
    }).pipe(Effect.provide(KafkaTopics.layer({ bootstrapServers: servers }))))

  live("says Unreachable without a broker", () =>
    Effect.gen(function*() {
      const error = yield* KafkaTopics.KafkaTopics.use((topics) => Effect.flip(topics.check([{ topic: "t" }])))
      assert.strictEqual(error.reason._tag, "Unreachable")
    }).pipe(Effect.provide(KafkaTopics.layer({ bootstrapServers: ["127.0.0.1:1"] }))))
})
