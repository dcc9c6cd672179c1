/** A consumer asks its broker, where that can tell, whether dead letters have a topic to go to. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, BrokerLayer, ConsumerPolicy, EventConsumer } from "@event-flow/core"
import { Duration, Effect, Exit, Layer } from "effect"
import { open, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { consumer, Orders, publishError, squashed } from "./support.ts"

/** What a broker is asked, and how starting ends; `exists` says which topics there are. */
const started = (policy: ConsumerPolicy.ConsumerPolicy | undefined, exists: (topic: string) => boolean) =>
  Effect.gen(function*() {
    const asked: Array<string> = []
    const subscriber = new FakeSubscriber()
    const broker = Layer.succeed(Broker.Broker)({
      name: "test",
      publish: () => Effect.void,
      missingTopics: (topics) =>
        Effect.sync(() => {
          asked.push(...topics)
          return topics.filter((topic) => !exists(topic))
        })
    })
    const exit = yield* Effect.exit(open(
      consumer(() => Effect.void, { policy }).pipe(
        Layer.provide([broker, subscriber.layer])
      )
    ))
    return {
      asked,
      error: Exit.isSuccess(exit) ? undefined : squashed(exit),
      subscriptions: subscriber.subscriptions.length
    }
  })

describe("the topics of dead letters", () => {
  const { deadLetter, retry, skip, stop } = ConsumerPolicy
  const policies: ReadonlyArray<
    readonly [string, ConsumerPolicy.ConsumerPolicy | undefined, ReadonlyArray<string>]
  > = [
    ["the default policy", undefined, ["orders.dead-letter"]],
    ["ignoreUnknownTypes", ConsumerPolicy.ignoreUnknownTypes(), ["orders.dead-letter"]],
    ["a function", () => deadLetter("elsewhere"), []],
    ["ignoreUnknownTypes of a function", ConsumerPolicy.ignoreUnknownTypes(() => deadLetter()), []],
    [
      "a total policy",
      ConsumerPolicy.total(Orders, {
        errors: {
          Boom: retry(ConsumerPolicy.defaultSchedule, deadLetter("boomed")),
          Bang: () => deadLetter("unknown")
        },
        publish: skip,
        undecodable: deadLetter(),
        defect: deadLetter(),
        inbox: stop
      }),
      ["boomed", "orders.dead-letter"]
    ],
    [
      "delayed retries",
      BrokerLayer.retryPolicy({
        group: "group",
        delays: [Duration.seconds(1)],
        inPlace: undefined,
        otherwise: deadLetter("given up"),
        topicName: () => "later"
      }),
      ["given up"]
    ]
  ]
  for (const [name, policy, topics] of policies) {
    it.effect(`are looked at before it subscribes: ${name}`, () =>
      Effect.gen(function*() {
        const good = yield* started(policy, () => true)
        assert.deepStrictEqual([good.asked, good.error, good.subscriptions], [topics, undefined, 1])
        const bad = yield* started(policy, () => false)
        assert.deepStrictEqual(
          [bad.error, bad.subscriptions],
          topics.length === 0
            ? [undefined, 1]
            : [new EventConsumer.DeadLetterTopicMissing({ group: "group", topics }), 0]
        )
      }))
  }

  it.effect("a broker that cannot tell now is no reason not to start", () =>
    Effect.gen(function*() {
      const logger = new RecordingLogger()
      const subscriber = new FakeSubscriber()
      const broker = Layer.succeed(Broker.Broker)({
        name: "test",
        publish: () => Effect.void,
        missingTopics: () => Effect.fail(publishError(new Broker.Unreachable({ detail: "away" })))
      })
      yield* open(consumer(() => Effect.void).pipe(Layer.provide([broker, subscriber.layer, logger.layer])))
      assert.deepStrictEqual([subscriber.subscriptions.length, logger.entries], [1, [
        "Warn Consumer \"group\" could not check the topics of its dead letters"
      ]])
    }))
})
