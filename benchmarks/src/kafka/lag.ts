/**
 * `npm run lag -w benchmarks -- --minutes 5`: publishes faster than it consumes,
 * so that the lag grows, and prints memory and counts: is memory flat whatever
 * the lag, and does everything arrive?
 */
import { Broker, Message, Subscriber } from "@event-flow/core"
import { KafkaBroker, KafkaHealth, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { Duration, Effect, Fiber, Layer } from "effect"
import { parseArgs } from "node:util"
import { work } from "./work.ts"

const { values } = parseArgs({ options: { minutes: { type: "string", default: "3" } } })
const servers = process.env["KAFKA_BOOTSTRAP_SERVERS"]?.split(",")
if (servers === undefined) {
  process.stderr.write("set KAFKA_BOOTSTRAP_SERVERS, for example to what `npm run kafka` prints\n")
  process.exit(2)
}

const topic = `lag-${process.pid}`
const connection = { bootstrapServers: servers }
let published = 0
let handled = 0
const seen = new Uint8Array(200_000_000)

const publish = Effect.gen(function*() {
  const broker = yield* Broker.Broker
  const one = Effect.suspend(() => {
    const { body, key } = work(published)
    return broker.publish([Message.make({ topic, key, body: Buffer.concat([Buffer.from(`${published++} `), body]) })])
  })
  return yield* Effect.forever(one).pipe((worker) => Effect.raceAll(Array.from({ length: 100 }, () => worker)))
})

const consume = Effect.gen(function*() {
  const subscriber = yield* Subscriber.Subscriber
  const subscription = yield* subscriber.subscribe({ topics: [topic], group: topic, maxInFlight: 1_000 })
  return yield* Effect.forever(
    Effect.flatMap(subscription.take, (deliveries) =>
      Effect.forEach(deliveries, (delivery) => {
        seen[Number.parseInt(Buffer.from(delivery.message.body!.subarray(0, 12)).toString(), 10)] = 1
        handled++
        return delivery.ack
      }, { discard: true }))
  )
})

const report = Effect.gen(function*() {
  const [health] = yield* KafkaHealth.KafkaHealth.use((health) => health.subscriptions)
  const lag = health?.partitions.reduce((sum, partition) => sum + (partition.lag ?? 0), 0) ?? 0
  const { arrayBuffers, heapUsed, rss } = process.memoryUsage()
  const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
  process.stdout.write(
    `published ${published}, handled ${handled}, lag ${lag}, rss ${mib(rss)}, heap ${mib(heapUsed)}, buffers ${
      mib(arrayBuffers)
    }\n`
  )
})

const program = Effect.gen(function*() {
  yield* KafkaTopics.KafkaTopics.use((topics) => topics.ensure([{ topic, partitions: 8 }]))
  const time = Duration.minutes(Number(values.minutes))
  const reporting = yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep("5 seconds"), report)))
  // A third of the time without anybody who consumes: the lag that memory must not follow
  const publishing = yield* Effect.forkScoped(publish)
  yield* Effect.sleep(Duration.times(time, 1 / 3))
  yield* Effect.forkScoped(consume)
  yield* Effect.sleep(Duration.times(time, 1 / 3))
  yield* Fiber.interrupt(publishing)
  while (handled < published && !seenAll()) yield* Effect.sleep("200 millis")
  yield* Fiber.interrupt(reporting)
  yield* report
  let lost = 0
  for (let i = 0; i < published; i++) if (seen[i] === 0) lost++
  // Publishes that were interrupted at the end may not have been sent
  process.stdout.write(`not seen: ${lost}, of which at most 100 were interrupted\n`)
}).pipe(Effect.scoped)

const seenAll = (): boolean => handled >= published - 100

Effect.runFork(program.pipe(Effect.provide(Layer.mergeAll(
  KafkaBroker.layer(connection),
  KafkaSubscriber.layer(connection),
  KafkaTopics.layer(connection)
))))
