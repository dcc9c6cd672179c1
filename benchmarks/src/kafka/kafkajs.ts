/** kafkajs, one message a `send`, as its users write it; `eachBatch` to consume, which is its fastest. */
import kafkajs from "kafkajs"
import type { Result, Task } from "./work.ts"
import { main, Meter, publishAll, work } from "./work.ts"

const connect = (task: Task) =>
  new kafkajs.Kafka({ clientId: "bench", brokers: [...task.servers], logLevel: kafkajs.logLevel.NOTHING })

const publish = async (task: Task): Promise<Result> => {
  const producer = connect(task).producer({
    // Its idempotent producer with more than one request on its way loses its order, says its documentation
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner
  })
  await producer.connect()
  return publishAll(task, (i) => {
    const { body, headers, key } = work(i)
    return producer.send({ topic: task.topic, acks: -1, messages: [{ key, value: body, headers: { ...headers } }] })
  })
}

const consume = async (task: Task): Promise<Result> => {
  const consumer = connect(task).consumer({
    groupId: `bench-${task.topic}-${process.pid}`,
    maxBytesPerPartition: 256 * 1024,
    maxWaitTimeInMs: 500
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [task.topic], fromBeginning: true })
  const meter = new Meter(task)
  await consumer.run({
    autoCommitInterval: 1_000,
    eachBatch: async ({ batch, commitOffsetsIfNecessary, heartbeat, resolveOffset }) => {
      for (const message of batch.messages) {
        meter.tick()
        resolveOffset(message.offset)
      }
      await commitOffsetsIfNecessary()
      await heartbeat()
    }
  })
  return meter.done
}

void main((task) => task.workload === "publish" ? publish(task) : consume(task))
