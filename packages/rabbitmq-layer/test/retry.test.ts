import { assert, describe, it } from "@effect/vitest"
import * as Broker from "@event-flow/core/Broker"
import * as BrokerLayer from "@event-flow/core/BrokerLayer"
import * as ConsumerPolicy from "@event-flow/core/ConsumerPolicy"
import * as EventHandler from "@event-flow/core/EventHandler"
import * as NotificationEvent from "@event-flow/core/NotificationEvent"
import * as Settings from "@event-flow/core/Settings"
import { RabbitRetry, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Effect, Layer, Schedule, Schema } from "effect"
import { eventually, getRaw, layers, message, unique, url, withServer } from "./support/rabbit.ts"

const publishNotes = (topic: string, ns: ReadonlyArray<number>) =>
  Effect.flatMap(Broker.Broker, ({ publish }) =>
    Effect.forEach(ns, (n) => {
      const note = message(topic, JSON.stringify({ n }), `key-${n}`)
      return publish([{ ...note, attributes: { ...note.attributes, type: "Note.v1" } }])
    }))

/** A consumer whose handler fails the first times: `failures` gives how often, for the number of a note. */
const consumer = (retry: RabbitRetry.RabbitRetry, topic: string, failures: (n: number) => number) => {
  class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
  const Handle = EventHandler.make("Handle", { on: Note, error: Schema.String })
  const runs: Array<{ readonly n: number; readonly at: number }> = []
  const layer = RabbitRetry.layer(retry, [Handle]).pipe(
    Layer.provide(Handle.toLayer(({ n }) =>
      Effect.suspend(() => {
        runs.push({ n, at: performance.now() })
        return runs.filter((run) => run.n === n).length <= failures(n) ? Effect.fail("not yet") : Effect.void
      })
    ))
  )
  return { layer, times: (n: number) => runs.filter((run) => run.n === n).map(({ at }) => at) }
}

withServer("RabbitRetry", () => {
  for (
    const options of [{}, { queueName: (group: string, topic: string) => `${topic} of ${group}` }]
  ) {
    const names = "queueName" in options ? "with names of queues of one's own" : "with the default names of queues"
    it.live(`a message comes again after each delay, then it is dead-lettered, ${names}`, () =>
      Effect.gen(function*() {
        const topic = unique("topic")
        const ports = layers(options)
        const retry = RabbitRetry.make({ group: "group", delays: ["300 millis", "600 millis"] })
        const { layer, times } = consumer(retry, topic, (n) => n === 1 ? 2 : n === 2 ? 3 : 0)
        yield* Layer.build(Layer.provide(layer, ports))
        yield* publishNotes(topic, [0, 1, 2]).pipe(Effect.provide(ports))
        const { content, properties } = yield* getRaw(RabbitTopology.deadLetterTopic(topic))
        assert.strictEqual(content.toString(), "{\"n\":2}")
        assert.strictEqual(properties.headers?.["dead-letter-reason"], "HandlerFailed")
        assert.strictEqual(properties.headers?.["dead-letter-attempts"], "3")
        assert.strictEqual(properties.headers?.["event-flow-key"], "key-2")
        assert.deepStrictEqual(
          Object.keys(properties.headers ?? {}).filter((name) => name.startsWith(BrokerLayer.retryHeaderPrefix)),
          []
        )
        assert.deepStrictEqual([0, 1, 2].map((n) => times(n).length), [1, 3, 3])
        for (const n of [1, 2]) {
          const [first, second, third] = times(n)
          assert.isAtLeast(second! - first!, 290)
          assert.isAtLeast(third! - second!, 590)
        }
      }).pipe(Effect.scoped))
  }

  it.live("queues that RabbitTopology made are the ones that the consumer declares", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const retry = RabbitRetry.make({ group: "group", delays: ["200 millis"] })
      const topology = yield* RabbitTopology.RabbitTopology
      const { created, differences } = yield* topology.ensure(RabbitRetry.specs(retry, [topic]))
      assert.includeMembers([...created], [`group:${topic}`, `group:${topic}.retry-1.200ms`, `${topic}.dead-letter`])
      assert.deepStrictEqual(differences, [])
      const ports = layers()
      const { layer, times } = consumer(retry, topic, () => 1)
      yield* Layer.build(Layer.provide(layer, ports))
      yield* publishNotes(topic, [1]).pipe(Effect.provide(ports))
      yield* eventually("it was handled twice", () => times(1).length === 2)
    }).pipe(Effect.scoped, Effect.provide(RabbitTopology.layer({ url }))))
})

describe("RabbitRetry.make", () => {
  const decide = (retry: RabbitRetry.RabbitRetry, headers: Record<string, string> = {}) =>
    retry["~policy"](RabbitTopology.queueName)({
      _tag: "HandlerFailed",
      message: { ...message("t", ""), headers },
      event: {} as never,
      error: {} as never
    })
  const waited = (step: number, group = "g") =>
    BrokerLayer.encodeRetry({ group, step, due: 0, attempts: step, topic: "t", reason: "", error: "", origin: {} })

  it("waits for the next delay, then does otherwise", () => {
    const retry = RabbitRetry.make({ group: "g", delays: ["1 second", "1 minute"], otherwise: ConsumerPolicy.skip })
    const topicOf = (headers?: Record<string, string>) => {
      const decision = decide(retry, headers)
      return decision._tag === "Postpone" ? decision.topic : decision._tag
    }
    assert.strictEqual(topicOf(), "g:t.retry-1.1000ms")
    assert.strictEqual(topicOf(waited(1)), "g:t.retry-2.60000ms")
    assert.strictEqual(topicOf(waited(2)), "Skip")
    assert.strictEqual(topicOf(waited(1, "another group")), "g:t.retry-1.1000ms")
  })

  it("retries in place first", () => {
    const decision = decide(RabbitRetry.make({ group: "g", delays: ["1 second"], inPlace: Schedule.recurs(2) }))
    assert(decision._tag === "Retry")
    assert.strictEqual(decision.otherwise._tag, "Postpone")
  })

  it("refuses what cannot be waited for, by name", () => {
    for (
      const [field, options] of [
        ["group", { group: "", delays: ["1 second"] }],
        ["delays[1]", { group: "g", delays: ["1 second", 0] }],
        ["delays[0]", { group: "g", delays: ["Infinity"] }]
      ] satisfies ReadonlyArray<readonly [string, RabbitRetry.Options]>
    ) {
      try {
        RabbitRetry.make(options)
        assert.fail("it was made")
      } catch (error) {
        assert.instanceOf(error, Settings.InvalidSetting)
        assert.deepStrictEqual([error.settings, error.field], ["RabbitRetry", field])
      }
    }
  })
})
