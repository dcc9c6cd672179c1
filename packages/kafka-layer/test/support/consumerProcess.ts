/**
 * A consumer in a process of its own, to be killed: prints the number of each
 * message when its handler has ended, right before it is acknowledged.
 */
import { KafkaSubscriber } from "@event-flow/kafka-layer"
import { Effect } from "effect"
import { writeSync } from "node:fs"
import { consume, consuming, numberOf } from "./consumer.ts"

const [servers, topic, group] = process.argv.slice(2) as [string, string, string]

const program = Effect.gen(function*() {
  const consumer = yield* consume({ topics: [topic], group, maxInFlight: 50 }, (delivery) =>
    Effect.andThen(
      Effect.sleep(1),
      Effect.sync(() => {
        writeSync(1, `${numberOf(delivery.message)} ${String(delivery.message.key)}\n`)
      })
    ))
  writeSync(1, "ready\n")
  return yield* consumer.failed
})

Effect.runFork(
  program.pipe(
    Effect.scoped,
    Effect.provide(KafkaSubscriber.layer({ bootstrapServers: servers.split(","), ...consuming }))
  )
)
