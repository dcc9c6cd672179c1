/** Messages that a policy postpones: where they go, what they say about it, and what becomes of them in the end. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  BrokerLayer,
  ConsumerPolicy,
  EventConsumer,
  EventHandler,
  FlowObserver,
  MemoryBroker,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"
import { adjust, RecordingLogger } from "../fixtures.ts"

class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic: "notes" }) {}
const Handle = EventHandler.make("Handle", { on: Note, error: Schema.String })

const postponed: BrokerLayer.RetryHeaders = {
  group: "group",
  step: 1,
  due: 90,
  attempts: 2,
  topic: "notes",
  reason: "HandlerFailed",
  error: "no",
  handlers: ["Handle"],
  failures: { HandlerFailed: 2 },
  since: 10,
  origin: { partition: "7" }
}

const note = (headers: Message.Message["headers"]): Message.Message =>
  Message.make({
    topic: "notes",
    key: "k",
    attributes: { id: "1", type: "Note.v1" },
    headers: { own: "kept", ...headers },
    body: new TextEncoder().encode("{\"n\":1}")
  })

/** What is in `topic` after a note could not be handled. */
const after = (
  policy: ConsumerPolicy.ConsumerPolicy,
  headers: Message.Message["headers"],
  topic: string,
  outcomes: Array<FlowObserver.DeliveryOutcome> = []
) =>
  Effect.gen(function*() {
    const broker = yield* Broker.Broker
    const memory = yield* MemoryBroker.MemoryBroker
    yield* adjust(100)
    yield* broker.publish([note(headers)])
    yield* memory.awaitIdle
    return yield* memory.messages(topic)
  }).pipe(Effect.provide(
    EventConsumer.layer([Handle], { group: "group", policy }).pipe(
      Layer.provide(Handle.toLayer(() => Effect.fail("no"))),
      Layer.provideMerge(MemoryBroker.layer()),
      Layer.provideMerge([
        new RecordingLogger().layer,
        FlowObserver.layer(FlowObserver.make({ deliveryEnded: (_, outcome) => void outcomes.push(outcome) }))
      ])
    )
  ))

const later = ConsumerPolicy.postpone({ topic: "later", step: 2, delay: "5 seconds" })

describe("a postponed message", () => {
  it.effect("is as it came, with headers that say where from, why and until when", () =>
    Effect.gen(function*() {
      const outcomes: Array<FlowObserver.DeliveryOutcome> = []
      const [waiting] = yield* after(() => later, {}, "later", outcomes)
      assert.deepStrictEqual(outcomes, ["postponed"])
      const { headers, ...rest } = waiting!
      const { headers: _, ...original } = note({})
      assert.deepStrictEqual(rest, { ...original, topic: "later" })
      const { error, origin, ...fields } = BrokerLayer.decodeRetry(waiting!, "group")!
      assert.deepStrictEqual(fields, {
        group: "group",
        step: 2,
        due: 5_100,
        attempts: 1,
        topic: "notes",
        reason: "HandlerFailed",
        handlers: ["Handle"],
        failures: { HandlerFailed: 1 },
        since: 100
      })
      assert.include(error, "no")
      assert.deepStrictEqual(origin, { offset: "0" })
      assert.strictEqual(headers["own"], "kept")
    }))

  it.effect("counts its attempts from topic to topic", () =>
    Effect.gen(function*() {
      const [waiting] = yield* after(() => later, BrokerLayer.encodeRetry(postponed), "later")
      assert.strictEqual(BrokerLayer.decodeRetry(waiting!, "group")!.attempts, 3)
      assert.strictEqual(BrokerLayer.decodeRetry(waiting!, "group")!.step, 2)
      const [others] = yield* after(() => later, BrokerLayer.encodeRetry({ ...postponed, group: "another" }), "later")
      assert.strictEqual(BrokerLayer.decodeRetry(others!, "group")!.attempts, 1)
    }))

  it.effect("says no more of its retries as a dead letter but how many attempts there were", () =>
    Effect.gen(function*() {
      const [dead] = yield* after(
        () => ConsumerPolicy.deadLetter(),
        BrokerLayer.encodeRetry(postponed),
        "notes.dead-letter"
      )
      assert.strictEqual(dead!.headers["dead-letter-attempts"], "3")
      assert.strictEqual(dead!.headers["own"], "kept")
      assert.deepStrictEqual(
        Object.keys(dead!.headers).filter((name) => name.startsWith(BrokerLayer.retryHeaderPrefix)),
        []
      )
    }))
})

describe("its headers", () => {
  it("are read as they were written, by its own group", () => {
    const message = note(BrokerLayer.encodeRetry(postponed))
    assert.deepStrictEqual(BrokerLayer.decodeRetry(message, "group"), postponed)
    assert.isUndefined(BrokerLayer.decodeRetry(message, "another"))
    assert.isUndefined(BrokerLayer.decodeRetry(note({}), "group"))
  })

  it("are not believed where they cannot be", () => {
    const read = (headers: Record<string, string>) =>
      BrokerLayer.decodeRetry(
        note({
          ...BrokerLayer.encodeRetry(postponed),
          ...Object.fromEntries(
            Object.entries(headers).map(([name, value]) => [BrokerLayer.retryHeaderPrefix + name, value])
          )
        }),
        "group"
      )
    for (const step of ["0", "-1", "x", "", "1.5"]) assert.isUndefined(read({ step }), step)
    for (const due of ["-1", "x", "", "Infinity"]) assert.strictEqual(read({ due })!.due, 0, due)
    assert.strictEqual(read({ attempts: "many" })!.attempts, 0)
  })
})
