/** The memory broker, with subscriptions that come and go: once a group, in order of the key, within its bounds. */
import { Broker, MemoryBroker, Message, Subscriber } from "@event-flow/core"
import { Cause, Effect, Exit, Fiber } from "effect"
import * as Arr from "effect/Array"
import { Chance, type Oracle, runProgram } from "./kit.ts"

export const run = (seed: number): string | undefined => {
  const chance = new Chance(seed, "memory")
  const capacity = chance.pick(1, 2, 5, 10_000)
  const retention = chance.pick(0, 1, 3, 1000)
  const groups = chance.pick(["a"], ["a", "b"])
  const messages = chance.pick(3, 10, 30)
  const keys = chance.pick(1, 2, 5)
  const batch = chance.pick(1, 1, 3)
  const nackRate = chance.pick(0, 0.1, 0.4)
  const closeRate = chance.pick(0, 0.02, 0.1)
  return runProgram(seed, chance, ({ fail }) => {
    let isOver = false
    const published: Array<string> = []
    const acknowledged = new Map(groups.map((group) => [group, [] as Array<string>]))
    const inHand = new Map<string, string>()

    const subscription = (group: string, maxInFlight: number) =>
      Effect.scoped(Effect.gen(function*() {
        const { subscribe } = yield* Subscriber.Subscriber
        const { take } = yield* subscribe({ topics: ["t"], group, maxInFlight })
        let inFlight = 0
        while (true) {
          const taken = yield* take
          inFlight += taken.length
          if (inFlight > maxInFlight) fail(`${inFlight} in flight of ${maxInFlight}`)
          let isLast = false
          for (const delivery of taken) {
            const id = delivery.message.attributes["id"]!
            const lane = `${group}/${delivery.lane ?? id}`
            if (inHand.has(lane) && !delivery.isRevoked()) fail(`${inHand.get(lane)} and ${id} of a lane at once`)
            inHand.set(lane, id)
            if (chance.isHit(0.3)) yield* Effect.sleep(chance.below(20))
            isLast ||= chance.isHit(closeRate)
            inHand.delete(lane)
            if (isLast) return
            if (chance.isHit(nackRate)) yield* delivery.nack
            else {
              if (!delivery.isRevoked()) acknowledged.get(group)!.push(id)
              yield* delivery.ack
              // The second answer does not count
              if (chance.isHit(0.1)) yield* delivery.nack
            }
            inFlight--
          }
        }
      })).pipe(Effect.catchCause((cause) =>
        isOver ? Effect.void : Effect.sync(() => fail(`a subscription failed: ${Cause.pretty(cause).slice(0, 200)}`))
      ))

    const program = Effect.gen(function*() {
      const memory = yield* MemoryBroker.MemoryBroker
      const { publish } = yield* Broker.Broker
      const consumers: Array<Fiber.Fiber<unknown, unknown>> = []
      for (const group of groups) {
        for (let i = 0; i < chance.pick(1, 2, 3); i++) {
          consumers.push(
            yield* Effect.forkChild(Effect.gen(function*() {
              while (!isOver) {
                yield* subscription(group, chance.pick(1, 2, 8))
                yield* Effect.sleep(chance.below(5))
              }
            }))
          )
        }
      }
      // The groups are there before anything is published: a small retention would rightly forget it
      yield* Effect.sleep(1)
      yield* Effect.forEach(Arr.range(1, chance.pick(1, 2, 3)), (publisher) =>
        Effect.gen(function*() {
          for (let n = 0; n < messages; n += batch) {
            const ids = Arr.map(Arr.range(0, batch - 1), (b) => {
              const key = chance.isHit(0.2) ? undefined : `${publisher}.${chance.below(keys)}`
              return { key, id: `${publisher}/${key ?? "-"}/${String(n + b).padStart(4, "0")}` }
            })
            const exit = yield* Effect.exit(publish(Arr.map(ids, ({ id, key }) =>
              Message.make({ topic: "t", key, attributes: { id, type: "X.v1" }, body: new Uint8Array() }))))
            if (Exit.isSuccess(exit)) {
              published.push(...ids.map(({ id }) =>
                id
              ))
            } else {
              // A group whose consumers are all away for the moment refuses, and says so
              const text = Cause.pretty(exit.cause)
              if (!/no consumer|no group/.test(text)) fail(`publish: ${text.slice(0, 200)}`)
              yield* Effect.sleep(3)
            }
            if (chance.isHit(0.3)) yield* Effect.sleep(chance.below(10))
          }
        }), { concurrency: "unbounded", discard: true })
      yield* memory.awaitIdle
      if ((yield* memory.pending) !== 0) fail("something is left after it was idle")
      isOver = true
      yield* Fiber.interruptAll(consumers)
      for (const group of groups) check(group, acknowledged.get(group)!, published, { fail })
      if ((yield* memory.messages("t")).length > retention) fail(`it keeps more than ${retention}`)
    })
    return Effect.provide(program, MemoryBroker.layer({ capacity, retention }))
  })
}

/** Each once, and those of a key in order. */
const check = (
  group: string,
  acknowledged: ReadonlyArray<string>,
  published: ReadonlyArray<string>,
  { fail }: Oracle
): void => {
  const all = new Set(acknowledged)
  if (all.size !== acknowledged.length) fail(`group ${group} acknowledged something twice`)
  const missing = published.find((id) => !all.has(id))
  if (missing !== undefined) fail(`group ${group} never had ${missing}`)
  const last = new Map<string, string>()
  for (const id of acknowledged) {
    const [publisher, key, n = ""] = id.split("/")
    if (key === "-") continue
    const lane = `${publisher}/${key}`
    if ((last.get(lane) ?? "") > n) fail(`group ${group}: ${id} after ${last.get(lane)}`)
    last.set(lane, n)
  }
}
