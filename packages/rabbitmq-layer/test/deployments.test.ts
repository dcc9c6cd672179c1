/** Consumers that come and go with a backlog: a delivery limit counts tries, not what was sent ahead. */
import { assert, it } from "@effect/vitest"
import * as Broker from "@event-flow/core/Broker"
import * as EventConsumer from "@event-flow/core/EventConsumer"
import * as EventHandler from "@event-flow/core/EventHandler"
import * as NotificationEvent from "@event-flow/core/NotificationEvent"
import { RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Effect, Layer, References, Schema, Semaphore } from "effect"
import { eventually, layers, message, numbers, rawChannel, unique, url, withServer } from "./support/rabbit.ts"

interface Case {
  readonly concurrency: number
  readonly deployments: number
  /** Undefined: that of the server, which is 20 on RabbitMQ 4. */
  readonly deliveryLimit: number | undefined
  /** Whether somebody else has declared the queue, so that the consumer does not know the limit. */
  readonly isForeign?: boolean
}

/** Each deployment handles `concurrency` messages, and interrupts the handlers of as many. */
const deploy = Effect.fnUntraced(function*({ concurrency, deliveryLimit, deployments, isForeign = false }: Case) {
  const topic = unique("topic")
  class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
  const Handle = EventHandler.make("Handle", { on: Note })
  const handled: Array<number> = []
  const permits = yield* Semaphore.make(0)
  const consumer = EventConsumer.layer([Handle], {
    group: "group",
    concurrency,
    maxInFlight: 64,
    drainTimeout: "10 millis"
  }).pipe(
    Layer.provide(Handle.toLayer(({ n }) =>
      Effect.map(permits.take(1), () => {
        handled.push(n)
      })
    )),
    Layer.provide(layers(isForeign ? { declare: false } : { deliveryLimit }))
  )
  yield* RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(RabbitTopology.specs("group", [topic]))).pipe(
    Effect.provide(RabbitTopology.layer({ url, deliveryLimit }))
  )
  const count = 60
  yield* Effect.flatMap(Broker.Broker, ({ publish }) =>
    Effect.forEach(numbers(count), (n) => {
      const note = message(topic, `{"n":${n}}`, n)
      return publish([{ ...note, attributes: { ...note.attributes, type: "Note.v1" } }])
    }, { discard: true })).pipe(Effect.provide(layers()))
  const channel = yield* rawChannel()
  const deadLetters = RabbitTopology.deadLetterTopic(topic)
  const dead = Effect.promise(async () => (await channel.checkQueue(deadLetters)).messageCount)
  const isOver = Effect.map(dead, (dead) => handled.length + dead >= count)
  for (let i = 0; i < deployments; i++) {
    const before = handled.length
    yield* Effect.gen(function*() {
      yield* Layer.build(consumer)
      yield* permits.release(concurrency)
      yield* eventually(
        "some to be handled",
        Effect.map(isOver, (isOver) => isOver || handled.length >= before + concurrency)
      )
    }).pipe(Effect.scoped)
  }
  yield* permits.release(count)
  yield* Layer.build(consumer)
  yield* eventually("all to be handled or dead-lettered", isOver)
  const counts = { handled: new Set(handled).size, dead: yield* dead }
  console.info(
    `${deployments} deployments with ${count} messages, concurrency ${concurrency}, ` +
      `delivery limit ${deliveryLimit ?? "of the server"}${
        isForeign ? " by others" : ""
      }: ${counts.handled} handled, ${counts.dead} dead-lettered`
  )
  assert.deepStrictEqual(counts, { handled: count, dead: 0 })
  assert.lengthOf(handled, count)
})

withServer("deployments with a backlog", () => {
  const cases: ReadonlyArray<Case> = [
    { concurrency: 1, deployments: 12, deliveryLimit: 3 },
    { concurrency: 4, deployments: 6, deliveryLimit: 3 },
    { concurrency: 1, deployments: 12, deliveryLimit: 2, isForeign: true },
    { concurrency: 1, deployments: 24, deliveryLimit: undefined }
  ]
  for (const each of cases) {
    const limit = `${each.deliveryLimit ?? "of the server"}${each.isForeign ? " by others" : ""}`
    it.live(`dead-letter nothing, concurrency ${each.concurrency}, limit ${limit}`, () =>
      deploy(each).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "None")))
  }
})
