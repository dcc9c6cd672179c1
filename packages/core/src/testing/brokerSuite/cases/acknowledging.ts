/** Acknowledgement and redelivery. */
import * as Effect from "effect/Effect"
import type * as Subscriber from "../../../Subscriber.ts"
import { checkSame, type Definition, numbers, sorted, textOf } from "../kit.ts"

export const acknowledging: ReadonlyArray<Definition> = [
  {
    name: "a message that is not acknowledged is delivered again",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(10))
      const attempts = new Map<string, Array<number>>()
      while ([...attempts.values()].filter((list) => list.length >= 2).length < 10) {
        const delivery = yield* reader.next("redeliveries")
        const text = textOf(delivery.message)
        const list = attempts.get(text) ?? []
        attempts.set(text, [...list, delivery.attempt])
        yield* list.length === 0 ? delivery.nack : delivery.ack
      }
      checkSame(sorted(attempts.keys()), numbers(10), "what was redelivered")
      if (bench.features.countsAttempts === true) {
        checkSame([...attempts.values()], numbers(10).map(() => [1, 2]), "attempts")
      }
    })
  },
  {
    name: "only the first of ack and nack counts",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, ["1"])
      const first = yield* reader.next("the message")
      yield* first.ack
      yield* first.nack
      yield* first.ack
      yield* bench.publish(topic, ["2"])
      const second = yield* reader.next("the next message")
      checkSame(textOf(second.message), "2", "what comes after an acknowledged message")
      yield* second.nack
      yield* second.ack
      const again = yield* reader.next("the redelivery")
      checkSame(textOf(again.message), "2", "what comes after nack")
      yield* again.ack
    })
  },
  {
    name: "consuming goes on after errors, over many subscriptions",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const first = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(10))
      yield* first.until(numbers(10), (delivery) => delivery.nack)
      yield* first.close
      const second = yield* bench.subscribe({ topics: [topic] })
      yield* second.until(numbers(10), (delivery) => delivery.nack)
      yield* second.close
      const third = yield* bench.subscribe({ topics: [topic] })
      yield* third.until(numbers(10))
    })
  },
  {
    name: "acknowledging a later message does not acknowledge an earlier one",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const first = yield* bench.subscribe({ topics: [topic] })
      const key = bench.features.onePerKey === true ? undefined : () => "key"
      yield* bench.publish(topic, numbers(5), key)
      yield* first.until(numbers(5), (delivery) => textOf(delivery.message) === "2" ? Effect.void : delivery.ack)
      yield* first.close
      const second = yield* bench.subscribe({ topics: [topic] })
      yield* second.until(["2"])
    })
  },
  {
    name: "at most maxInFlight are unacknowledged",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const other = yield* bench.topic("other")
      const reader = yield* bench.subscribe({ topics: [topic], maxInFlight: 3 })
      yield* bench.publish(topic, numbers(10))
      const held: Array<Subscriber.Delivery> = []
      const seen = new Set<string>()
      while (seen.size < 10) {
        if (held.length < Math.min(3, 10 - seen.size + held.length)) {
          const delivery = yield* reader.next("a message while fewer than 3 are unacknowledged")
          held.push(delivery)
          seen.add(textOf(delivery.message))
          continue
        }
        // Once is enough: a look outside is slow
        if (seen.size === 3) yield* bench.fence(other)
        checkSame(yield* reader.waiting, 0, "deliveries beyond maxInFlight")
        yield* held.shift()!.ack
      }
      yield* Effect.forEach(held, (delivery) => delivery.ack)
    })
  }
]
