/** Without a broker: what is sent when, against a model of a partition's log and of its sequence numbers. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, Message } from "@event-flow/core"
import { Effect, Exit } from "effect"
import type { KafkaConfig } from "../../src/index.ts"
import type { Failure, Kind } from "../../src/internal/errors.ts"
import { Accumulator } from "../../src/internal/publish/accumulator.ts"
import type { Request } from "../../src/internal/publish/accumulator.ts"
import type { Publish } from "../../src/internal/publish/buffer.ts"
import type { Batch, ProducerIdentity } from "../../src/internal/publish/partitionQueue.ts"
import { publisherSettings } from "../../src/internal/settings.ts"

const failure = (kind: Kind): Failure => ({ kind, detail: kind, cause: undefined })

const setup = (options: Partial<KafkaConfig.Publisher> = {}) => {
  const settings = Effect.runSync(publisherSettings({ bootstrapServers: ["h:1"], ...options }))
  const clock = { now: 1_000 }
  const stale = { count: 0 }
  const accumulator = new Accumulator(settings, {
    now: () => clock.now,
    wake: () => undefined,
    onStale: () => {
      stale.count++
    }
  })
  const results: Array<readonly [string, string]> = []
  const publish = (name: string, ...keys: ReadonlyArray<string | undefined>): Publish | undefined =>
    accumulator.buffer.offer(
      keys.map((key, i) =>
        Message.make({ topic: "t", key, attributes: { id: `${name}${i}` }, body: new Uint8Array(0) })
      ),
      (result) => {
        const exit = Effect.runSyncExit(result)
        const error = Exit.isSuccess(exit) ? undefined : Effect.runSync(Effect.flip(result))
        results.push([name, error instanceof Broker.PublishError ? error.reason._tag : "ok"])
      }
    )
  const load = (...leaders: ReadonlyArray<number>) => {
    for (const topic of accumulator.topicsToLoad()) accumulator.loaded(topic, leaders)
  }
  const identify = (id: bigint) => accumulator.identity = { id, epoch: 0 }
  return { accumulator, clock, identify, load, publish, results, settings, stale }
}

const idsOf = ({ pendings }: Batch): ReadonlyArray<string> => pendings.map(({ message }) => message.attributes["id"]!)
const collected = (requests: ReadonlyArray<Request>) => requests.map(({ batches }) => batches.map(idsOf))

describe("what may be sent", () => {
  it("waits for metadata and for an identity", () => {
    const { accumulator, identify, load, publish } = setup()
    publish("a", "k")
    assert.deepStrictEqual(accumulator.collect(), [])
    load(1)
    assert.deepStrictEqual(accumulator.collect(), [])
    identify(1n)
    assert.deepStrictEqual(collected(accumulator.collect()), [[["a0"]]])
  })

  it("is one batch of a partition at a time; what failed goes again before what is behind it", () => {
    const { accumulator, clock, identify, load, publish, results } = setup()
    identify(1n)
    publish("a", "k")
    load(1)
    const [first] = accumulator.collect()
    publish("b", "k")
    assert.deepStrictEqual(accumulator.collect(), [])
    accumulator.failed(first!.batches[0]!, failure("stale"), false)
    accumulator.requestEnded(first!)
    assert.deepStrictEqual(accumulator.collect(), [], "metadata come first")
    load(2)
    assert.deepStrictEqual(accumulator.collect(), [], "and the delay")
    assert.strictEqual(accumulator.nextWake(), 100)
    clock.now += 100
    const [again] = accumulator.collect()
    assert.strictEqual(again!.node, 2)
    assert.deepStrictEqual(idsOf(again!.batches[0]!), ["a0"])
    accumulator.succeeded(again!.batches[0]!)
    assert.deepStrictEqual(results, [["a", "ok"]])
    assert.deepStrictEqual(collected(accumulator.collect()), [[["b0"]]])
  })

  it("of a partition whose leader fails waits for metadata; other partitions go on", () => {
    for (const kind of ["stale", "unreachable", "timeout", "unknownTopic"] as const) {
      const { accumulator, clock, identify, load, publish, stale } = setup()
      identify(1n)
      // Their partitions are 0 and 1
      for (const key of ["key-0", "key-1"]) publish(key, key)
      load(1, 2)
      const [first, other] = accumulator.collect()
      assert.deepStrictEqual([first!.node, other!.node].toSorted(), [1, 2])
      accumulator.failed(first!.batches[0]!, failure(kind), kind === "timeout")
      accumulator.requestEnded(first!)
      accumulator.succeeded(other!.batches[0]!)
      accumulator.requestEnded(other!)
      assert.strictEqual(stale.count, 1, kind)
      clock.now += 5_000
      const key = idsOf(other!.batches[0]!)[0]!.slice(0, 5)
      publish(key, key)
      assert.deepStrictEqual(accumulator.collect().map(({ node }) => node), [other!.node], kind)
      assert.isUndefined(accumulator.nextWake() === 0 ? 0 : undefined, "nothing to do before metadata come")
      load(3, 3)
      assert.deepStrictEqual(accumulator.collect().map(({ node }) => node), [3], kind)
    }
  })

  it("leaves out what was given up while its batch, which never left, waited to go again", () => {
    const { accumulator, clock, identify, load, publish } = setup()
    identify(1n)
    const given = publish("given up", "k")
    publish("b", "k")
    load(1)
    const [request] = accumulator.collect()
    accumulator.failed(request!.batches[0]!, failure("unreachable"), false)
    accumulator.buffer.cancel(given!)
    load(1)
    clock.now += 100
    assert.deepStrictEqual(collected(accumulator.collect()), [[["b0"]]])
  })

  it("waits for company with linger, or until it is full", () => {
    const { accumulator, clock, identify, load, publish } = setup({ linger: "10 millis", maxBatchMessages: 2 })
    identify(1n)
    publish("a", "k")
    load(1)
    assert.deepStrictEqual(accumulator.collect(), [])
    assert.strictEqual(accumulator.nextWake(), 10)
    publish("b", "k")
    assert.deepStrictEqual(collected(accumulator.collect()), [[["a0", "b0"]]])
    clock.now += 10
    assert.deepStrictEqual(accumulator.collect(), [])
  })

  it("messages without a key fill one partition after another", () => {
    const { accumulator, identify, load, publish } = setup({ maxBatchMessages: 2, maxInFlight: 9 })
    identify(1n)
    for (const name of ["a", "b"]) publish(name, undefined)
    load(1, 2)
    const first = accumulator.collect()
    for (const name of ["c", "d"]) publish(name, undefined)
    const second = accumulator.collect()
    assert.deepStrictEqual([...collected(first), ...collected(second)], [[["a0", "b0"]], [["c0", "d0"]]])
    assert.notStrictEqual(first[0]!.batches[0]!.partition, second[0]!.batches[0]!.partition)
  })

  it("a batch that is too large is halved until the culprit is alone", () => {
    const { accumulator, identify, load, publish, results } = setup()
    identify(1n)
    for (const name of ["a", "large", "c"]) publish(name, "k")
    load(1)
    for (let i = 0; i < 10; i++) {
      for (const request of accumulator.collect()) {
        const [batch] = request.batches
        if (idsOf(batch!).includes("large0")) accumulator.failed(batch!, failure("tooLarge"), false)
        else accumulator.succeeded(batch!)
        accumulator.requestEnded(request)
      }
    }
    assert.deepStrictEqual(results.toSorted(), [["a", "ok"], ["c", "ok"], ["large", "MessageTooLarge"]])
  })
})

describe("the buffer", () => {
  it("lets no more in than there is room, in order, and is idle when all is over", () => {
    const { accumulator, identify, load, publish, results } = setup({ maxBufferedMessages: 2 })
    identify(1n)
    publish("a", "k", "k")
    publish("b", "k")
    publish("c", "k")
    load(1)
    const [request] = accumulator.collect()
    assert.deepStrictEqual(idsOf(request!.batches[0]!), ["a0", "a1"])
    assert.isFalse(accumulator.buffer.isIdle)
    accumulator.succeeded(request!.batches[0]!)
    const [next] = accumulator.collect()
    assert.deepStrictEqual(idsOf(next!.batches[0]!), ["b0", "c0"])
    accumulator.succeeded(next!.batches[0]!)
    assert.isTrue(accumulator.buffer.isIdle)
    assert.deepStrictEqual(results, [["a", "ok"], ["b", "ok"], ["c", "ok"]])
  })

  it("sends nothing of a call that was interrupted before it left", () => {
    const { accumulator, identify, load, publish } = setup()
    identify(1n)
    accumulator.buffer.cancel(publish("a", "k")!)
    publish("b", "k")
    load(1)
    assert.deepStrictEqual(collected(accumulator.collect()), [[["b0"]]])
  })

  it("ends each call by its deadline, and says whether the message may have arrived", () => {
    const { accumulator, clock, identify, load, publish, results } = setup({
      maxBufferedMessages: 2,
      maxBatchMessages: 1
    })
    identify(1n)
    publish("sent", "k")
    publish("unsent", "k")
    publish("outside", "k")
    load(1)
    const [request] = accumulator.collect()
    accumulator.failed(request!.batches[0]!, failure("timeout"), true)
    accumulator.failure = failure("unreachable")
    clock.now += 30_000
    accumulator.expire()
    assert.deepStrictEqual(results, [["sent", "Timeout"], ["unsent", "Unreachable"], ["outside", "Timeout"]])
    accumulator.expire()
    assert.isTrue(accumulator.buffer.isIdle)
    assert.deepStrictEqual([...accumulator.topicsToLoad()], [], "nothing waits for metadata")
  })

  it("says which messages the brokers leave without an answer", () => {
    const { accumulator, clock, identify, load, publish } = setup()
    const later = (millis: number) => {
      clock.now += millis
      return accumulator.trouble()
    }
    publish("a", "k")
    assert.isUndefined(later(10_000))
    assert.strictEqual(later(1), "no broker answers for t")
    for (const topic of accumulator.topicsToLoad()) accumulator.loadFailed(topic, failure("unreachable"))
    assert.strictEqual(later(0), "no broker answers for t: unreachable")
    clock.now += 100
    load(1)
    identify(1n)
    assert.strictEqual(later(0), "no broker answers for t/0")
    const [request] = accumulator.collect()
    accumulator.failed(request!.batches[0]!, failure("busy"), false)
    assert.strictEqual(later(1_000), "no broker answers for t/0: busy")
    accumulator.succeeded(accumulator.collect()[0]!.batches[0]!)
    assert.isUndefined(accumulator.trouble())
  })

  it("says Unreachable of a call only when none of its messages may have arrived", () => {
    const expire = (answer: (accumulator: Accumulator, batches: ReadonlyArray<Batch>) => void) => {
      const { accumulator, clock, identify, load, publish, results } = setup()
      identify(1n)
      // In partitions 0 and 1
      publish("both", "key-0", "key-1")
      load(1, 2)
      const batches = accumulator.collect().flatMap(({ batches }) => batches)
      assert.strictEqual(batches.length, 2)
      answer(accumulator, batches)
      clock.now += 30_000
      accumulator.expire()
      return results.map(([, result]) => result)
    }
    const refused = failure("busy")
    assert.deepStrictEqual(
      expire((accumulator, [a, b]) => {
        accumulator.failed(a!, refused, false)
        accumulator.failed(b!, refused, false)
      }),
      ["Unreachable"]
    )
    assert.deepStrictEqual(
      expire((accumulator, [a, b]) => {
        accumulator.failed(a!, refused, false)
        accumulator.failed(b!, refused, true)
      }),
      ["Timeout"],
      "one may have arrived"
    )
    assert.deepStrictEqual(
      expire((accumulator, [a, b]) => {
        accumulator.succeeded(b!)
        accumulator.failed(a!, refused, false)
      }),
      ["Timeout"],
      "one has arrived"
    )
    assert.deepStrictEqual(
      expire((accumulator, [a]) => accumulator.failed(a!, refused, false)),
      ["Timeout"],
      "in flight"
    )
  })

  it("does not send again what has expired in a batch that the broker has refused", () => {
    const { accumulator, clock, identify, load, publish, results } = setup()
    identify(1n)
    publish("old", "k")
    load(1)
    clock.now += 20_000
    publish("new", "k")
    const [request] = accumulator.collect()
    accumulator.failed(request!.batches[0]!, failure("busy"), false)
    accumulator.requestEnded(request!)
    clock.now += 10_000
    accumulator.expire()
    assert.deepStrictEqual(results, [["old", "Unreachable"]])
    assert.deepStrictEqual(collected(accumulator.collect()), [[["new0"]]])
  })

  it("refuses calls when it is closed, and fails what is left when it is aborted", () => {
    const { accumulator, publish, results } = setup()
    publish("a", "k")
    accumulator.buffer.close()
    assert.isUndefined(publish("b", "k"))
    accumulator.buffer.abort()
    assert.deepStrictEqual(results, [["b", "Closed"], ["a", "Closed"]])
  })
})

/** A partition as a broker keeps it. */
class Log {
  readonly ids: Array<string> = []
  #identity: ProducerIdentity | undefined
  #next = 0
  /** Whether it knows no sequence numbers any more. */
  hasForgotten = false

