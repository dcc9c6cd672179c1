// @confluentinc/kafka-javascript, a binding of librdkafka. It is compiled for one version of Node, which may be
// another than that of the other subjects: plain JavaScript, and nothing imported from this repository.
import { createRequire } from "node:module"

const task = JSON.parse(process.argv[2])
const require = createRequire(
  process.env.CONFLUENT_DIRECTORY
    ? `${process.env.CONFLUENT_DIRECTORY}/package.json`
    : import.meta.url
)
const { KafkaJS } = require("@confluentinc/kafka-javascript")

const padding = "x".repeat(150)
const total = task.warmUp + task.count
let seen = 0
let start = 0
let rss = 0
let resolve
const done = new Promise((r) => {
  resolve = r
})
const tick = () => {
  seen++
  if (seen === task.warmUp) start = performance.now()
  if (seen % 20_000 === 0) rss = Math.max(rss, process.memoryUsage.rss())
  if (seen === total) {
    const seconds = (performance.now() - start) / 1_000
    resolve({ perSecond: Math.round(task.count / seconds), rss: Math.round(rss / 2 ** 20) })
  }
}
const kafka = new KafkaJS.Kafka({
  "bootstrap.servers": task.servers.join(),
  kafkaJS: { logLevel: KafkaJS.logLevel.NOTHING }
})

if (task.workload === "publish") {
  const producer = kafka.producer({
    "acks": -1,
    "enable.idempotence": true,
    "linger.ms": 5,
    "partitioner": "murmur2_random"
  })
  await producer.connect()
  let next = 0
  const worker = async () => {
    while (next < total) {
      const i = next++
      await producer.send({
        topic: task.topic,
        messages: [{
          key: `key-${i % 5_000}`,
          headers: {
            "ce_specversion": "1.0",
            "ce_id": `id-${i}`,
            "ce_type": "Measured.v1",
            "ce_source": "/bench",
            "content-type": "application/json"
          },
          value: Buffer.from(`{"i":${i},"padding":"${padding}"}`)
        }]
      })
      tick()
    }
  }
  await Promise.all(Array.from({ length: 1_000 }, worker))
} else {
  const consumer = kafka.consumer({
    "group.id": `bench-${task.topic}-${process.pid}`,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": true,
    "auto.commit.interval.ms": 1_000
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [task.topic] })
  await consumer.run({
    eachBatchAutoResolve: true,
    eachBatch: async ({ batch }) => {
      for (let i = 0; i < batch.messages.length; i++) tick()
    }
  })
}
const result = await done
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
