/** Messages without a body, which remove their key from a compacted topic. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  BrokerLayer,
  Command,
  ConsumerPolicy,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  Message,
  MessageCodec,
  NotificationEvent
} from "@event-flow/core"
import { Duration, Effect, Layer, Schema } from "effect"
import { RecordingLogger } from "./fixtures.ts"

class Stored extends NotificationEvent.Class<Stored>()("Stored", { id: Schema.String, n: Schema.Int }, {
  topic: "things",
  key: ({ id }) => id
}) {}

class Removed extends NotificationEvent.Class<Removed>()("Removed", { id: Schema.NonEmptyString }, {
  topic: "things",
  key: ({ id }) => id,
  headers: () => ({ own: "1" }),
  tombstone: (id) => ({ id })
}) {}

const OnStored = EventHandler.make("OnStored", { on: Stored })
const OnRemoved = EventHandler.make("OnRemoved", { on: Removed })

/** A tombstone as a tool writes it: with a key and nothing else. */
const bare = (key: Message.Message["key"], attributes: Readonly<Record<string, string>> = {}) =>
  Message.make({ topic: "things", key, attributes, body: null })

const after = (
  messages: readonly [Message.Message, ...ReadonlyArray<Message.Message>],
  policy: ConsumerPolicy.ConsumerPolicy | undefined,
  removed: Array<string> | undefined
) =>
  Effect.gen(function*() {
    const { publish } = yield* Broker.Broker
    yield* publish(messages)
    const memory = yield* MemoryBroker.MemoryBroker
    yield* memory.awaitIdle
    return yield* memory.messages("things.dead-letter")
  }).pipe(Effect.provide(
    EventConsumer.layer(removed === undefined ? [OnStored] : [OnStored, OnRemoved], { group: "group", policy }).pipe(
      Layer.provide([
        OnStored.toLayer(() => Effect.void),
        OnRemoved.toLayer(({ id }) => Effect.sync(() => void removed?.push(id)))
      ]),
      Layer.provideMerge(MemoryBroker.layer()),
      Layer.provideMerge(new RecordingLogger().layer)
    )
  ))

const stored = Message.make({
  topic: "things",
  key: "a",
  attributes: { type: "Stored.v1" },
  body: new TextEncoder().encode("{\"id\":\"a\",\"n\":1}")
})

describe("a tombstone", () => {
  it.effect("is published without a body, with its key, attributes and headers, in either content mode", () =>
    Effect.gen(function*() {
      class Remove extends Command.Class<Remove>()("Remove", { emits: [Removed] }) {}
      class Things extends EventFlow.make("Things", { commands: [Remove] }) {}
      for (const contentMode of ["binary", "structured"] as const) {
        const [message] = yield* Effect.gen(function*() {
          yield* Mediator.send(new Remove())
          return yield* MemoryBroker.MemoryBroker.use((broker) => broker.messages("things"))
        }).pipe(Effect.provide(
          Things.layer({ contentMode }).pipe(
            Layer.provide(Remove.toLayer((_, { collect }) => collect(new Removed({ id: "a" })))),
            Layer.provideMerge(MemoryBroker.layer())
          )
        ))
        assert.isNull(message!.body)
        assert.strictEqual(message!.key, "a")
        assert.deepStrictEqual(message!.headers, { own: "1" })
        assert.strictEqual(message!.attributes["type"], "Removed.v1")
        assert.notProperty(message!.attributes, "datacontenttype")
        const known = new Map([["Removed", Removed]])
        assert.deepStrictEqual(yield* MessageCodec.cloudEvents().decode(message!, known), new Removed({ id: "a" }))
      }
    }))

  it.effect("is handled by its event: with its type, with another one, and with none", () =>
    Effect.gen(function*() {
      const removed: Array<string> = []
      const dead = yield* after(
        [bare("a"), bare("b", { type: "Removed.v1" }), bare("c", { type: "Stored.v1" }), stored],
        undefined,
        removed
      )
      assert.deepStrictEqual(removed.toSorted(), ["a", "b", "c"])
      assert.deepStrictEqual(dead, [])
    }))

  it.effect("that nobody handles is ignored by default, with the retry policies as well", () =>
    Effect.gen(function*() {
      const retrying = BrokerLayer.retryPolicy({
        group: "group",
        delays: [Duration.seconds(1)],
        inPlace: undefined,
        otherwise: undefined,
        topicName: () => "later"
      })
      for (const policy of [undefined, ConsumerPolicy.ignoreUnknownTypes(), retrying]) {
        assert.deepStrictEqual(yield* after([bare("a"), bare("b", { type: "Stored.v1" })], policy, undefined), [])
      }
    }))

  it.effect("is a dead letter where the policy says so, without a body", () =>
    Effect.gen(function*() {
      const reasons: Array<string> = []
      const policy: ConsumerPolicy.ConsumerPolicy = (failure) => {
        if (failure._tag === "Undecodable") reasons.push(failure.error.reason)
        return ConsumerPolicy.deadLetter()
      }
      const dead = yield* after([bare("a", { id: "1" })], policy, undefined)
      assert.deepStrictEqual(reasons, ["Tombstone"])
      assert.deepStrictEqual(dead.map(({ attributes, body, key }) => [attributes["id"], key, body]), [["1", "a", null]])
    }))

  it.effect("whose key does not fit says so", () =>
    Effect.gen(function*() {
      const known = new Map([["Removed", Removed]])
      for (
        const [key, detail] of [
          ["", /its key "" does not fit/],
          [undefined, /neither a body nor a key/],
          [Uint8Array.of(255), /neither a body nor a key/]
        ] as const
      ) {
        const error = yield* Effect.flip(MessageCodec.cloudEvents().decode(bare(key), known))
        assert.strictEqual(error.reason, "Tombstone")
        assert.match(error.detail, detail)
      }
    }))

  it.effect("is no message with an empty body, nor one in structured mode", () =>
    Effect.gen(function*() {
      const known = new Map([["Removed", Removed]])
      const reason = (message: Message.Message) =>
        Effect.map(Effect.flip(MessageCodec.cloudEvents().decode(message, known)), (error) => error.reason)
      const empty = Message.copy(bare("a", { type: "Removed.v1" }), { body: new Uint8Array(0) })
      assert.strictEqual(yield* reason(empty), "InvalidBody")
      assert.strictEqual(yield* reason(bare("", { datacontenttype: "application/cloudevents+json" })), "Tombstone")
    }))

  it("needs a key, and is one of its topic", () => {
    assert.throws(
      () => NotificationEvent.Class<object>()("X", { id: Schema.String }, { topic: "t", tombstone: (id) => ({ id }) }),
      /a tombstone needs a key/
    )
  })

  it.effect("of a topic is one event in a consumer", () =>
    Effect.gen(function*() {
      class Gone extends NotificationEvent.Class<Gone>()("Gone", { id: Schema.String }, {
        topic: "things",
        key: ({ id }) => id,
        tombstone: (id) => ({ id })
      }) {}
      const Both = EventHandler.make("Both", { on: [Removed, Gone] })
      const error = yield* Effect.flip(Effect.scoped(Layer.build(
        EventConsumer.layer([Both], { group: "group" }).pipe(
          Layer.provide(Both.toLayer(() => Effect.void)),
          Layer.provide(MemoryBroker.layer())
        )
      )))
      assert.match(error.message, /Two event classes are the tombstone of topic "things": "Removed", and "Gone"/)
    }))
})
