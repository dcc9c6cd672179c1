/**
 * @platformatic/kafka by hand, with what a consumer of events does besides receiving: the body is parsed and checked by
 * a Schema of the same fields, the messages of a key are handled in order and those of others at once, as many as with our
 * consumer, and what is committed is what is handled, with everything before it. What our consumer takes more than this
 * is what the library costs.
 */
import type { Message } from "@platformatic/kafka"
import { Consumer, jsonDeserializer, MessagesStreamModes, stringDeserializer } from "@platformatic/kafka"
import { Schema } from "effect"
import type { Result, Task } from "./work.ts"
import { concurrency, main, maxInFlight, Meter } from "./work.ts"

type Received = Message<string, unknown, Buffer, Buffer>

const typeHeader = Buffer.from("ce_type")
const measured = Buffer.from("Measured.v1")

const isMeasured = Schema.is(Schema.Struct({ i: Schema.Number, padding: Schema.String }))

const consume = async (task: Task): Promise<Result> => {
  const consumer = new Consumer({
    clientId: "bench",
    bootstrapBrokers: [...task.servers],
    groupId: `bench-${task.topic}-${process.pid}`,
    // Headers stay bytes: of the five of them one is of interest
    deserializers: { key: stringDeserializer, value: jsonDeserializer<unknown> }
  })
  const stream = await consumer.consume({
    topics: [task.topic],
    autocommit: false,
    mode: MessagesStreamModes.COMMITTED,
    fallbackMode: "earliest",
    maxBytesPerPartition: 256 * 1024,
    maxWaitTime: 500
  })
  const meter = new Meter(task)

  // An application's handler is asynchronous, whatever this one does
  const handle = async (_event: { readonly i: number; readonly padding: string }): Promise<void> => {
    meter.tick()
  }

  interface Work {
    readonly message: Received
    isDone: boolean
  }
  /** Messages of a partition in the order of offsets, from the first that is not handled. */
  const windows = new Map<number, { readonly works: Array<Work>; head: number; done: Received | undefined }>()
  /** What waits behind the message of the same key that is handled. */
  const lanes = new Map<string, Array<Work>>()
  const ready: Array<Work> = []
  let nextReady = 0
  let running = 0
  let inFlight = 0

  const run = async (work: Work): Promise<void> => {
    const { message } = work
    const { headerEntries, value } = message
    const type = headerEntries.find(([name]) => name.equals(typeHeader))?.[1]
    if (type?.equals(measured) !== true || !isMeasured(value)) throw new Error("not an event")
    await handle(value)
    work.isDone = true
    inFlight--
    const window = windows.get(message.partition)!
    while (window.works[window.head]?.isDone === true) window.done = window.works[window.head++]!.message
    if (window.head > 1_024 && window.head * 2 > window.works.length) {
      window.works.splice(0, window.head)
      window.head = 0
    }
    const lane = `${message.partition}/${message.key}`
    const next = lanes.get(lane)!.shift()
    if (next === undefined) lanes.delete(lane)
    else ready.push(next)
  }
  const worker = async (): Promise<void> => {
    running++
    while (nextReady < ready.length) {
      const work = ready[nextReady++]!
      if (nextReady > 1_024 && nextReady * 2 > ready.length) {
        ready.splice(0, nextReady)
        nextReady = 0
      }
      await run(work)
      if (inFlight < maxInFlight / 2 && stream.isPaused()) stream.resume()
    }
    running--
  }

  stream.on("data", (message) => {
    const work: Work = { message, isDone: false }
    let window = windows.get(message.partition)
    if (window === undefined) windows.set(message.partition, window = { works: [], head: 0, done: undefined })
    window.works.push(work)
    if (++inFlight >= maxInFlight) stream.pause()
    const lane = `${message.partition}/${message.key}`
    const waiting = lanes.get(lane)
    if (waiting !== undefined) return void waiting.push(work)
    lanes.set(lane, [])
    ready.push(work)
    if (running < concurrency) void worker()
  })
  const commit = setInterval(() => {
    const offsets = []
    for (const [partition, window] of windows) {
      if (window.done === undefined) continue
      const { leaderEpoch, offset } = window.done
      offsets.push({ topic: task.topic, partition, offset: offset + 1n, leaderEpoch })
      window.done = undefined
    }
    if (offsets.length > 0) void consumer.commit({ offsets })
  }, 1_000)
  const result = await meter.done
  clearInterval(commit)
  return result
}

void main(consume)
