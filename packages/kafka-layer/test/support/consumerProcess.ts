/**
 * A consumer in a process of its own, to be killed: prints the number of each
 * message when its handler has ended, right before it is acknowledged.
 */
import { KafkaSubscriber } from "@event-flow/kafka-layer"
import { Effect } from "effect"
import { writeSync } from "node:fs"
import { consume, consuming, numberOf } from "./consumer.ts"

const [servers, topic, group] = process.argv.slice(2) as [string, string, string]

/** Not through a buffer, which would die with the process. A pipe that is full is tried again. */
const print = (line: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    try {
      writeSync(1, `${line}\n`)
      return Effect.void
    } catch (error) {
      const isFull = (error as NodeJS.ErrnoException).code === "EAGAIN"
      return isFull ? Effect.andThen(Effect.sleep(1), print(line)) : Effect.die(error)
    }
  })

const program = Effect.gen(function*() {
  const consumer = yield* consume(
    { topics: [topic], group, maxInFlight: 50 },
    (delivery) =>
      Effect.andThen(Effect.sleep(1), print(`${numberOf(delivery.message)} ${String(delivery.message.key)}`))
  )
  yield* print("ready")
  return yield* consumer.failed
})

Effect.runFork(
  program.pipe(
    Effect.scoped,
    Effect.provide(KafkaSubscriber.layer({ bootstrapServers: servers.split(","), ...consuming }))
  )
)
