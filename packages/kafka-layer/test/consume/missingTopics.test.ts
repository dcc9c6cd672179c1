/** One of several topics is deleted: the others go on, and it does when it is there again. */
import { assert } from "@effect/vitest"
import { Subscriber } from "@event-flow/core"
import { KafkaHealth } from "@event-flow/kafka-layer"
import { inBackground } from "@event-flow/test-support/background"
import { Effect, Fiber } from "effect"
import {
  broker,
  consume,
  consumeUntilFailure,
  createAgain,
  createTopic,
  deleteTopic,
  eventually,
  live,
  numberOf,
  publishNumbered,
  subscriber,
  Tally,
  unique,
  withServer
} from "../support/kafka.ts"

const into = (tally: Tally) => ({ message }: Subscriber.Delivery) =>
  Effect.sync(() => tally.addNumber(numberOf(message), `${message.topic} ${String(message.key)}`))

const missing = Effect.flatMap(
  KafkaHealth.KafkaHealth,
  (health) =>
    Effect.map(health.subscriptions, (subscriptions) => subscriptions.map(({ missingTopics }) => missingTopics))
)

// The broker answers about topics in another order than it was asked
for (const [kept, dropped] of [["a-kept", "b-dropped"], ["b-kept", "a-dropped"]] as const) {
  withServer(`${dropped} is deleted beside ${kept}`, () => {
    live("the other goes on, under two members, and both do when it is there again", () =>
      Effect.gen(function*() {
        const [keep, drop] = [yield* createTopic(kept, 4), yield* createTopic(dropped, 4)]
        const group = unique("several")
        const tally = new Tally()
        for (let i = 0; i < 2; i++) yield* consume({ topics: [keep, drop], group }, into(tally))
        yield* publishNumbered(keep, 200, { keys: 40 })
        yield* publishNumbered(drop, 200, { keys: 40, from: 200 })
        yield* tally.reached(400)
        yield* deleteTopic(drop)
        yield* eventually(
          "both know which one is missing",
          Effect.map(missing, (of) => of.length === 2 && of.every((topics) => topics.join() === drop))
        )
        yield* publishNumbered(keep, 200, { keys: 40, from: 400 })
        yield* tally.reached(600)
        yield* createAgain(drop, 4)
        yield* publishNumbered(drop, 200, { keys: 40, from: 600 })
        yield* publishNumbered(keep, 200, { keys: 40, from: 800 })
        yield* tally.reached(1_000)
        yield* eventually("nothing is missing", Effect.map(missing, (of) => of.flat().length === 0))
        assert.deepStrictEqual([tally.lost(1_000), tally.outOfOrder], [0, 0])
      }).pipe(
        Effect.scoped,
        Effect.provide([broker(), subscriber({ startFrom: "latest", metadataMaxAge: "500 millis" })])
      ))

    live("it is named when a group begins without it, and when none is left", () =>
      Effect.gen(function*() {
        const [keep, drop] = [yield* createTopic(kept), unique(dropped)]
        const group = unique("several")
        const unknown = yield* Effect.flip(
          Subscriber.Subscriber.use((service) => service.subscribe({ topics: [keep, drop], group, maxInFlight: 1 }))
        )
        assert.strictEqual(unknown.reason._tag, "UnknownTopic")
        assert.include(unknown.message, `there is no topic "${drop}"`)
        const ending = yield* inBackground(Effect.flip(
          consumeUntilFailure({ topics: [keep], group }, () => Effect.void)
        ))
        const health = yield* KafkaHealth.KafkaHealth
        yield* eventually("it is in", Effect.map(health.subscriptions, (all) => all.at(-1)?.state === "connected"))
        yield* deleteTopic(keep)
        const ended = yield* Fiber.join(ending)
        assert.strictEqual(ended.reason._tag, "UnknownTopic")
        assert.include(ended.message, `there is no topic "${keep}"`)
      }).pipe(Effect.scoped, Effect.provide(subscriber())))
  })
}
