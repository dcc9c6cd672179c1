/**
 * @platformatic/kafka by hand, as well as it can be for the same guarantees:
 * an idempotent producer behind a stage that sends what is waiting, a stream with
 * bounded buffers and commits of what was handled.
 */
import { compatibilityPartitioner, Consumer, MessagesStreamModes, Producer } from "@platformatic/kafka"
import type { MessageToProduce } from "@platformatic/kafka"
import type { Result, Task } from "./work.ts"
import { main, Meter, publishAll, work } from "./work.ts"

interface Waiting {
  readonly message: MessageToProduce
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

const publish = async (task: Task): Promise<Result> => {
  const producer = new Producer({
    clientId: "bench",
    bootstrapBrokers: [...task.servers],
    idempotent: true,
    partitioner: compatibilityPartitioner
  })
  let waiting: Array<Waiting> = []
  let sends = 0
  let isScheduled = false
  const flush = () => {
    isScheduled = false
    while (waiting.length > 0 && sends < 4) {
      const batch = waiting.splice(0, 500)
      sends++
      producer.send({ messages: batch.map(({ message }) => message) }).then(
        () => {
          for (const { resolve } of batch) resolve()
        },
        (error: unknown) => {
          for (const { reject } of batch) reject(error)
        }
      ).finally(() => {
        sends--
        schedule()
      })
    }
  }
  const schedule = () => {
    if (isScheduled) return
    isScheduled = true
    setImmediate(flush)
  }
  const names = new Map<string, Buffer>()
  const name = (text: string): Buffer => {
    let buffer = names.get(text)
    if (buffer === undefined) names.set(text, buffer = Buffer.from(text))
    return buffer
  }
  return publishAll(task, (i) =>
    new Promise<void>((resolve, reject) => {
      const { body, headers, key } = work(i)
      const encoded = new Map<Buffer, Buffer>()
      for (const header in headers) encoded.set(name(header), Buffer.from(headers[header]!))
      waiting.push({
        message: { topic: task.topic, key: Buffer.from(key), value: body, headers: encoded },
        resolve,
        reject
      })
      schedule()
    }))
}

const consume = async (task: Task): Promise<Result> => {
  const consumer = new Consumer({
    clientId: "bench",
    bootstrapBrokers: [...task.servers],
    groupId: `bench-${task.topic}-${process.pid}`
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
  const done = new Map<number, { readonly offset: bigint; readonly leaderEpoch: number }>()
  const commit = setInterval(() => {
    const offsets = Array.from(done, ([partition, { leaderEpoch, offset }]) => ({
      topic: task.topic,
      partition,
      offset: offset + 1n,
      leaderEpoch
    }))
    done.clear()
    if (offsets.length > 0) void consumer.commit({ offsets })
  }, 1_000)
  stream.on("data", (message) => {
    meter.tick()
    done.set(message.partition, message)
  })
  const result = await meter.done
  clearInterval(commit)
  return result
}

void main((task) => task.workload === "publish" ? publish(task) : consume(task))
