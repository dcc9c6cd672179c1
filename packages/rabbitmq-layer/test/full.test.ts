/** Queues that are full: the server refuses messages for a while. */
import { assert, it } from "@effect/vitest"
import * as Broker from "@event-flow/core/Broker"
import * as EventConsumer from "@event-flow/core/EventConsumer"
import * as EventHandler from "@event-flow/core/EventHandler"
import * as NotificationEvent from "@event-flow/core/NotificationEvent"
import { RabbitTopology } from "@event-flow/rabbitmq-layer"
import { watched } from "@event-flow/test-support/background"
import { Effect, Fiber, Layer, References, Result, Schedule, Schema } from "effect"
import { afterAll, beforeAll } from "vitest"
import {
  eventually,
  layers,
  message,
  numbers,
  type OwnServer,
  rawChannel,
  startOwn,
  unique,
  withOwnServer,
  withServer
} from "./support/rabbit.ts"

withServer("a full queue", () => {
  it.live("refuses messages for a while: Unavailable, and all of them are taken when there is room", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const channel = yield* rawChannel()
      yield* Effect.promise(async () => {
        await channel.assertExchange("event-flow", "topic")
        await channel.assertQueue(topic, {
          arguments: { "x-queue-type": "quorum", "x-max-length": 5, "x-overflow": "reject-publish" }
        })
        await channel.bindQueue(topic, "event-flow", topic)
      })
      const { publish } = yield* Broker.Broker
      const send = (n: string) => publish([message(topic, n)])
      const results = yield* Effect.forEach(numbers(40), (n) => Effect.result(send(n)))
      const failures = results.filter(Result.isFailure).map(({ failure }) => failure)
      assert.isAtLeast(failures.length, 20)
      for (const failure of failures) {
        assert.isTrue(failure._tag === "PublishError" && failure.reason._tag === "Unavailable" && failure.isRetryable)
      }
      assert.match(failures[0]!.message, /Unavailable: .*a queue is full/)

      const arrived = new Set<string>()
      const publishing = yield* Effect.forEach(
        numbers(200),
        (n) => Effect.retry(send(n), { schedule: Schedule.spaced("20 millis") }),
        { concurrency: 20, discard: true }
      ).pipe(Effect.forkChild({ startImmediately: true }))
      yield* Effect.promise(() =>
        channel.consume(topic, (delivery) => {
          arrived.add(delivery!.content.toString())
          channel.ack(delivery!)
        })
      )
      yield* Fiber.join(publishing)
      yield* eventually("all to arrive", () => arrived.size === 200)
      console.info(`a full queue: ${failures.length} of 40 refused; with retries 200 of 200 arrived`)
    }).pipe(Effect.scoped, Effect.provide(layers())))
})

withOwnServer("a full dead-letter queue", () => {
  let server: OwnServer
  beforeAll(async () => {
    server = await startOwn()
  })
  afterAll(() => server?.dispose())

  it.live("holds up what it cannot take, and the consumer goes on when there is room", () =>
    watched(Effect.gen(function*() {
      const topic = unique("topic")
      const dead = RabbitTopology.deadLetterTopic(topic)
      const limit = JSON.stringify({ "max-length": 2, "overflow": "reject-publish" })
      yield* Effect.promise(() => server.control.ctl("set_policy", "full", `^${dead}$`, limit, "--apply-to", "queues"))
      class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
      const Handle = EventHandler.make("Handle", { on: Note })
      const handled = new Set<number>()
      const consumer = EventConsumer.layer([Handle], { group: "group", concurrency: 4 }).pipe(
        Layer.provide(Handle.toLayer(({ n }) =>
          n % 3 === 0 ? Effect.die(new Error("poison")) : Effect.sync(() => {
            handled.add(n)
          })
        ))
      )
      const { join } = yield* EventConsumer.EventConsumer.pipe(Effect.provide(yield* Layer.build(consumer)))
      const ended = yield* Effect.forkChild(Effect.exit(join))
      const { publish } = yield* Broker.Broker
      yield* Effect.forEach(numbers(30), (n) => {
        const note = message(topic, `{"n":${n}}`)
        return publish([{ ...note, attributes: { ...note.attributes, type: "Note.v1" } }])
      }, { discard: true })

      const channel = yield* rawChannel(server.url)
      const waiting = Effect.promise(async () => (await channel.checkQueue(dead)).messageCount)
      yield* eventually("it to be full", Effect.map(waiting, (count) => count >= 2))
      // With four workers, four messages that cannot be put aside hold up the rest
      yield* eventually("all workers to wait", () => handled.size >= 8)
      assert.isUndefined(ended.pollUnsafe())

      const letters = new Set<string>()
      yield* Effect.promise(() =>
        channel.consume(dead, (letter) => {
          letters.add(letter!.content.toString())
          channel.ack(letter!)
        })
      )
      yield* eventually("all to be handled or dead-lettered", () => handled.size === 20 && letters.size === 10)
      assert.isUndefined(ended.pollUnsafe())
      console.info(`a full dead-letter queue: ${handled.size} of 20 handled, ${letters.size} of 10 dead-lettered`)
    })).pipe(
      Effect.scoped,
      Effect.provide(Layer.suspend(() => layers({ url: server.url, heartbeat: "10 seconds" }))),
      Effect.provideService(References.MinimumLogLevel, "None")
    ))
})
