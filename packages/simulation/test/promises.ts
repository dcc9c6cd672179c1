/**
 * What the simulator itself promises, each as a function that throws where it is broken. As a program it says which are.
 */
import { Broker, Message, Subscriber } from "@event-flow/core"
import { type Fault, Simulation, Store } from "@event-flow/simulation"
import { Deferred, Effect, Exit, Schedule } from "effect"
import { deepStrictEqual, ok } from "node:assert"
import { alone } from "./support/alone.ts"
import { addOne, counting, counts } from "./support/counts.ts"

const Rows = Store.table<number>("rows")

const rowsOf = (world: ReturnType<typeof alone>): unknown => {
  const rows = world.fork(Effect.map(Rows.all, (all) => Object.fromEntries(all)))
  world.settle()
  return Exit.isSuccess(rows.exit!) ? rows.exit.value : rows.exit
}

/** What is in the table after a commit that has a fault. */
const afterCommit = (fault: Fault.OperationFault): unknown => {
  const world = alone({ faults: [fault] })
  world.fork(Store.transaction(Rows.put("1", 1)))
  world.settle()
  return rowsOf(world)
}

const operation = "main: commit rows"

const message = (id: string, key?: string) =>
  Message.make({ topic: "t", key, attributes: { id, type: "T.v1" }, body: new Uint8Array() })

/** The ids of what a group gets, with their attempts, and what was published, when each is acknowledged. */
const delivered = (
  faults: ReadonlyArray<Fault.Fault>,
  options: { readonly key?: string; readonly publish?: number; readonly holdFor?: number; readonly outageAt?: number } =
    {}
) => {
  const world = alone({ faults })
  const seen: Array<string> = []
  const consume = Effect.scoped(Effect.gen(function*() {
    const { subscribe } = yield* Subscriber.Subscriber
    const { take } = yield* subscribe({ topics: ["t"], group: "g", maxInFlight: 10 })
    while (true) {
      for (const one of yield* take) {
        seen.push(`${one.message.attributes["id"]}/${one.attempt}`)
        if (options.holdFor !== undefined) yield* Effect.sleep(options.holdFor)
        yield* one.ack
      }
    }
  }))
  const consumer = world.world.process("consumer")
  world.fork(consume, consumer)
  world.fork(Effect.gen(function*() {
    const { publish } = yield* Broker.Broker
    yield* Effect.sleep(10)
    for (let i = 1; i <= (options.publish ?? 1); i++) {
      yield* Effect.retry(publish([message(String(i), options.key)]), { schedule: Schedule.spaced(100), times: 20 })
    }
  }))
  // Whoever dies comes again
  for (const at of [2000, 4000]) {
    world.world.outside.after(at, () => void (consumer.epoch > 0 && world.fork(consume, consumer)))
  }
  if (options.outageAt !== undefined) world.world.outside.after(options.outageAt, () => world.broker.outage(500))
  world.settle()
  return { seen, published: world.broker.published("t").length, left: world.broker.unacknowledged }
}

const ack = (n: string) => `consumer: acknowledge ${n}`

