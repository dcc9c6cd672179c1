/**
 * A consumer in a process of its own, to be killed: prints number and key of each
 * message when its handler has ended, before it acknowledges the message.
 */
import { KafkaSubscriber } from "@event-flow/kafka-layer"
import { watched } from "@event-flow/test-support/background"
import { print } from "@event-flow/test-support/program"
import { Effect } from "effect"
import { consumeUntilFailure, consuming, numberOf } from "./consumer.ts"

const [servers, topic, group] = process.argv.slice(2) as [string, string, string]

const program = consumeUntilFailure(
  { topics: [topic], group, maxInFlight: 50 },
  (delivery) => Effect.andThen(Effect.sleep(1), print(`${numberOf(delivery.message)} ${String(delivery.message.key)}`))
)

await Effect.runPromise(
  watched(program).pipe(
    Effect.scoped,
    Effect.provide(KafkaSubscriber.layer({ bootstrapServers: servers.split(","), ...consuming }))
  )
)