  /** Undefined where it is taken. */
  append(batch: Batch): Kind | undefined {
    if (idsOf(batch).some((id) => id.startsWith("large"))) return "tooLarge"
    const isKnown = this.#identity?.id === batch.identity!.id
    if (isKnown && batch.sequence + batch.pendings.length === this.#next) return "duplicate"
    if (batch.sequence !== (isKnown ? this.#next : 0)) {
      assert.isTrue(this.hasForgotten, "a sequence number that cannot be")
      return "producerState"
    }
    this.hasForgotten = false
    this.#identity = batch.identity
    this.#next = batch.sequence + batch.pendings.length
    this.ids.push(...idsOf(batch))
    return undefined
  }

  forget(): void {
    this.#identity = undefined
    this.hasForgotten = true
  }
}

const random = (seed: number) => {
  let state = seed * 2_654_435_761 + 1
  return (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

describe("whatever fails", () => {
  it("each call ends once, what succeeded is in the log once, and keys keep their order", () => {
    for (let seed = 1; seed <= 400; seed++) {
      const next = random(seed)
      const { accumulator, clock, identify, load, publish, results } = setup({
        maxBatchMessages: 1 + next(4),
        maxInFlight: 1 + next(2),
        maxBufferedMessages: 2 + next(10),
        linger: next(2) * 5,
        publishTimeout: 200 + next(1_000)
      })
      const logs = new Map<string, Log>()
      const logOf = ({ partition }: Batch) => {
        const name = String(partition.index)
        if (!logs.has(name)) logs.set(name, new Log())
        return logs.get(name)!
      }
      const inFlight: Array<Request> = []
      const counts = new Map<string, number>()
      let published = 0
      let identities = 0n

      const answer = (batch: Batch, isCalm: boolean) => {
        const fate = isCalm ? 9 : next(10)
        if (fate === 0) return accumulator.failed(batch, failure("unreachable"), false)
        if (fate === 1) return accumulator.refused(batch, failure(next(2) === 0 ? "stale" : "busy"))
        if (fate === 2) return accumulator.failed(batch, failure("timeout"), true)
        // One that forgets sequence numbers drops no repetition
        if (fate === 4 && !batch.isUncertain) logOf(batch).forget()
        const kind = logOf(batch).append(batch)
        // It arrived, and the answer is lost
        if (fate === 3) return accumulator.failed(batch, failure("unreachable"), true)
        // It arrived, and the broker lost its partition before the replicas had it
        if (fate === 5) return accumulator.refused(batch, failure(kind ?? (next(2) === 0 ? "stale" : "unknownTopic")))
        return kind === undefined ? accumulator.succeeded(batch) : accumulator.failed(batch, failure(kind), false)
      }
      const step = (isCalm: boolean) => {
        clock.now += next(60)
        accumulator.expire()
        if (isCalm || next(3) > 0) load(0, 1, 0)
        if (accumulator.identity === undefined && (isCalm || next(2) === 0)) identify(++identities)
        inFlight.push(...accumulator.collect())
        for (const partition of new Set(inFlight.flatMap(({ batches }) => batches.map(({ partition }) => partition)))) {
          const count = inFlight.flatMap(({ batches }) =>
            batches
          ).filter((batch) => batch.partition === partition).length
          assert.strictEqual(count, 1, `seed ${seed}: batches of a partition in flight`)
        }
        while (inFlight.length > 0 && (isCalm || next(2) === 0)) {
          const request = inFlight.splice(next(inFlight.length), 1)[0]!
          for (const batch of request.batches) answer(batch, isCalm)
          accumulator.requestEnded(request)
        }
      }
      for (let i = 0; i < 60; i++) {
        if (next(2) === 0) {
          const keys = Array.from({ length: 1 + next(3) }, () => `key ${next(3)}`)
          const name = `${next(12) === 0 ? "large " : ""}${published++}/`
          counts.set(name, keys.length)
          const call = publish(name, ...keys)
          if (next(8) === 0) accumulator.buffer.cancel(call!)
        }
        step(false)
      }
      for (let i = 0; i < 1_000 && !accumulator.buffer.isIdle; i++) step(true)

      assert.isTrue(accumulator.buffer.isIdle, `seed ${seed}: something is left`)
      const names = results.map(([name]) => name)
      assert.strictEqual(new Set(names).size, names.length, `seed ${seed}: a call ended twice`)
      const inLogs = [...logs.values()].flatMap(({ ids }) => ids)
      assert.strictEqual(new Set(inLogs).size, inLogs.length, `seed ${seed}: twice in a log`)
      for (const [name, result] of results) {
        if (result === "Timeout") continue
        const found = inLogs.filter((id) => id.startsWith(name)).length
        if (result === "ok") assert.strictEqual(found, counts.get(name), `seed ${seed}: ${name} is not whole`)
        // Of several messages, others may have arrived
        else if (counts.get(name) === 1) assert.strictEqual(found, 0, `seed ${seed}: ${name} ended with ${result}`)
      }
      for (const { ids } of logs.values()) {
        const numbers = ids.map((id) => Number(id.split("/")[0]))
        assert.deepStrictEqual(numbers, numbers.toSorted((a, b) => a - b), `seed ${seed}: order`)
      }
    }
  })
})
