// @confluentinc/kafka-javascript, a binding of librdkafka. It is compiled for one version of Node, which may be
// another than that of the other subjects: plain JavaScript, and nothing imported from this repository.
import { createRequire } from "node:module"

const task = JSON.parse(process.argv[2])
const require = createRequire(
  process.env.CONFLUENT_DIRECTORY
    ? `${process.env.CONFLUENT_DIRECTORY}/package.json`
    : import.meta.url
)
const { KafkaConsumer, Producer } = require("@confluentinc/kafka-javascript")

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
// Its callback API: the promises of its other one cost more
const connected = (client) =>
  new Promise((resolve, reject) => {
    client.connect({}, (error, metadata) => error ? reject(error) : resolve(metadata))
  })

if (task.workload === "publish") {
  const producer = new Producer({
    "bootstrap.servers": task.servers.join(),
    "dr_cb": true,
    "acks": -1,
    "enable.idempotence": true,
    "linger.ms": 5,
    "partitioner": "murmur2_random"
  })
  await connected(producer)
  producer.setPollInBackground(true)
  producer.on("delivery-report", (error, { opaque }) => error ? opaque.reject(error) : opaque.resolve())
  let next = 0
  const worker = async () => {
    while (next < total) {
      const i = next++
      await new Promise((resolve, reject) => {
        producer.produce(
          task.topic,
          null,
          Buffer.from(`{"i":${i},"padding":"${padding}"}`),
          `key-${i % 5_000}`,
          0,
          { resolve, reject },
          [
            { "ce_specversion": "1.0" },
            { "ce_id": `id-${i}` },
            { "ce_type": "Measured.v1" },
            { "ce_source": "/bench" },
            { "content-type": "application/json" }
          ]
        )
      })
      tick()
    }
  }
  await Promise.all(Array.from({ length: 1_000 }, worker))
} else {
  // Batches that are bounded: what a large one took to fetch would not be in the measured time. `eachBatch` of its
  // other API fetches so far ahead that it measures faster, and takes longer for the whole topic
  const consumer = new KafkaConsumer(
    {
      "bootstrap.servers": task.servers.join(),
      "group.id": `bench-${task.topic}-${process.pid}`,
      "enable.auto.commit": false
    },
    { "auto.offset.reset": "earliest" }
  )
  await connected(consumer)
  consumer.subscribe([task.topic])
  consumer.setDefaultConsumeTimeout(100)
  consumer.setDefaultIsTimeoutOnlyForFirstMessage(true)
  const handled = new Map()
  setInterval(() => {
    const offsets = Array.from(handled, ([partition, offset]) => ({ topic: task.topic, partition, offset: offset + 1 }))
    handled.clear()
    if (offsets.length > 0) consumer.commit(offsets)
  }, 1_000)
  const poll = () =>
    consumer.consume(1_000, (error, messages) => {
      if (error) throw error
      for (const message of messages) {
        tick()
        handled.set(message.partition, message.offset)
      }
      if (seen < total) setImmediate(poll)
    })
  poll()
}
const result = await done
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
