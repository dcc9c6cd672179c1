/** Restarts of the broker. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Broker from "../../../Broker.ts"
import { type Definition, keyOf, numbers } from "../kit.ts"

export const restart: ReadonlyArray<Definition> = [
  {
    name: "publisher and subscription survive two restarts of the broker",
    needs: ["restart"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      const restart = bench.features.restart!
      const publish = (texts: ReadonlyArray<string>) =>
        Effect.forEach(texts, (text) =>
          bench.publish(topic, [text], keyOf).pipe(
            Effect.retry({
              schedule: Schedule.spaced("200 millis"),
              while: (error) => error instanceof Broker.PublishError && error.isRetryable
            }),
            bench.soon(() => `the broker to take message ${text}`)
          ))
      yield* publish(numbers(10))
      yield* reader.until(numbers(10))
      yield* restart
      yield* publish(numbers(10, 11))
      yield* reader.until(numbers(10, 11))
      // And while messages are published
      const publishing = yield* Effect.forkChild(publish(numbers(30, 21)), { startImmediately: true })
      yield* restart
      yield* Fiber.join(publishing)
      yield* reader.until(numbers(30, 21))
    })
  }
]
