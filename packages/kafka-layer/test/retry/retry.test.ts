/** Retry topics on a real broker: what waits is held back, blocks nobody and is not lost. */
import { assert } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  DeadLetter,
  EventConsumer,
  EventHandler,
  Inbox,
  Message,
  NotificationEvent,
  type Settings,
  Subscriber
} from "@event-flow/core"
import { KafkaHealth, KafkaRetry, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import type { KafkaConfig } from "@event-flow/kafka-layer"
import { Context, Deferred, Effect, Exit, Layer, Schedule, Schema, Scope } from "effect"
import {
  broker,
  committed,
  consuming,
  createTopic,
  eventually,
  live,
  servers,
  unique,
  withServer
} from "../support/kafka.ts"

/** Every run of a handler, and who waits for them. */
class Runs {
  readonly all: Array<{ readonly n: number; readonly group: string; readonly at: number }> = []
  readonly #waiters: Array<{ readonly isReached: () => boolean; readonly done: Deferred.Deferred<void> }> = []

  add(n: number, group: string): number {
    this.all.push({ n, group, at: Date.now() })
    for (const { done, isReached } of this.#waiters) if (isReached()) Deferred.doneUnsafe(done, Effect.void)
    return this.of(n, group).length
  }

  of(n: number, group?: string) {
    return this.all.filter((run) => run.n === n && (group === undefined || run.group === group))
  }

  get numbers(): ReadonlyArray<number> {
    return this.all.map(({ n }) => n)
  }

  until(isReached: () => boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (isReached()) return Effect.void
      const done = Deferred.makeUnsafe<void>()
      this.#waiters.push({ isReached, done })
      return Deferred.await(done)
    })
  }

  /** Waits until a message was handled so many times. */
  times(n: number, count: number, group?: string): Effect.Effect<void> {
    return this.until(() => this.of(n, group).length >= count)
  }
}

interface SetupOptions extends Omit<KafkaRetry.Options, "group"> {
  readonly group?: string
  readonly topic: string
  readonly runs: Runs
  /** How often the handler fails on a message before it succeeds. */
  readonly failing: (n: number) => number
  /** Whether the retry topics are there. Default: true. */
  readonly ensure?: boolean
  readonly consumer?: KafkaRetry.ConsumerOptions<false>
  readonly subscriber?: KafkaConfig.Consuming
  readonly broker?: Layer.Layer<Broker.Broker, Settings.InvalidSetting>
}

const topics = KafkaTopics.layer({ bootstrapServers: servers })

/** A running consumer of notes. */
const start = Effect.fnUntraced(
  function*(
    { broker: ownBroker, consumer, ensure, failing, group = unique("group"), runs, subscriber, topic, ...options }:
      SetupOptions
  ) {
    const retry = KafkaRetry.make({ group, ...options })
    class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
    const Handle = EventHandler.make("Handle", { on: Note, error: Schema.String })
    if (ensure !== false) {
      yield* Effect.provide(
        KafkaTopics.KafkaTopics.use((topics) => topics.ensure(KafkaRetry.specs(retry, [Note], { partitions: 1 }))),
        topics
      )
    }
    // Closed before the test's own scope, if the test says so
    const scope = yield* Scope.fork(yield* Effect.scope)
    const context = yield* KafkaRetry.layer(retry, [Handle], consumer).pipe(
      Layer.provide(Handle.toLayer(({ n }) =>
        Effect.suspend(() => {
          if (n < 0) return Effect.die(new Error("a bug"))
          return runs.add(n, group) <= failing(n) ? Effect.fail(`not yet ${n}`) : Effect.void
        })
      )),
      Layer.provideMerge(KafkaSubscriber.layer({ bootstrapServers: servers, ...consuming, ...subscriber })),
      Layer.provide(ownBroker ?? broker()),
      Layer.buildWithScope(scope)
    )
    const { join } = Context.get(context, EventConsumer.EventConsumer)
    const health = Effect.map(Context.get(context, KafkaHealth.KafkaHealth).subscriptions, (all) => all[0]!)
    const partitionsOf = (name: string) =>
      Effect.map(health, ({ partitions }) => partitions.filter((partition) => partition.topic === name))
    return {
      group,
      retry,
      join,
      health,
      partitionsOf,
      retryTopics: retry.topicsOf(topic).map(({ topic }) => topic),
      /** Waits until a message of the topic is held back; gives until when. */
      held: (name: string) =>
        Effect.andThen(
          eventually(
            `a message of ${name} waits`,
            Effect.map(partitionsOf(name), (partitions) => partitions.some(({ heldUntil }) => heldUntil !== undefined))
          ),
          Effect.map(partitionsOf(name), (partitions) => partitions[0]!.heldUntil!)
        ),
      close: Scope.close(scope, Exit.void)
    }
  }
)

