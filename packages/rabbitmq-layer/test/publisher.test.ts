/** Publishing over a channel that a test answers for. */
import { assert, describe, it } from "@effect/vitest"
import type { Broker } from "@event-flow/core"
import type { ChannelModel } from "amqplib"
import { Deferred, Effect, Exit, Fiber, Layer, References, Scheduler, Scope } from "effect"
import { TestClock } from "effect/testing"
import { EventEmitter } from "node:events"
import * as Binding from "../src/internal/binding.ts"
import type { Link } from "../src/internal/connection.ts"
import * as Publisher from "../src/internal/publisher.ts"
import { publisherSettings } from "../src/internal/settings.ts"
import { message } from "./support/messages.ts"

/** A channel that keeps what is published to it, and says what a test has it say. */
class FakeChannel extends EventEmitter {
  readonly published: Array<string> = []

  publish(exchange: string, routingKey: string, content: Buffer): boolean {
    this.published.push(`${exchange}/${routingKey} ${content.toString()}`)
    return true
  }

  async close(): Promise<void> {
    this.emit("close")
  }

  confirm(deliveryTag: number, multiple = false): void {
    this.emit("ack", { deliveryTag, multiple })
  }

  unroutable(id: string): void {
    const fields = { exchange: "event-flow", routingKey: "topic", replyText: "NO_ROUTE" }
    this.emit("return", { fields, properties: { messageId: id } })
  }
}

/** A publisher over fake channels: `channels` has those that it has opened, the last one last. */
const start = Effect.gen(function*() {
  const channels: Array<FakeChannel> = []
  const model = Object.assign(new EventEmitter(), {
    createConfirmChannel: async () => {
      const channel = new FakeChannel()
      channels.push(channel)
      return channel
    }
  })
  // The publisher uses no more of a connection than this
  const link: Link = { model: model as unknown as ChannelModel, lost: yield* Deferred.make<string>(), gather: () => {} }
  const settings = yield* publisherSettings({ url: "amqp://localhost" })
  const { publish } = yield* Publisher.make(settings, { link: Effect.succeed(link), problem: () => undefined }, {
    declare: async () => {},
    toOutgoing: (message) => ({
      message,
      exchange: "event-flow",
      routingKey: message.topic,
      content: Binding.toContent(message),
      options: Binding.toOptions(message, true)
    })
  })
  return { channels, publish }
})

const silently = Effect.provide(Layer.succeed(References.MinimumLogLevel, "None"))

/** Until what runs on promises and callbacks has run. */
const settled = Effect.promise(async () => {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
})

const reasonOf = <A>(fiber: Fiber.Fiber<A, Broker.PublishError>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), ({ reason }) => reason)

describe("Publisher", () => {
  it.effect("succeeds with the last confirmation of a batch, in whatever order they come", () =>
    Effect.gen(function*() {
      const { channels, publish } = yield* start
      const fiber = yield* Effect.forkChild(publish(["a", "b", "c", "d"].map((text) => message("topic", text))))
      yield* settled
      const [channel] = channels
      assert.deepStrictEqual(channel!.published, ["a", "b", "c", "d"].map((text) => `event-flow/topic ${text}`))
      channel!.confirm(2)
      channel!.confirm(4)
      yield* settled
      assert.isUndefined(fiber.pollUnsafe())
      channel!.confirm(3, true)
      yield* Fiber.join(fiber)
    }))

  it.effect("publishTimeout is a time of the Clock", () =>
    Effect.gen(function*() {
      const { publish } = yield* start
      const fiber = yield* Effect.forkChild(publish([message("topic", "a")]))
      yield* settled
      yield* TestClock.adjust("29 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      const reason = yield* reasonOf(fiber)
      assert.strictEqual(reason._tag, "Timeout")
    }))

  it.effect("sends again what is not confirmed, and forgets what the last channel had said of it", () =>
    Effect.gen(function*() {
      const { channels, publish } = yield* start
      const one = message("topic", "a")
      const fiber = yield* Effect.forkChild(publish([one, message("topic", "b")]))
      yield* settled
      channels[0]!.unroutable(one.attributes["id"]!)
      channels[0]!.confirm(2)
      yield* Effect.promise(() => channels[0]!.close())
      yield* settled
      // A queue has been bound in the meantime
      assert.deepStrictEqual(channels[1]!.published, ["event-flow/topic a"])
      channels[1]!.confirm(1)
      yield* Fiber.join(fiber)
    }).pipe(silently))

  it.effect("a message that no queue takes is an UnknownTopic", () =>
    Effect.gen(function*() {
      const { channels, publish } = yield* start
      const one = message("topic", "a")
      const fiber = yield* Effect.forkChild(publish([one]))
      yield* settled
      channels[0]!.unroutable(one.attributes["id"]!)
      channels[0]!.confirm(1)
      assert.strictEqual((yield* reasonOf(fiber))._tag, "UnknownTopic")
    }))

  it.effect("closing ends with the last confirmation, wherever the closing fiber yields", () =>
    Effect.gen(function*() {
      const hanging: Array<number> = []
      for (let budget = 6; budget < 60; budget++) {
        const scope = yield* Scope.make()
        const { channels, publish } = yield* Scope.provide(start, scope)
        const publishing = yield* Effect.forkChild(publish([message("topic", "a")]))
        yield* settled
        // Comes as soon as the closing fiber leaves the event loop to others; no time passes
        setImmediate(() => channels[0]!.confirm(1))
        const closing = yield* Scope.close(scope, Exit.void).pipe(
          Effect.provideService(Scheduler.MaxOpsBeforeYield, budget),
          Effect.forkChild({ startImmediately: true })
        )
        yield* settled
        if (closing.pollUnsafe() === undefined) hanging.push(budget)
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(closing)
        yield* Fiber.await(publishing)
      }
      assert.deepStrictEqual(hanging, [])
    }).pipe(silently))
})
