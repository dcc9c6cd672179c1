/** Consumer groups. */
import * as Effect from "effect/Effect"
import { SubscribeError } from "../../../Subscriber.ts"
import { check, checkSame, type Definition, firsts, numbers, sorted, textOf } from "../kit.ts"

export const groups: ReadonlyArray<Definition> = [
  {
    name: "two groups each get everything",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const first = yield* bench.subscribe({ topics: [topic], group: bench.group("first") })
      const second = yield* bench.subscribe({ topics: [topic], group: bench.group("second") })
      yield* bench.publish(topic, numbers(20))
      bench.checkComplete(yield* first.until(numbers(20)), numbers(20), "the first group")
      bench.checkComplete(yield* second.until(numbers(20)), numbers(20), "the second group")
    })
  },
  {
    name: "a new group gets the messages from before it, in order",
    needs: ["persistentTopics", "oldMessagesForNewGroups"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      yield* bench.publish(topic, numbers(10), () => "key")
      const first = yield* bench.subscribe({ topics: [topic], group: bench.group("first") })
      checkSame(firsts(yield* first.until(numbers(10))), numbers(10), "the first group")
      yield* bench.publish(topic, numbers(10, 11), () => "key")
      const second = yield* bench.subscribe({ topics: [topic], group: bench.group("second") })
      checkSame(firsts(yield* second.until(numbers(20))), numbers(20), "the second group")
    })
  },
  {
    name: "an ephemeral group gets what is published while it is there, and nothing is kept for it",
    needs: ["ephemeralGroups"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const client = { topics: [topic], group: bench.group("client"), ephemeral: true } as const
      // So that there is always somebody to publish to
      const durable = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(5))
      const first = yield* bench.subscribe(client)
      yield* bench.publish(topic, numbers(5, 6))
      const isDone = (text: string) => Number(text) > 8
      const seen = yield* first.until(
        numbers(5, 6),
        (delivery) => isDone(textOf(delivery.message)) ? delivery.ack : Effect.void
      )
      checkSame(sorted(seen), numbers(5, 6), "what came to the first subscription")
      yield* first.close
      yield* bench.publish(topic, numbers(5, 11))
      const second = yield* bench.subscribe(client)
      yield* bench.publish(topic, ["16"])
      checkSame(yield* second.until(["16"]), ["16"], "what came to a later subscription of that name")
      bench.checkComplete(yield* durable.until(numbers(16)), numbers(16), "what came to the durable group")
    })
  },
  {
    name: "an ephemeral group lasts as long as one of its subscriptions, which gets what the others leave",
    needs: ["ephemeralGroups"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const first = yield* bench.subscribe({ topics: [topic], ephemeral: true })
      yield* bench.publish(topic, numbers(10))
      yield* first.until(numbers(10), () => Effect.void)
      const second = yield* bench.subscribe({ topics: [topic], ephemeral: true })
      yield* first.close
      bench.checkComplete(yield* second.until(numbers(10)), numbers(10), "what came to the second subscription")
    })
  },
  {
    name: "an ephemeral group is refused where the broker has none",
    lacks: ["ephemeralGroups"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const error = yield* Effect.flip(bench.subscribe({ topics: [topic], ephemeral: true }))
      check(error instanceof SubscribeError, () => `subscribe must fail with a SubscribeError, not ${String(error)}`)
    })
  }
]
