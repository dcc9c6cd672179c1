/** What the event consumer makes of the pair. */
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Broker from "../../../Broker.ts"
import { emptyRecord } from "../../../BrokerLayer.ts"
import * as ConsumerPolicy from "../../../ConsumerPolicy.ts"
import * as EventConsumer from "../../../EventConsumer.ts"
import * as EventHandler from "../../../EventHandler.ts"
import * as Message from "../../../Message.ts"
import * as NotificationEvent from "../../../NotificationEvent.ts"
import { has } from "../features.ts"
import {
  type Bench,
  bytesOf,
  checkOrderPerKey,
  checkSame,
  type Definition,
  encoder,
  headerBytes,
  keyOf,
  numbers,
  oddHeaders,
  sorted,
  type Test,
  toMessage
} from "../kit.ts"

export const consumer: ReadonlyArray<Definition> = [
  {
    name: "through the event consumer: keys in order, a handler that fails is retried",
    run: Effect.fnUntraced(function*(bench) {
      const flow = yield* noteFlow(bench)
      const handled = yield* Queue.make<string>()
      const failed = new Set<number>()
      yield* flow.consume({
        handle: ({ n }) => {
          if (n % 3 > 0 || failed.has(n)) return Effect.asVoid(Queue.offer(handled, String(n)))
          failed.add(n)
          return Effect.fail("fails once")
        }
      })
      yield* flow.publish(numbers(50))
      const missing = new Set(numbers(50))
      const seen: Array<string> = []
      while (missing.size > 0) {
        const text = yield* Queue.take(handled).pipe(bench.soon(() => `handlers of ${sorted(missing)}`))
        missing.delete(text)
        seen.push(text)
      }
      bench.checkComplete(seen, numbers(50), "what was handled")
      if (has(bench.features, "orderPerKey")) checkOrderPerKey(seen, "handlers")
    })
  },
  {
    name: "through the event consumer: a handler is interrupted on close, and another consumer handles its message",
    run: Effect.fnUntraced(function*(bench) {
      const flow = yield* noteFlow(bench)
      const started = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const first = yield* flow.consume({
        drainTimeout: 0,
        handle: () =>
          Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      })
      yield* flow.publish(["1"])
      yield* Deferred.await(started).pipe(bench.soon(() => "the handler"))
      yield* first.close
      yield* Deferred.await(interrupted).pipe(bench.soon(() => "the interruption of the handler"))
      const handled = yield* Deferred.make<number>()
      yield* flow.consume({ handle: ({ n }) => Deferred.succeed(handled, n) })
      checkSame(yield* Deferred.await(handled).pipe(bench.soon(() => "the second consumer")), 1, "what was handled")
    })
  },
  {
    name: "through the event consumer: a message in structured mode is read, with and without the same as headers",
    run: Effect.fnUntraced(function*(bench) {
      const flow = yield* noteFlow(bench)
      const handled = yield* Queue.make<number>()
      yield* flow.consume({ handle: ({ n }) => Queue.offer(handled, n) })
      const { publish } = yield* Broker.Broker
      for (const n of [1, 2]) {
        const attributes = { specversion: "1.0", id: `structured-${n}`, type: "SuiteNote.v1", source: "/suite" }
        yield* publish([Message.make({
          topic: flow.topic,
          key: "k",
          attributes: { ...(n === 1 ? attributes : {}), datacontenttype: "application/cloudevents+json" },
          // Taken for the data, it would be another number
          body: encoder.encode(JSON.stringify({ ...attributes, n: 0, data: { n } }))
        })])
        checkSame(yield* Queue.take(handled).pipe(bench.soon(() => "a note")), n, "what was handled")
      }
    })
  },
  {
    name: "through the event consumer: a dead letter keeps key, attributes, headers and body",
    run: Effect.fnUntraced(function*(bench) {
      const flow = yield* noteFlow(bench)
      const dead = yield* bench.subscribe({ topics: [`${flow.topic}.dead-letter`], group: bench.group("dead") })
      yield* flow.consume({ handle: () => Effect.void })
      const { publish } = yield* Broker.Broker
      const poison = Message.make({
        topic: flow.topic,
        key: "ключ",
        attributes: { specversion: "1.0", id: SecureRandom.uuidV7Unsafe(), type: "SuiteUnknown.v1", source: "/suite" },
        headers: Object.assign(emptyRecord<Message.Headers[string]>(), oddHeaders, {
          plain: "text",
          binary: new Uint8Array([0xff, 0x00, 0xfe])
        }),
        body: new Uint8Array([0xff, 0x00, 0x01])
      })
      yield* publish([poison])
      const { ack, message } = yield* dead.next("the dead letter")
      checkSame(message.key, poison.key, "key")
      checkSame(Object.entries(message.attributes).sort(), Object.entries(poison.attributes).sort(), "attributes")
      checkSame(bytesOf(message.body), bytesOf(poison.body), "body")
      for (const name of Object.keys(poison.headers)) {
        checkSame(headerBytes(message, name), headerBytes(poison, name), `header ${name}`)
      }
      const expected = { reason: "Undecodable", topic: flow.topic, group: bench.group(), attempts: "1" }
      for (const [name, value] of Object.entries(expected)) {
        checkSame(headerBytes(message, `dead-letter-${name}`), [bytesOf(value)], `header dead-letter-${name}`)
      }
      yield* ack
    })
  }
]

interface ConsumeOptions {
  readonly handle: (note: { readonly n: number }) => Effect.Effect<unknown, string>
  readonly drainTimeout?: Duration.Input | undefined
}

/** A notification event of a new topic, with what publishes and consumes it. */
const noteFlow = Effect.fnUntraced(function*(bench: Bench) {
  const topic = yield* bench.topic()
  yield* bench.topic("topic.dead-letter")
  class SuiteNote extends NotificationEvent.Class<SuiteNote>()("SuiteNote", { n: Schema.Int }, {
    topic,
    key: ({ n }) => keyOf(String(n))
  }) {}
  const Handle = EventHandler.make("Handle", { on: SuiteNote, error: Schema.String })
  return {
    topic,
    publish: (texts: ReadonlyArray<string>): Test =>
      bench.publishAll(texts.map((text) =>
        Message.make({
          ...toMessage(topic, JSON.stringify({ n: Number(text) }), keyOf(text)),
          attributes: { specversion: "1.0", id: SecureRandom.uuidV7Unsafe(), type: "SuiteNote.v1", source: "/suite" }
        })
      )),
    consume: ({ drainTimeout, handle }: ConsumeOptions): Test<{ readonly close: Effect.Effect<void> }> =>
      Effect.gen(function*() {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const consumer = EventConsumer.layer([Handle], {
          group: bench.group(),
          concurrency: 4,
          drainTimeout,
          policy: (failure) =>
            failure._tag === "HandlerFailed" ? ConsumerPolicy.retry(retries) : ConsumerPolicy.deadLetter()
        }).pipe(
          Layer.provide(Handle.toLayer((note) => Effect.asVoid(handle(note))))
        )
        yield* Layer.buildWithScope(consumer, scope).pipe(bench.soon(() => "the consumer"))
        return { close: Scope.close(scope, Exit.void).pipe(bench.soon(() => "the end of the consumer")) }
      })
  }
})

const retries = Schedule.upTo(Schedule.spaced("10 millis"), { times: 5 })
