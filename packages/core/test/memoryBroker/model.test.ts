/** The memory broker beside a model that knows nothing of lanes and lists. */
import { assert, describe, it } from "@effect/vitest"
import { MemoryBroker, type Subscriber } from "@event-flow/core"
import { Effect, Exit, Fiber } from "effect"
import { numbers, pending, publish, started, stored, subscribe } from "./support.ts"

const retention = 3

/** Small numbers that look random, and are the same in every run. */
const randomFrom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor(state / 65_536) % below
  }
}

interface Consumer {
  readonly group: string
  readonly take: Subscriber.Subscription["take"]
  readonly close: Effect.Effect<void>
  readonly held: Array<Subscriber.Delivery>
}

const unsubscribe = (group: string) => MemoryBroker.MemoryBroker.use(({ unsubscribe }) => unsubscribe(group))

/** Does one thing after another, with three groups of which one is ephemeral. */
const scenario = Effect.fnUntraced(function*(seed: number) {
  const random = randomFrom(seed)
  /** What each group has not acknowledged. */
  const model = new Map<string, Set<number>>()
  const consumers: Array<Consumer> = []
  let published = 0

  const send = Effect.suspend(() => {
    published++
    for (const outstanding of model.values()) outstanding.add(published)
    return publish([published], random(2) === 0 ? {} : { key: `key ${random(2)}` })
  })
  const open = Effect.fnUntraced(function*(group: string) {
    const ephemeral = group === "client"
    if (!model.has(group)) model.set(group, new Set(ephemeral ? [] : (yield* stored()).map(Number)))
    consumers.push({ group, held: [], ...(yield* subscribe({ group, ephemeral })) })
  })
  const close = Effect.fnUntraced(function*(consumer: Consumer) {
    consumers.splice(consumers.indexOf(consumer), 1)
    yield* consumer.close
    if (consumer.group === "client" && !consumers.some(({ group }) => group === "client")) model.delete("client")
  })
  const consume = Effect.fnUntraced(function*({ group, held, take }: Consumer) {
    const taking = yield* started(take)
    const taken = taking.pollUnsafe()
    if (taken === undefined) yield* Fiber.interrupt(taking)
    else if (Exit.isSuccess(taken)) held.push(...taken.value)
    const [delivery] = held.splice(random(held.length + 1), 1)
    if (delivery === undefined) return
    if (random(3) === 0) return yield* delivery.nack
    yield* delivery.ack
    model.get(group)!.delete(Number(numbers([delivery])[0]))
  })
  const act = (): Effect.Effect<
    void,
    unknown,
    Effect.Services<typeof send> | Effect.Services<ReturnType<typeof open>>
  > => {
    const group = ["one", "two", "client"][random(3)]!
    const consumer = consumers[random(consumers.length + 1)]
    switch (random(6)) {
      case 0:
      case 1:
        return send
      case 2:
        return consumers.length < 5 ? open(group) : Effect.void
      case 3:
        return consumer === undefined ? Effect.void : close(consumer)
      case 4:
        if (consumers.some((each) => each.group === group)) return Effect.void
        model.delete(group)
        return unsubscribe(group)
      default:
        return consumer === undefined ? Effect.void : consume(consumer)
    }
  }
  const check = Effect.fnUntraced(function*(when: string) {
    const outstanding = [...model.values()].map((numbers) => [...numbers])
    assert.strictEqual(yield* pending, outstanding.flat().length, when)
    const kept = (yield* stored()).map(Number)
    const needed = new Set(outstanding.flat())
    assert.includeMembers(kept, [...needed], when)
    assert.isAtMost(kept.length, Math.max(retention, needed.size), when)
    assert.deepStrictEqual(kept, [...kept].sort((a, b) => a - b), when)
  })

  for (let step = 1; step <= 120; step++) {
    yield* act()
    yield* check(`seed ${seed}, step ${step}`)
  }
  while (consumers.length > 0) yield* close(consumers[0]!)
  for (const group of model.keys()) yield* unsubscribe(group)
  assert.strictEqual(yield* pending, 0)
  yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
})

describe("whatever happens", () => {
  it.effect(
    "what is outstanding is what the groups have not acknowledged, and little else is kept",
    () =>
      Effect.gen(function*() {
        for (let seed = 1; seed <= 40; seed++) {
          yield* Effect.scoped(scenario(seed)).pipe(
            Effect.provide(MemoryBroker.layer({ retention }), { local: true })
          )
        }
      }),
    20_000
  )
})
