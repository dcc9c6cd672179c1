/** The bookkeeping of a partition: what may be committed, and what is delivered again in which order. */
import { assert, describe, it } from "@effect/vitest"
import type { Subscriber } from "@event-flow/core"
import { Effect } from "effect"
import { AssignedPartition } from "../../src/internal/consume/assignedPartition.ts"
import type { Slot } from "../../src/internal/consume/assignedPartition.ts"
import { recordOf, startAt } from "../support/record.ts"

const setup = (limits = { maxBuffered: 100, maxUncommitted: 100, patience: 10_000 }) => {
  const blocked: Array<string | Slot> = []
  const partition = new AssignedPartition("t", 0, startAt(10), limits, {
    onReturned: () => undefined,
    onBlocked: (_partition, lane) => blocked.push(lane)
  })
  const append = (offset: number, key: string | null) => {
    partition.append(offset, recordOf({ key: key ?? undefined }))
    partition.position = offset + 1
  }
  const take = (max = 100): Array<Subscriber.Delivery> => {
    const deliveries: Array<Subscriber.Delivery> = []
    partition.take(max, deliveries)
    return deliveries
  }
  const offsets = (deliveries: ReadonlyArray<Subscriber.Delivery>) =>
    deliveries.map(({ origin }) => Number(origin["offset"]))
  const ack = (delivery: Subscriber.Delivery) => Effect.runSync(delivery.ack)
  const nack = (delivery: Subscriber.Delivery) => Effect.runSync(delivery.nack)
  const releaseAll = () => {
    for (const lane of blocked.splice(0)) partition.release(lane)
  }
  return { partition, append, take, offsets, ack, nack, releaseAll }
}

describe("what may be committed", () => {
  it("is the contiguous done prefix, over gaps", () => {
    const { ack, append, partition, take } = setup()
    assert.strictEqual(partition.donePosition, 10)
    for (const offset of [12, 13, 20]) append(offset, "a")
    // 10 and 11 were never there
    assert.strictEqual(partition.donePosition, 12)
    const [first, second, third] = take()
    ack(third!)
    ack(second!)
    assert.strictEqual(partition.donePosition, 12)
    ack(first!)
    assert.strictEqual(partition.donePosition, 21)
    // Control records at the end
    partition.position = 25
    assert.strictEqual(partition.donePosition, 25)
  })

  it("stops at what was given back", () => {
    const { ack, append, nack, partition, releaseAll, take } = setup()
    for (const offset of [10, 11]) append(offset, null)
    const [first, second] = take()
    nack(first!)
    ack(second!)
    assert.strictEqual(partition.donePosition, 10)
    releaseAll()
    const [again] = take()
    assert.strictEqual(again!.attempt, 2)
    ack(again!)
    assert.strictEqual(partition.donePosition, 12)
  })

  it("only the first of ack and nack counts", () => {
    const { ack, append, nack, partition, take } = setup()
    append(10, "a")
    const [delivery] = take()
    ack(delivery!)
    nack(delivery!)
    ack(delivery!)
    assert.strictEqual(partition.outstanding, 0)
    assert.strictEqual(partition.donePosition, 11)
    assert.deepStrictEqual(take(), [])
  })
})

describe("what is given back", () => {
  it("comes again before what is behind it in its lane, others go on", () => {
    const { ack, append, nack, offsets, releaseAll, take } = setup()
    for (const offset of [10, 12, 14, 16]) append(offset, "a")
    for (const offset of [17, 19]) append(offset, "b")
    const deliveries = take(3)
    nack(deliveries[0]!)
    assert.isTrue(deliveries[1]!.isRevoked())
    assert.isTrue(deliveries[2]!.isRevoked())
    ack(deliveries[1]!)
    // Only the other lane, until the redelivery delay is over
    const others = take()
    assert.deepStrictEqual(offsets(others), [17, 19])
    assert.deepStrictEqual(take(), [])
    releaseAll()
    const again = take()
    assert.deepStrictEqual(offsets(again), [10, 12, 14, 16])
    assert.deepStrictEqual(again.map(({ attempt }) => attempt), [2, 1, 1, 1])
  })

  it("keeps its place when it is given back again before the rest was taken", () => {
    const { append, nack, offsets, releaseAll, take } = setup()
    for (const offset of [10, 11, 12]) append(offset, "a")
    nack(take()[0]!)
    releaseAll()
    const [first] = take(1)
    nack(first!)
    assert.deepStrictEqual(take(), [])
    releaseAll()
    assert.deepStrictEqual(offsets(take()), [10, 11, 12])
  })
})

describe("what was revoked", () => {
  it("is delivered no more; what runs still counts until the partition is forgotten", () => {
    const { ack, append, partition, take } = setup()
    for (const offset of [10, 11, 12, 13]) append(offset, `k${offset}`)
    const [first, second, third] = take(3)
    ack(second!)
    partition.revoke()
    // Below a done one: finishing it saves the next owner a duplicate
    assert.isFalse(first!.isRevoked())
    assert.isTrue(third!.isRevoked())
    assert.deepStrictEqual(take(), [])
    assert.strictEqual(partition.donePosition, 10)
    ack(first!)
    assert.strictEqual(partition.donePosition, 12)
    ack(third!)
    assert.strictEqual(partition.donePosition, 13)
    partition.forget()
    assert.isTrue(first!.isRevoked())
  })

  it("does not count after the partition is forgotten", () => {
    const { ack, append, partition, take } = setup()
    append(10, "a")
    const [delivery] = take()
    partition.forget()
    ack(delivery!)
    assert.isTrue(delivery!.isRevoked())
    assert.strictEqual(partition.outstanding, 0)
  })
})

it("bounds what is fetched, and how far acknowledgements may run ahead", () => {
  const { ack, append, partition, take } = setup({ maxBuffered: 3, maxUncommitted: 4, patience: 10_000 })
  for (let offset = 10; offset < 20; offset++) append(offset, `k${offset}`)
  assert.isFalse(partition.hasRoom)
  const deliveries = take()
  assert.strictEqual(deliveries.length, 4)
  for (const delivery of deliveries.slice(1)) ack(delivery)
  // The first one holds the window
  assert.deepStrictEqual(take(), [])
  ack(deliveries[0]!)
  assert.strictEqual(take().length, 4)
})

describe("going on at another offset", () => {
  it("further on, keeps what was fetched", () => {
    const { append, offsets, partition, take } = setup()
    append(10, "a")
    partition.moveTo(50)
    append(50, "a")
    assert.deepStrictEqual(offsets(take()), [10, 50])
    assert.strictEqual(partition.donePosition, 10)
  })

  it("further back, reads the log anew: what runs may end, and nothing of it is committed or delivered again", () => {
    const { ack, append, nack, offsets, partition, releaseAll, take } = setup()
    for (const offset of [10, 11, 12, 13]) append(offset, "a")
    append(14, "b")
    const [first, second, third] = take(3)
    nack(third!)
    partition.moveTo(2)
    assert.strictEqual(partition.donePosition, 2)
    append(2, "a")
    // Neither what was fetched nor what waited for its redelivery
    releaseAll()
    const again = take()
    assert.deepStrictEqual(offsets(again), [2])
    nack(again[0]!)
    // It does not get into the way of its lane
    nack(first!)
    ack(second!)
    releaseAll()
    const last = take()
    assert.deepStrictEqual(offsets(last), [2])
    assert.strictEqual(partition.donePosition, 2)
    ack(last[0]!)
    assert.deepStrictEqual([partition.donePosition, partition.outstanding], [3, 0])
  })
})