const note = (topic: string, n: number, key = `key-${n}`, body = JSON.stringify({ n })): Message.Message =>
  Message.make({
    topic,
    key,
    attributes: { specversion: "1.0", id: `id-${n}`, source: "/test", type: "Note.v1", extension: "kept" },
    headers: { own: "kept" },
    body: Buffer.from(body)
  })

const publish = (messages: readonly [Message.Message, ...Array<Message.Message>]) =>
  Effect.provide(Broker.Broker.use(({ publish }) => publish(messages)), broker())

/** A topic of one partition, and that of its dead letters. */
const newTopic = (name: string, partitions = 1) =>
  Effect.gen(function*() {
    const topic = yield* createTopic(name, partitions)
    yield* Effect.provide(
      KafkaTopics.KafkaTopics.use((topics) => topics.ensure([{ topic: `${topic}.dead-letter`, partitions: 1 }])),
      topics
    )
    return topic
  })

/** The first messages of a topic, as they lie there. */
const read = (topic: string, count: number) =>
  Effect.gen(function*() {
    const subscriber = yield* Subscriber.Subscriber
    const subscription = yield* subscriber.subscribe({ topics: [topic], group: unique("read"), maxInFlight: 1_000 })
    const messages: Array<Message.Message> = []
    while (messages.length < count) messages.push(...(yield* subscription.take).map(({ message }) => message))
    return messages
  }).pipe(Effect.scoped, Effect.provide(KafkaSubscriber.layer({ bootstrapServers: servers, ...consuming })))

const header = (message: Message.Message, name: string): string => String(message.headers[name])

