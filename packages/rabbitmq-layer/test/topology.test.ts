import { assert, it } from "@effect/vitest"
import { NotificationEvent } from "@event-flow/core"
import { type RabbitConfig, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Effect, Schema } from "effect"
import { rawChannel, unique, url, withServer } from "./support/rabbit.ts"

const topology = (options: Partial<RabbitConfig.Topology> = {}) =>
  RabbitTopology.RabbitTopology.pipe(Effect.provide(RabbitTopology.layer({ url, ...options })), Effect.orDie)

withServer("RabbitTopology", () => {
  it.live("check says what is missing, ensure makes it, and after that nothing differs", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const { check, ensure } = yield* topology({ exchange: topic })
      const specs = RabbitTopology.specs("group", [topic])
      const [exchange, dead, queue] = [topic, `${topic}.dead-letter`, `group:${topic}`]
      assert.deepStrictEqual(yield* check(specs), [
        { name: exchange, setting: "exchange", wanted: "exists", actual: undefined },
        { name: dead, setting: "queue", wanted: "exists", actual: undefined },
        { name: queue, setting: "queue", wanted: "exists", actual: undefined }
      ])
      assert.strictEqual((yield* check(specs)).length, 3, "check has made something")
      assert.deepStrictEqual(yield* ensure(specs), { created: [exchange, dead, queue], differences: [] })
      assert.deepStrictEqual(yield* check(specs), [])
      assert.deepStrictEqual(yield* ensure(specs), { created: [], differences: [] })
      // The queue is bound
      const channel = yield* rawChannel()
      channel.publish(topic, topic, Buffer.from("x"))
      yield* Effect.promise(() => channel.waitForConfirms())
      assert.strictEqual((yield* Effect.promise(() => channel.checkQueue(queue))).messageCount, 1)
    }).pipe(Effect.scoped))

  it.live("says how what is there differs, and leaves it as it is", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const specs = RabbitTopology.specs("group", [topic])
      const classic = yield* topology({ queueType: "classic", deadLetter: false })
      yield* classic.ensure(specs)
      const quorum = yield* topology({ deadLetter: false, deliveryLimit: undefined })
      const differences = [{
        name: `group:${topic}`,
        setting: "x-queue-type",
        wanted: "quorum",
        actual: "classic"
      }]
      assert.deepStrictEqual(yield* quorum.check(specs), differences)
      assert.deepStrictEqual(yield* quorum.ensure(specs), { created: [], differences })
      const active = yield* topology({ queueType: "classic", deadLetter: false, singleActiveConsumer: true })
      assert.deepStrictEqual(yield* active.check(specs), [
        { name: `group:${topic}`, setting: "x-single-active-consumer", wanted: "true", actual: undefined }
      ])
      assert.deepStrictEqual(yield* classic.check(specs), [])
    }))

  it.live("fails with the reason", () =>
    Effect.gen(function*() {
      const specs = RabbitTopology.specs("group", [unique("topic")])
      const failure = (options: Partial<RabbitConfig.Topology>) =>
        Effect.flip(Effect.flatMap(topology(options), ({ ensure }) => ensure(specs)))
      const unreachable = yield* failure({ url: "amqp://127.0.0.1:1" })
      assert.strictEqual(unreachable.reason._tag, "Unreachable")
      assert.isTrue(unreachable.isRetryable)
      const address = new URL(url)
      address.password = "wrong"
      const refused = yield* failure({ url: address.href })
      assert.strictEqual(refused.reason._tag, "NotAuthorised")
      assert.isFalse(refused.isRetryable)
      const noExchange = yield* failure({ route: (topic) => ({ exchange: "missing", routingKey: topic }) })
      assert.strictEqual(noExchange.reason._tag, "UnknownTopic")
    }))
})

it("specs have each topic once", () => {
  class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic: "notes" }) {}
  class Other extends NotificationEvent.Class<Other>()("Other", { n: Schema.Int }, { topic: "notes" }) {}
  assert.deepStrictEqual(RabbitTopology.specs("g", [Note, Other, "others"]), [
    { group: "g", topic: "notes" },
    { group: "g", topic: "others" }
  ])
})
