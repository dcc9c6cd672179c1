/** The bookkeeping of deliveries, without a server. */
import { assert, describe, it } from "@effect/vitest"
import type { Channel, ConsumeMessage } from "amqplib"
import { Effect, Fiber, Scheduler } from "effect"
import { Deliveries } from "../src/internal/deliveries.ts"

const delivered = (deliveryTag: number, key?: string): ConsumeMessage => ({
  fields: { deliveryTag, exchange: "exchange", routingKey: "topic", redelivered: false, consumerTag: "consumer" },
  properties: {
    ...({} as ConsumeMessage["properties"]),
    headers: key === undefined ? {} : { "event-flow-key": key }
  },
  content: Buffer.from("x")
})

/** A channel that keeps what it is told: `ack 2` is of one delivery, `ack ..2` of all up to it. */
const fakeChannel = () => {
  const told: Array<string> = []
  const channel = {
    ack: ({ fields }: ConsumeMessage, allUpTo = false) => {
      told.push(`ack ${allUpTo ? ".." : ""}${fields.deliveryTag}`)
    },
    nack: ({ fields }: ConsumeMessage) => {
      told.push(`nack ${fields.deliveryTag}`)
    }
  }
  // Deliveries use no more of a channel than this
  return { told, channel: channel as unknown as Channel }
}

const make = (maxInFlight: number) => {
  const dispatcher = new Scheduler.MixedScheduler().makeDispatcher()
  const deliveries = new Deliveries({ group: "group", maxInFlight }, dispatcher)
  const begin = () => {
    const { channel, told } = fakeChannel()
    const { accept } = deliveries.begin(channel, () => {})
    let tag = 0
    return { told, add: (key?: string) => accept("queue", "topic", delivered(++tag, key)) }
  }
  return { deliveries, begin, endTurn: () => dispatcher.flush() }
}

const turns = (count: number) =>
  Effect.promise(async () => {
    for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
  })

describe("Deliveries", () => {
  it.effect("acknowledges by one frame what has nothing open before it", () =>
    Effect.gen(function*() {
      const { begin, deliveries, endTurn } = make(10)
      const { add, told } = begin()
      for (let i = 0; i < 5; i++) add()
      const [first, second, third, fourth] = yield* deliveries.take
      yield* third!.ack
      yield* first!.ack
      yield* second!.ack
      assert.deepStrictEqual(told, [])
      endTurn()
      assert.deepStrictEqual(told, ["ack ..3"])
      yield* fourth!.nack
      assert.deepStrictEqual(told, ["ack ..3"])
      yield* Effect.forkChild(deliveries.take, { startImmediately: true })
      assert.deepStrictEqual(told, ["ack ..3", "nack 4"])
    }))

  it.effect("tells what is given back when its consumer takes again, and not when it closes", () =>
    Effect.gen(function*() {
      const { begin, deliveries, endTurn } = make(10)
      const { add, told } = begin()
      for (let i = 0; i < 3; i++) add()
      const [first, second, third] = yield* deliveries.take
      yield* first.nack
      assert.isTrue(first.isRevoked())
      yield* second!.ack
      endTurn()
      // Not all up to it: the first is open
      assert.deepStrictEqual(told, ["ack 2"])
      const waiting = yield* Effect.forkChild(deliveries.take, { startImmediately: true })
      assert.deepStrictEqual(told, ["ack 2", "nack 1"])
      // Somebody waits in take
      yield* third!.nack
      assert.deepStrictEqual(told, ["ack 2", "nack 1", "nack 3"])
      add()
      const [fourth] = yield* Fiber.join(waiting)
      yield* fourth.nack
      deliveries.end()
      assert.deepStrictEqual(told, ["ack 2", "nack 1", "nack 3"])
    }))

  it.effect("acknowledges one by one what is behind an open delivery", () =>
    Effect.gen(function*() {
      const { begin, deliveries, endTurn } = make(10)
      const { add, told } = begin()
      for (let i = 0; i < 3; i++) add()
      const [, second, third] = yield* deliveries.take
      yield* third!.ack
      yield* second!.ack
      endTurn()
      assert.deepStrictEqual(told, ["ack 3", "ack 2"])
    }))

  it.effect("gives back what is behind a delivery in its lane", () =>
    Effect.gen(function*() {
      const { begin, deliveries } = make(2)
      const { add, told } = begin()
      for (const key of ["a", "b", "a", "b"]) add(key)
      const [first] = yield* deliveries.take
      yield* first.nack
      assert.deepStrictEqual((yield* deliveries.take).map(({ message }) => message.key), ["b"])
      assert.deepStrictEqual(told, ["nack 1", "nack 3"])
    }))

  it.effect("acknowledges on the next channel although the last one ended in the same turn", () =>
    Effect.gen(function*() {
      const { begin, deliveries, endTurn } = make(10)
      const old = begin()
      old.add()
      const [lost] = yield* deliveries.take
      yield* lost.ack
      deliveries.end()
      const next = begin()
      next.add()
      const [delivery] = yield* deliveries.take
      yield* delivery.ack
      endTurn()
      assert.deepStrictEqual(next.told, ["ack ..1"])
    }))

  it.live("gives out a message that comes while a fiber goes to wait, wherever the fiber yields", () =>
    Effect.gen(function*() {
      const lying: Array<string> = []
      for (let budget = 10; budget < 60; budget++) {
        for (let backlog = 3; backlog < 8; backlog++) {
          const { begin, deliveries } = make(1)
          const { add } = begin()
          for (let i = 0; i < backlog; i++) add()
          let handled = 0
          const pump = yield* deliveries.take.pipe(
            Effect.flatMap(([delivery]) => {
              // Comes between two turns of the pump, after it has seen that there is nothing more
              if (++handled === backlog) setImmediate(() => add())
              return delivery.ack
            }),
            (take) => Effect.forever(take, { disableYield: true }),
            Effect.provideService(Scheduler.MaxOpsBeforeYield, budget),
            Effect.forkChild
          )
          yield* turns(20)
          if (handled <= backlog) lying.push(`operations ${budget}, backlog ${backlog}`)
          yield* Fiber.interrupt(pump)
        }
      }
      assert.deepStrictEqual(lying, [])
    }))
})