withServer("retry topics", () => {
  live(
    "a message that failed is handled again when it is due, and committed in both topics",
    () =>
      Effect.gen(function*() {
        const topic = yield* newTopic("again")
        const runs = new Runs()
        const { close, group, retryTopics } = yield* start({
          topic,
          runs,
          failing: () => 1,
          delays: ["700 millis"],
          // What is due does not wait for an answer of the broker
          subscriber: { fetchWait: "30 seconds" }
        })
        assert.deepStrictEqual(retryTopics, [`${topic}.${group}.retry.1`])
        yield* publish([note(topic, 1)])
        yield* runs.times(1, 2)
        const [waited] = yield* read(retryTopics[0]!, 1)
        const { body, key, attributes } = waited!
        const original = note(topic, 1)
        assert.deepStrictEqual({ body: Buffer.from(body!), key, attributes: { ...attributes } }, {
          body: Buffer.from(original.body!),
          key: original.key,
          attributes: original.attributes
        })
        const [first, second] = runs.of(1)
        const due = Number(header(waited!, "event-flow-retry-due"))
        assert.isAtLeast(due, first!.at + 700)
        assert.isAtLeast(second!.at, due)
        assert.isBelow(second!.at, due + 15_000)
        yield* close
        assert.strictEqual((yield* committed(group, topic)).get(0), 1)
        assert.strictEqual((yield* committed(group, retryTopics[0]!)).get(0), 1)
      }).pipe(Effect.scoped)
  )

  live(
    "a message that fails for ever walks through all delays to the dead letters of its first topic",
    () =>
      Effect.gen(function*() {
        const topic = yield* newTopic("all")
        const runs = new Runs()
        const { group, retryTopics } = yield* start({
          topic,
          runs,
          failing: (n) => n === 2 ? Infinity : 0,
          delays: ["300 millis", "500 millis"]
        })
        yield* publish([note(topic, 1), note(topic, 2)])
        const [dead] = yield* read(`${topic}.dead-letter`, 1)
        assert.deepStrictEqual(runs.numbers, [1, 2, 2, 2])
        const waited = [(yield* read(retryTopics[0]!, 1))[0]!, (yield* read(retryTopics[1]!, 1))[0]!]
        for (const [i, message] of waited.entries()) {
          const due = header(message, "event-flow-retry-due")
          assert.deepStrictEqual({ ...message.headers, "event-flow-retry-error": "…" }, {
            own: "kept",
            "event-flow-retry-group": group,
            "event-flow-retry-step": String(i + 1),
            "event-flow-retry-attempts": String(i + 1),
            "event-flow-retry-topic": topic,
            "event-flow-retry-partition": "0",
            "event-flow-retry-offset": "1",
            "event-flow-retry-reason": "HandlerFailed",
            "event-flow-retry-error": "…",
            "event-flow-retry-handlers": "[\"Handle\"]",
            "event-flow-retry-failures": `{"HandlerFailed":${i + 1}}`,
            "event-flow-retry-since": header(message, "event-flow-retry-since"),
            "event-flow-retry-due": due
          })
          assert.isAtLeast(Number(header(message, "event-flow-retry-since")), runs.of(2)[0]!.at)
          assert.isAtMost(Number(header(message, "event-flow-retry-since")), runs.of(2)[1]!.at)
          assert.include(header(message, "event-flow-retry-error"), "not yet 2")
          assert.isAtLeast(Number(due), runs.of(2)[i]!.at + [300, 500][i]!)
          assert.isAtLeast(runs.of(2)[i + 1]!.at, Number(due), `attempt ${i + 2} came too early`)
        }
        assert.strictEqual(dead!.headers["own"], "kept")
        const { cause, error, firstFailed, lastFailed, origin, ...letter } = DeadLetter.decode(dead!)!
        assert.deepStrictEqual({ ...letter, failures: { ...letter.failures } }, {
          reason: "HandlerFailed",
          handler: "Handle",
          errorTag: "string",
          errorFields: undefined,
          failures: { HandlerFailed: 3 },
          attempts: 3,
          handlers: ["Handle"],
          topic,
          group
        })
        assert.deepStrictEqual({ ...origin }, { partition: "0", offset: "1" })
        assert.include(error, "not yet 2")
        assert.include(cause, "EventHandlerError")
        assert.isAbove(lastFailed!, firstFailed!)
        assert.deepStrictEqual({ ...dead!.attributes }, note(topic, 2).attributes)
      }).pipe(Effect.scoped)
  )

  live("others go on meanwhile, those of the same key too: its order is lost", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("others")
      const runs = new Runs()
      yield* start({ topic, runs, failing: (n) => n === 1 ? 1 : 0, delays: ["1500 millis"] })
      yield* publish([note(topic, 1, "a"), note(topic, 2, "a"), note(topic, 3, "b"), note(topic, 4, "a")])
      yield* runs.times(1, 2)
      assert.strictEqual(runs.numbers.length, 5)
      assert.deepStrictEqual(runs.numbers.filter((n) => n !== 3), [1, 2, 4, 1])
      assert.isBelow(runs.of(4)[0]!.at, runs.of(1)[0]!.at + 1_500)
    }).pipe(Effect.scoped))

  live("groups of one topic do not retry each other's messages", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("groups")
      const runs = new Runs()
      const common = { topic, runs, delays: ["300 millis"] } as const
      const one = yield* start({ ...common, failing: (n) => n === 1 ? 1 : 0 })
      const two = yield* start({ ...common, failing: (n) => n === 2 ? 1 : 0 })
      yield* publish([note(topic, 1), note(topic, 2)])
      yield* runs.until(() => runs.all.length >= 6)
      yield* one.close
      yield* two.close
      for (const [n, group, count] of [[1, one, 2], [2, one, 1], [1, two, 1], [2, two, 2]] as const) {
        assert.strictEqual(runs.of(n, group.group).length, count)
      }
    }).pipe(Effect.scoped))

  live("nor do groups that share their retry topics", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("shared")
      const runs = new Runs()
      const topicName = ({ step, topic }: KafkaRetry.Step) => `${topic}.retry.${step}`
      const common = { topic, runs, topicName, delays: ["300 millis"] } as const
      const one = yield* start({ ...common, failing: (n) => n === 1 ? 1 : 0 })
      const two = yield* start({ ...common, failing: (n) => n === 2 ? 1 : 0 })
      yield* publish([note(topic, 1), note(topic, 2)])
      yield* runs.until(() => runs.all.length >= 6)
      // Each has gone past the message of the other
      for (const { group } of [one, two]) {
        yield* eventually(
          "both are committed",
          Effect.map(committed(group, `${topic}.retry.1`), (offsets) => offsets.get(0) === 2)
        )
      }
      for (const [n, group, count] of [[1, one, 2], [2, one, 1], [1, two, 1], [2, two, 2]] as const) {
        assert.strictEqual(runs.of(n, group.group).length, count)
      }
    }).pipe(Effect.scoped))

  live("what waits outlasts a restart, also where the group begins with the latest", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("restart")
      const runs = new Runs()
      const common = { topic, runs, group: unique("group"), failing: () => 1, delays: ["3 seconds"] } as const
      const before = yield* start(common)
      const retryTopic = before.retryTopics[0]!
      yield* publish([note(topic, 1)])
      const due = yield* before.held(retryTopic)
      yield* before.close
      assert.isBelow((yield* committed(common.group, retryTopic)).get(0) ?? -1, 1, "it was committed before it was due")
      yield* start({ ...common, subscriber: { startFrom: "latest" } })
      yield* runs.times(1, 2)
      const [first, second] = runs.of(1)
      assert.isAtLeast(due, first!.at + 3_000)
      assert.isAtLeast(second!.at, due)
    }).pipe(Effect.scoped))

  live("and a rebalance; nobody handles it twice or too early", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("rebalance")
      const runs = new Runs()
      const common = {
        topic,
        runs,
        group: unique("group"),
        failing: (n: number) => n === 1 ? 1 : 0,
        delays: ["4 seconds"]
      } as const
      const one = yield* start(common)
      const retryTopic = one.retryTopics[0]!
      yield* publish([note(topic, 1)])
      const due = yield* one.held(retryTopic)
      const two = yield* start(common)
      // Each has one of the two partitions
      for (const member of [one, two]) {
        yield* eventually("it has a partition", Effect.map(member.health, ({ partitions }) => partitions.length === 1))
      }
      const holders = yield* Effect.filter([one, two], (member) =>
        Effect.map(member.partitionsOf(retryTopic), (partitions) => partitions.length === 1))
      assert.strictEqual(holders.length, 1)
      assert.strictEqual(yield* holders[0]!.held(retryTopic), due)
      yield* runs.times(1, 2)
      assert.isAtLeast(runs.of(1)[1]!.at, due)
      yield* eventually(
        "it is committed",
        Effect.map(committed(common.group, retryTopic), (offsets) =>
          offsets.get(0) === 1)
      )
      assert.strictEqual(runs.of(1).length, 2)
    }).pipe(Effect.scoped))

  live(
    "a long delay holds up neither a short one nor the topic, and outlasts the session timeout",
    () =>
      Effect.gen(function*() {
        const topic = yield* newTopic("delays")
        const runs = new Runs()
        const { health, held, retryTopics } = yield* start({
          topic,
          runs,
          failing: (n) => n === 1 ? Infinity : n === 2 ? 1 : 0,
          delays: ["200 millis", "1 hour"],
          subscriber: { sessionTimeout: "2 seconds", revokeTimeout: "1 second", fetchWait: "30 seconds" }
        })
        yield* publish([note(topic, 1)])
        assert.isAtLeast(yield* held(retryTopics[1]!), runs.of(1)[1]!.at + 3_600_000)
        yield* publish([note(topic, 2), note(topic, 3)])
        yield* runs.times(2, 2)
        yield* runs.times(3, 1)
        const end = Date.now() + 3_000
        yield* eventually("the session would have timed out", Effect.sync(() => Date.now() > end))
        assert.strictEqual((yield* health).state, "connected")
        assert.isDefined(yield* held(retryTopics[1]!))
        assert.strictEqual(runs.of(1).length, 2)
      }).pipe(Effect.scoped)
  )

  live("what waits takes none of the consumer's bound", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("bound")
      const runs = new Runs()
      const { held, partitionsOf, retryTopics } = yield* start({
        topic,
        runs,
        failing: (n) => n < 1_000 ? Infinity : 0,
        delays: ["1 hour"],
        consumer: { concurrency: 2, maxInFlight: 2 },
        subscriber: { maxBufferedPerPartition: 10, maxBytesPerPartition: 16 * 1024 }
      })
      const [first, ...rest] = Array.from({ length: 1_000 }, (_, n) => note(topic, n))
      yield* publish([first!, ...rest])
      yield* runs.until(() => runs.all.length >= 1_000)
      yield* held(retryTopics[0]!)
      yield* publish([note(topic, 1_000), note(topic, 1_001), note(topic, 1_002)])
      yield* runs.until(() => runs.all.length >= 1_003)
      const [waiting] = yield* partitionsOf(retryTopics[0]!)
      assert.strictEqual(waiting!.inFlight, 0)
      assert.strictEqual(waiting!.committed, 0)
    }).pipe(Effect.scoped))

  live("subscribing fails where a retry topic is missing, and names it", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("missing")
      const error = yield* Effect.flip(
        start({ topic, runs: new Runs(), failing: () => 0, delays: ["1 second"], group: "g", ensure: false })
      )
      assert.isTrue(error._tag === "SubscribeError")
      if (error._tag !== "SubscribeError") return
      assert.strictEqual(error.reason._tag, "UnknownTopic")
      assert.strictEqual(error.reason.detail, `there is no topic "${topic}.g.retry.1" (a retry topic)`)
    }).pipe(Effect.scoped))

  live("quick retries in place come before each delay", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("in-place")
      const runs = new Runs()
      yield* start({
        topic,
        runs,
        failing: (n) => n === 1 ? Infinity : 0,
        delays: ["1 second"],
        inPlace: Schedule.spaced("10 millis").pipe(Schedule.upTo({ times: 2 }))
      })
      yield* publish([note(topic, 1, "k"), note(topic, 2, "k")])
      const [dead] = yield* read(`${topic}.dead-letter`, 1)
      // The last one before it is put aside for good, while nothing else tells of an outage
      assert.deepStrictEqual(runs.numbers, [1, 1, 1, 2, 1, 1, 1, 1])
      assert.strictEqual(header(dead!, "dead-letter-attempts"), "7")
    }).pipe(Effect.scoped))

  live(
    "what no delay can mend is dead-lettered at once, unless a policy of its own knows better",
    () =>
      Effect.gen(function*() {
        const topic = yield* newTopic("beyond")
        const runs = new Runs()
        const { partitionsOf, retryTopics } = yield* start({
          topic,
          runs,
          failing: () => 0,
          delays: ["100 millis"],
          consumer: { policy: ConsumerPolicy.ignoreUnknownTypes }
        })
        const unknown = Message.copy(note(topic, 0), { attributes: { id: "id-0", type: "Unknown.v1" } })
        yield* publish([unknown, note(topic, 1, "k", "{"), note(topic, -1)])
        const dead = yield* read(`${topic}.dead-letter`, 2)
        assert.deepStrictEqual(
          dead.map((message) => [message.attributes["id"], header(message, "dead-letter-reason")]).sort(),
          [["id--1", "HandlerDied"], ["id-1", "Undecodable"]]
        )
        assert.strictEqual((yield* partitionsOf(retryTopics[0]!))[0]!.end ?? 0, 0)
      }).pipe(Effect.scoped)
  )

  live("a message stays unacknowledged for as long as its retry is not published", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("unpublished")
      const group = unique("group")
      const runs = new Runs()
      const tried = yield* Deferred.make<void>()
      const refusing = Layer.effect(
        Broker.Broker,
        Effect.map(Broker.Broker, (real) =>
          Broker.Broker.of({
            name: "kafka",
            publish: (messages) =>
              messages[0].topic === topic ? real.publish(messages) : Effect.andThen(
                Deferred.succeed(tried, undefined),
                Effect.fail(Broker.publishError(messages[0], new Broker.Unreachable({ detail: "refused" })))
              )
          }))
      ).pipe(Layer.provide(broker()))
      const common = { topic, group, runs, failing: (n: number) => n === 1 ? 1 : 0, delays: ["100 millis"] } as const
      const before = yield* start({ ...common, broker: refusing, consumer: { concurrency: 2, drainTimeout: 0 } })
      yield* publish([note(topic, 1), note(topic, 2)])
      yield* Deferred.await(tried)
      yield* runs.times(2, 1)
      yield* before.close
      assert.isBelow((yield* committed(group, topic)).get(0) ?? 0, 1)
      yield* start({ ...common, failing: (n: number) => n === 1 ? 2 : 0 })
      yield* runs.times(1, 3)
    }).pipe(Effect.scoped))

  live(
    "an inbox lets a failed message through, and drops the double that a crash leaves",
    () =>
      Effect.gen(function*() {
        const topic = yield* newTopic("inbox")
        const runs = new Runs()
        const doubling = Layer.effect(
          Broker.Broker,
          Effect.map(Broker.Broker, (real) =>
            Broker.Broker.of({
              name: "kafka",
              publish: ([message]) => real.publish([message, message])
            }))
        ).pipe(Layer.provide(broker()))
        const retry = KafkaRetry.make({ group: unique("group"), delays: ["200 millis"] })
        class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
        const Handle = EventHandler.make("Handle", { on: Note, error: Schema.String })
        yield* Effect.provide(
          KafkaTopics.KafkaTopics.use((topics) => topics.ensure(KafkaRetry.specs(retry, [topic], { partitions: 1 }))),
          topics
        )
        yield* KafkaRetry.layer(retry, [Handle], { dedupe: true }).pipe(
          Layer.provide(
            Handle.toLayer(({ n }) => Effect.suspend(() => runs.add(n, "") === 1 ? Effect.fail("once") : Effect.void))
          ),
          Layer.provide([
            Inbox.layerMemory(),
            doubling,
            KafkaSubscriber.layer({ bootstrapServers: servers, ...consuming })
          ]),
          Layer.build
        )
        yield* publish([note(topic, 1)])
        yield* eventually(
          "both copies are done",
          Effect.map(committed(retry.group, retry.topicsOf(topic)[0]!.topic), (offsets) => offsets.get(0) === 2)
        )
        assert.deepStrictEqual(runs.numbers, [1, 1])
      }).pipe(Effect.scoped)
  )

  live("of a thousand, a third failing once, twice or for ever, none is lost", () =>
    Effect.gen(function*() {
      const topic = yield* newTopic("count", 4)
      const runs = new Runs()
      const failing = (n: number) => n % 30 === 0 ? Infinity : n % 3 === 0 ? 1 + n % 2 : 0
      const { close, group, retryTopics } = yield* start({
        topic,
        runs,
        failing,
        delays: ["200 millis", "400 millis"],
        consumer: { concurrency: 16 }
      })
      const sent = 1_000
      yield* Effect.provide(
        Broker.Broker.use(({ publish }) =>
          Effect.forEach(Array.from({ length: sent }, (_, n) => n), (n) => publish([note(topic, n, `key-${n % 20}`)]), {
            concurrency: 100,
            discard: true
          })
        ),
        broker()
      )
      const expected = Array.from({ length: sent }, (_, n) => Math.min(3, failing(n) + 1))
      const total = expected.reduce((sum, count) => sum + count, 0)
      yield* runs.until(() => runs.all.length >= total)
      const dead = yield* read(`${topic}.dead-letter`, 34)
      yield* close
      const counts = new Map<number, number>()
      for (const n of runs.numbers) counts.set(n, (counts.get(n) ?? 0) + 1)
      const lost = expected.filter((count, n) => (counts.get(n) ?? 0) < count).length
      const doubled = expected.filter((count, n) => (counts.get(n) ?? 0) > count).length
      process.stdout.write(
        `retry: ${JSON.stringify({ sent, runs: runs.all.length, dead: dead.length, lost, doubled })}\n`
      )
      assert.deepStrictEqual({ lost, doubled, dead: new Set(dead.map(({ attributes }) => attributes["id"])).size }, {
        lost: 0,
        doubled: 0,
        dead: 34
      })
      // Nothing is left to do
      const done = yield* Effect.forEach([topic, ...retryTopics], (name) => committed(group, name))
      assert.deepStrictEqual(
        done.map((offsets) => [...offsets.values()].reduce((sum, offset) => sum + Math.max(0, offset), 0)),
        [sent, expected.filter((count) => count > 1).length, expected.filter((count) => count > 2).length]
      )
    }).pipe(Effect.scoped))
})
