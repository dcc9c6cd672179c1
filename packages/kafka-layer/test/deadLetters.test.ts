/** Where dead letters go is looked at when a consumer starts, and not at the first message that cannot be handled. */
import { assert } from "@effect/vitest"
import { ConsumerPolicy, EventConsumer, EventHandler, NotificationEvent } from "@event-flow/core"
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { Effect, Exit, Layer, Logger, Schema } from "effect"
import { live, servers, unique, withServer } from "./support/kafka.ts"

const bootstrapServers = servers

/** How starting a consumer ends, when only these topics are there. */
const starting = (
  topic: string,
  existing: ReadonlyArray<string>,
  options: { readonly policy?: ConsumerPolicy.ConsumerPolicy; readonly createTopics?: boolean } = {}
) =>
  Effect.gen(function*() {
    class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
    const Handle = EventHandler.make("Handle", { on: Note })
    yield* KafkaTopics.KafkaTopics.use(({ ensure }) =>
      ensure([topic, ...existing].map((topic) => ({ topic, partitions: 1 })))
    ).pipe(Effect.provide(KafkaTopics.layer({ bootstrapServers })))
    const { createTopics, policy } = options
    const exit = yield* Effect.exit(Effect.scoped(Layer.build(
      EventConsumer.layer([Handle], { group: unique("group"), policy }).pipe(
        Layer.provide(Handle.toLayer(() => Effect.void)),
        Layer.provide([
          KafkaBroker.layer({ bootstrapServers, createTopics }),
          KafkaSubscriber.layer({ bootstrapServers })
        ])
      )
    )))
    return Exit.isSuccess(exit) ?
      "started" :
      String(Exit.findErrorOption(exit).pipe((found) => found._tag === "Some" ? found.value.message : "died"))
  }).pipe(Effect.provide(Logger.layer([])))

const refused = (topic: string): RegExp =>
  new RegExp(`cannot publish dead letters to "${topic}": no such topic. Create it before the consumer starts`)

withServer("the topics of dead letters", () => {
  live("a consumer does not start where they are missing, and names them", () =>
    Effect.gen(function*() {
      const topic = unique("no-dead-letters")
      assert.match(yield* starting(topic, []), refused(`${topic}.dead-letter`))
      const policy = ConsumerPolicy.ignoreUnknownTypes()
      assert.match(yield* starting(topic, [], { policy }), refused(`${topic}.dead-letter`))
      const failed = `${topic}.failed`
      const total = ConsumerPolicy.total([], {
        errors: {},
        undecodable: ConsumerPolicy.deadLetter(failed),
        defect: ConsumerPolicy.retry(ConsumerPolicy.defaultSchedule),
        inbox: ConsumerPolicy.stop
      })
      assert.match(yield* starting(topic, [`${topic}.dead-letter`], { policy: total }), refused(failed))
      assert.strictEqual(yield* starting(topic, [failed], { policy: total }), "started")
    }))

  live(
    "it starts where they exist, where the broker makes them, and where the policy cannot tell or needs none",
    () =>
      Effect.gen(function*() {
        const topic = unique("dead-letters")
        assert.strictEqual(yield* starting(topic, [], { policy: () => ConsumerPolicy.deadLetter() }), "started")
        const none = ConsumerPolicy.total([], {
          errors: {},
          undecodable: ConsumerPolicy.skip,
          defect: ConsumerPolicy.stop,
          inbox: ConsumerPolicy.stop
        })
        assert.strictEqual(yield* starting(topic, [], { policy: none }), "started")
        assert.strictEqual(yield* starting(topic, [], { createTopics: true }), "started")
        assert.strictEqual(yield* starting(topic, [`${topic}.dead-letter`]), "started")
      })
  )
})