export const promises: Readonly<Record<string, () => void>> = {
  "a crash before a commit leaves nothing of it": () =>
    deepStrictEqual(afterCommit({ operation, do: "crashBefore", downFor: 1 }), {}),
  "a crash after a commit leaves all of it": () =>
    deepStrictEqual(afterCommit({ operation, do: "crashAfter", downFor: 1 }), { 1: 1 }),
  "a commit that fails before leaves nothing": () => deepStrictEqual(afterCommit({ operation, do: "failBefore" }), {}),
  "a commit that fails after leaves all of it": () =>
    deepStrictEqual(afterCommit({ operation, do: "failAfter" }), { 1: 1 }),
  "a crash leaves no lock": () => {
    const world = alone({ faults: [{ operation, do: "crashBefore", downFor: 1 }] })
    world.fork(Store.transaction(Rows.put("1", 1)))
    world.settle()
    world.fork(Rows.put("1", 2))
    world.settle()
    deepStrictEqual(rowsOf(world), { 1: 2 })
  },
  "two increments at once are both there": () => {
    const world = alone({ schedule: { latency: 20 } })
    const add = Store.transaction(Effect.flatMap(Rows.lock("1"), (n = 0) => Rows.put("1", n + 1)))
    for (let i = 0; i < 5; i++) world.fork(add)
    world.settle()
    deepStrictEqual(rowsOf(world), { 1: 5 })
  },
  "a transaction that is rolled back leaves nothing": () => {
    const world = alone()
    world.fork(Store.transaction(Effect.andThen(Rows.put("1", 1), Effect.fail("no"))))
    world.settle()
    deepStrictEqual(rowsOf(world), {})
  },
  "a message comes once": () => deepStrictEqual(delivered([]), { seen: ["1/1"], published: 1, left: 0 }),
  "an acknowledgement that a process does not live to send is not kept": () =>
    deepStrictEqual(delivered([{ operation: ack("T @0"), do: "crashBefore", downFor: 1 }]).seen, ["1/1", "1/2"]),
  "an acknowledgement that arrived is kept": () =>
    deepStrictEqual(delivered([{ operation: ack("T @0"), do: "crashAfter", downFor: 1 }]).seen, ["1/1"]),
  "an acknowledgement that is lost brings the message again": () =>
    deepStrictEqual(delivered([{ operation: ack("T @0"), do: "loseAck", count: 1 }]).seen, ["1/1", "1/2"]),
  "a publish that fails before is not there, one that fails after is": () => {
    deepStrictEqual(delivered([{ operation: "main: publish T", do: "failBefore" }]).published, 1)
    deepStrictEqual(delivered([{ operation: "main: publish T", do: "failAfter" }]).published, 2)
  },
  "a publish that arrives twice is there twice": () =>
    deepStrictEqual(delivered([{ operation: "main: publish T", do: "duplicate" }]).published, 2),
  "messages of a key come in order, also after an acknowledgement was lost": () => {
    const faults = [{ operation: ack("T(k) @2"), do: "loseAck", count: 2 }] as const
    const { left, seen } = delivered(faults, { key: "k", publish: 8, holdFor: 5 })
    // All once more from the second on, in the order of the key
    const again = seen.slice(seen.indexOf("2/2")).map((one) => Number(one[0]))
    deepStrictEqual(again, [2, 3, 4, 5, 6, 7, 8])
    deepStrictEqual(left, 0)
  },
  "a key is in the hands of one consumer at a time": () => {
    const world = alone({ schedule: { latency: 5 } })
    let holding = 0
    const consume = Effect.scoped(Effect.gen(function*() {
      const { subscribe } = yield* Subscriber.Subscriber
      const { take } = yield* subscribe({ topics: ["t"], group: "g", maxInFlight: 1 })
      while (true) {
        const [one] = yield* take
        ok(++holding === 1, "two at once")
        yield* Effect.sleep(20)
        holding--
        yield* one.ack
      }
    }))
    const fibers = [1, 2].map((n) => world.fork(consume, world.world.process(`consumer-${n}`, "consumer")))
    world.fork(Effect.gen(function*() {
      const { publish } = yield* Broker.Broker
      yield* Effect.sleep(10)
      for (let i = 0; i < 5; i++) yield* publish([message(String(i), "k")])
    }))
    world.settle()
    deepStrictEqual(fibers.map(({ exit }) => exit), [undefined, undefined])
    deepStrictEqual(world.broker.unacknowledged, 0)
  },
  "an outage takes messages back": () =>
    deepStrictEqual(delivered([], { holdFor: 300, outageAt: 100 }).seen, ["1/1", "1/2"]),
  "a dead process runs nothing, also where somebody else wakes it": () => {
    const world = alone()
    const shared = Deferred.makeUnsafe<void>()
    let after = 0
    world.fork(Effect.ensuring(Deferred.await(shared), Effect.sync(() => after++)))
    world.fork(Effect.ensuring(Effect.sleep(100), Effect.sync(() => after++)))
    world.world.outside.after(50, () => world.process.die())
    world.world.outside.after(60, () => Deferred.doneUnsafe(shared, Exit.void))
    world.settle()
    deepStrictEqual(after, 0)
  },
  "a system that is right holds": () =>
    deepStrictEqual(String(Simulation.check(counts(), { seeds: 60 }).finding), "undefined"),
  "a bug is found": () => ok(Simulation.check(counts(counting(addOne, { dedupe: false })), { seeds: 100 }).finding)
}

if (process.argv[1] === import.meta.filename) {
  for (const [name, keep] of Object.entries(promises)) {
    try {
      keep()
    } catch (error) {
      console.log(`${name}: ${String(error).split("\n")[0]}`)
      process.exitCode = 1
      // One is enough
      break
    }
  }
}
