// effect-kafka, made for Effect 3, which cannot be installed beside Effect 4: plain JavaScript. It publishes and consumes
// through another client, and each workload takes the one that is faster at it: @confluentinc/kafka-javascript to publish,
// where it is installed and loads, and kafkajs to consume. Its two other instances cannot do the work: that of
// @platformatic/kafka drops records that find its queue full, and `send` of ConfluentRdKafka awaits no acknowledgement and
// leaves the headers out.
import { createRequire } from "node:module"
import { inFlight, main, Meter, work } from "./work.ts"

const require = createRequire(`${process.env.EFFECT_KAFKA_DIRECTORY}/package.json`)
const { Effect, Logger, LogLevel } = require("effect")
const { Consumer, MessageRouter, Producer } = require("effect-kafka")
const { KafkaJS } = require("effect-kafka/KafkaJS")

let ConfluentKafkaJS
try {
  ConfluentKafkaJS = require("effect-kafka/ConfluentKafka").ConfluentKafkaJS
} catch {
  // Not installed, or compiled for another Node
}

const run = (task) => {
  const total = task.warmUp + task.count
  const brokers = [...task.servers]
  const meter = new Meter(task)

  let next = 0
  const publish = Effect.gen(function*() {
    const producer = yield* Producer.Producer
    const worker = Effect.gen(function*() {
      while (next < total) {
        const { body, headers, key } = work(next++)
        yield* producer.send({
          topic: task.topic,
          messages: [{ key, value: body, headers }]
        })
        meter.tick()
      }
    })
    yield* Effect.all(Array.from({ length: inFlight }, () => worker), { concurrency: "unbounded", discard: true })
  }).pipe(
    // As for the same clients without effect-kafka: kafkajs loses its order if it is idempotent with more than one
    // request on its way, and acknowledges by all unless told
    Effect.provide(Producer.layer(ConfluentKafkaJS === undefined ? {} : { acks: -1, idempotent: true })),
    Effect.provide(
      ConfluentKafkaJS === undefined
        ? KafkaJS.layer({ clientId: "bench", brokers })
        : ConfluentKafkaJS.layer({ clientId: "bench", brokers })
    )
  )

  // One message after another. A batch is done when its last message is in the queue, which holds one, and committed
  // then: what is committed may be two messages ahead of what was handled, also when a handler fails. Nothing prevents
  // that. Without `autoCommit` nothing is committed at all: a record's `commit` is kafkajs's `commitOffsetsIfNecessary`,
  // which needs an interval or a threshold, and no option reaches either
  const consume = MessageRouter.empty.pipe(
    MessageRouter.subscribe(task.topic, Effect.sync(() => meter.tick())),
    Consumer.serveEffect({
      groupId: `bench-${task.topic}-${process.pid}`,
      fromBeginning: true,
      autoCommit: true,
      maxBytesPerPartition: 256 * 1024,
      maxWaitTimeInMs: 500
    }),
    Effect.scoped,
    Effect.provide(KafkaJS.layer({ clientId: "bench", brokers }))
  )

  // The clients log at the level of debugging, which effect-kafka does not let one change; here nothing prints it
  const program = (task.workload === "publish" ? publish : consume).pipe(
    Effect.provide(Logger.minimumLogLevel(LogLevel.None))
  )
  return Promise.race([meter.done, Effect.runPromise(program).then(() => meter.done)])
}

if (process.argv[2] === "describe") {
  const versionOf = (name) => `${name}@${require(`${name}/package.json`).version}`
  const versions = ["effect-kafka", "effect", "kafkajs"]
  if (ConfluentKafkaJS !== undefined) versions.push("@confluentinc/kafka-javascript")
  const [self, ...rest] = versions.map(versionOf)
  process.stdout.write(
    JSON.stringify({ version: `${self} (${rest.join(", ")})`, publishes: ConfluentKafkaJS ? "confluent" : "kafkajs" })
  )
} else {
  await main(run)
}
