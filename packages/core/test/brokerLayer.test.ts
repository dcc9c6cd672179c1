/** What broker layers are built with. */
import { assert, describe, it } from "@effect/vitest"
import { BrokerLayer, Message } from "@event-flow/core"
import { Effect, Exit, Fiber, Scheduler } from "effect"

/** Lets turns of the event loop pass until it is so, or gives up. */
const turnsUntil = (isSo: () => boolean) =>
  Effect.promise(async () => {
    for (let turn = 0; turn < 1_000 && !isSo(); turn++) await new Promise((resolve) => setImmediate(resolve))
  })

/** A queue of nothing but a number of items, taken one by one. */
class Queue {
  readonly waiters = new BrokerLayer.Waiters()
  items = 0
  readonly take = this.waiters.until(() => this.items === 0 ? undefined : Effect.sync(() => this.items--))
  offer(): void {
    this.items++
    this.waiters.wakeAll()
  }
}

describe("Waiters", () => {
  it.effect("take at once what is there, and wait for what is not", () =>
    Effect.gen(function*() {
      const queue = new Queue()
      queue.offer()
      yield* queue.take
      const waiting = yield* Effect.forkChild(queue.take, { startImmediately: true })
      assert.isFalse(queue.waiters.isEmpty)
      queue.waiters.wakeAll()
      yield* Effect.yieldNow
      assert.isFalse(queue.waiters.isEmpty, "there is nothing yet: it waits again")
      queue.offer()
      yield* Fiber.join(waiting)
      assert.isTrue(queue.waiters.isEmpty)
    }))

  it.effect("an interruption ends the wait", () =>
    Effect.gen(function*() {
      const queue = new Queue()
      const waiting = yield* Effect.forkChild(queue.take, { startImmediately: true })
      yield* Fiber.interrupt(waiting)
      assert.isTrue(queue.waiters.isEmpty)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(waiting)))
      queue.offer()
      assert.strictEqual(queue.items, 1)
    }))

  it.effect("one that yields between looking and waiting misses nothing", () =>
    Effect.gen(function*() {
      const stuck: Array<string> = []
      for (let budget = 3; budget <= 40; budget++) {
        for (let backlog = 1; backlog <= 12; backlog++) {
          const queue = new Queue()
          queue.items = backlog
          let taken = 0
          const pump = Effect.forever(
            Effect.map(queue.take, () => {
              // The one after the last comes in a later turn: while the fiber waits, or is about to
              if (++taken === backlog) setImmediate(() => queue.offer())
            }),
            { disableYield: true }
          )
          const fiber = yield* Effect.forkChild(Effect.provideService(pump, Scheduler.MaxOpsBeforeYield, budget))
          yield* turnsUntil(() => taken > backlog)
          if (taken <= backlog) stuck.push(`${backlog} taken with a budget of ${budget}`)
          yield* Fiber.interrupt(fiber)
        }
      }
      assert.deepStrictEqual(stuck, [])
    }))

  it.effect("a change that looking itself leads to is seen", () =>
    Effect.gen(function*() {
      const waiters = new BrokerLayer.Waiters()
      let looks = 0
      let answers = 0
      // Each look asks, and is answered while it looks
      yield* waiters.until(() => {
        if (answers === 3) return Effect.void
        if (++looks === answers + 1) {
          answers++
          waiters.wakeAll()
        }
        return undefined
      })
      assert.strictEqual(answers, 3)
    }))
})

describe("transport headers", () => {
  it("headers and attributes are each other's inverse, whatever the case", () => {
    const message = Message.make({
      topic: "t",
      attributes: { id: "1", type: "T.v1", datacontenttype: "application/json" },
      headers: { "x-foreign": new Uint8Array([255]) },
      body: new Uint8Array()
    })
    const headers = BrokerLayer.toHeaders(message, "ce_")
    assert.deepStrictEqual(headers.map(([name]) => name), ["ce_id", "ce_type", "content-type", "x-foreign"])
    const back = BrokerLayer.fromHeaders(headers, ["ce_"])
    assert.deepStrictEqual(back, { attributes: message.attributes, headers: message.headers })
    const shouted = BrokerLayer.fromHeaders(
      [["CE_ID", new TextEncoder().encode("1")], ["ce_bytes", new Uint8Array([255])]],
      ["ce_"]
    )
    assert.deepStrictEqual(shouted, { attributes: { id: "1" }, headers: { ce_bytes: new Uint8Array([255]) } })
    assert.deepStrictEqual(
      BrokerLayer.fromHeaders([["cloudEvents:id", "1"]], ["cloudEvents:", "cloudEvents_"]).attributes,
      {
        id: "1"
      }
    )
  })
})
