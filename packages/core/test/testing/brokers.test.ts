/** Brokers that record and that fail. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, EventEmitter, EventMap, Mediator, Message } from "@event-flow/core"
import { FailingBroker, RecordingBroker } from "@event-flow/core/testing"
import { Cause, Effect, Exit, Fiber, Layer } from "effect"
import { adjust } from "../fixtures.ts"
import { Announced, Join, main, Shown } from "./support.ts"

describe("RecordingBroker", () => {
  const recorded = EventEmitter.layer.pipe(
    Layer.provide(EventMap.layer([])),
    Layer.provideMerge(RecordingBroker.layer)
  )

  it.effect("keeps messages, batches, and decodes events", () =>
    Effect.gen(function*() {
      const emitter = yield* EventEmitter.EventEmitter
      yield* emitter.publish([new Announced({ id: "a" }), new Shown({ id: "b" })])
      yield* emitter.publish([new Announced({ id: "c" })])
      const broker = yield* RecordingBroker.RecordingBroker
      assert.deepStrictEqual((yield* broker.published).map((message) => message.topic), [
        "meetings",
        "shown",
        "meetings"
      ])
      assert.deepStrictEqual((yield* broker.batches).map((batch) => batch.length), [2, 1])
      const announced = yield* broker.decoded(Announced)
      assert.deepStrictEqual(announced.map((event) => event.id), ["a", "c"])
      assert.instanceOf(announced[0], Announced)
      yield* broker.clear
      assert.deepStrictEqual(yield* broker.published, [])
      assert.deepStrictEqual(yield* broker.decoded(Announced), [])
    }).pipe(Effect.provide(recorded)))

  it.effect("decoding fails for a message of the class that cannot be read", () =>
    Effect.gen(function*() {
      const publisher = yield* Broker.Broker
      yield* publisher.publish([
        Message.make({ topic: "meetings", attributes: { type: "Announced.v1" }, body: new TextEncoder().encode("{}") })
      ])
      const error = yield* Effect.flip((yield* RecordingBroker.RecordingBroker).decoded(Announced))
      assert.strictEqual(error.reason, "InvalidBody")
    }).pipe(Effect.provide(recorded)))
})

describe("FailingBroker", () => {
  const unreachable = new Broker.Unreachable({ detail: "gone" })
  const failing = (plan: FailingBroker.Plan) =>
    main().pipe(
      Layer.provideMerge(FailingBroker.layer(plan)),
      Layer.provideMerge(RecordingBroker.layer)
    )
  const join = Mediator.send(new Join({ userId: "u" }))
  const published = Effect.gen(function*() {
    return (yield* (yield* RecordingBroker.RecordingBroker).published).length
  })

  it.effect("fails the nth publish with a reason, and passes the others on", () =>
    Effect.gen(function*() {
      const exits = [yield* Effect.exit(join), yield* Effect.exit(join), yield* Effect.exit(join)]
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false, true])
      const error = yield* Effect.flip(exits[1]!)
      assert.isTrue(error._tag === "PublishError" && error.reason._tag === "Unreachable" && error.isRetryable)
      assert.strictEqual(yield* published, 2)
      const calls = yield* (yield* FailingBroker.FailingBroker).calls
      assert.deepStrictEqual(calls.map((call) => call.failure), [undefined, unreachable, undefined])
      assert.strictEqual(calls[1]!.messages[0].topic, "meetings")
    }).pipe(Effect.provide(failing(FailingBroker.nth(2, unreachable)))))

  it.effect("by a plan that looks at the messages", () =>
    Effect.gen(function*() {
      const exits = [
        yield* Effect.exit(Mediator.send(new Join({ userId: "a" }))),
        yield* Effect.exit(Mediator.send(new Join({ userId: "b" })))
      ]
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false])
    }).pipe(Effect.provide(failing((_, [message]) => message.key === "m-b" ? unreachable : undefined))))

  it.effect("the first n, or always", () =>
    Effect.gen(function*() {
      const first = Effect.gen(function*() {
        return [yield* Effect.exit(join), yield* Effect.exit(join)].map(Exit.isSuccess)
      })
      assert.deepStrictEqual(
        yield* first.pipe(Effect.provide(failing(FailingBroker.first(1, unreachable)))),
        [false, true]
      )
      assert.deepStrictEqual(
        yield* first.pipe(Effect.provide(failing(FailingBroker.always(unreachable)))),
        [false, false]
      )
    }))

  it.effect("F8, F13: BrokerNotFound, a defect, a hang", () =>
    Effect.gen(function*() {
      const notFound = yield* Effect.flip(join).pipe(
        Effect.provide(failing(FailingBroker.always(FailingBroker.brokerNotFound)))
      )
      assert.strictEqual(notFound._tag, "BrokerNotFound")
      const died = yield* Effect.exit(join).pipe(
        Effect.provide(failing(FailingBroker.always(FailingBroker.die("bug"))))
      )
      assert.isTrue(Exit.isFailure(died) && Cause.hasDies(died.cause))
      const fiber = yield* Effect.forkChild(
        Effect.timeoutOption(join, "1 hour").pipe(Effect.provide(failing(FailingBroker.always(FailingBroker.hang)))),
        { startImmediately: true }
      )
      yield* adjust("1 hour")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "None")
    }))

  it.effect("after publishing: the message arrived, and the caller does not know", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(join)
      assert.strictEqual(error._tag, "PublishError")
      assert.strictEqual(yield* published, 1)
    }).pipe(
      Effect.provide(
        failing(FailingBroker.nth(1, FailingBroker.afterPublishing(new Broker.Timeout({ detail: "no confirm" }))))
      )
    ))
})
