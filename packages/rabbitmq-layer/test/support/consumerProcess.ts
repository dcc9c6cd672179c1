/**
 * A consumer in a process of its own, to be killed: prints the text of each
 * message that it has handled, one a line, before it acknowledges it.
 */
import * as Subscriber from "@event-flow/core/Subscriber"
import { RabbitSubscriber } from "@event-flow/rabbitmq-layer"
import { silently } from "@event-flow/test-support/effects"
import { print } from "@event-flow/test-support/program"
import { Effect, Layer } from "effect"
import { textOf } from "./messages.ts"

const [url, topic] = process.argv.slice(2) as [string, string]

const consume = Effect.gen(function*() {
  const subscriber = yield* Subscriber.Subscriber
  const subscription = yield* subscriber.subscribe({ topics: [topic], group: "group", maxInFlight: 50 })
  while (true) {
    for (const { ack, message } of yield* subscription.take) {
      yield* Effect.sleep("2 millis")
      yield* print(textOf(message))
      yield* ack
    }
  }
})

await Effect.runPromise(
  consume.pipe(
    Effect.scoped,
    Effect.provide(RabbitSubscriber.layer({ url }).pipe(Layer.provide(silently)))
  )
)
