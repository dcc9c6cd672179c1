/** Order and lanes. */
import * as Effect from "effect/Effect"
import type * as Subscriber from "../../../Subscriber.ts"
import { check, checkOrderPerKey, checkSame, type Definition, keyOf, numbers, Reader, textOf } from "../kit.ts"

export const ordering: ReadonlyArray<Definition> = [
  {
    name: "messages of a key keep their order, whatever the number of consumers",
    needs: ["orderPerKey"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* Reader.make(bench)
      yield* Effect.forEach(numbers(3), () => bench.subscribe({ topics: [topic], into: reader, maxInFlight: 10 }))
      // By one publish each, and several in one
      for (const text of numbers(20)) yield* bench.publish(topic, [text], keyOf)
      yield* bench.publish(topic, numbers(80, 21), keyOf)
      const seen = yield* reader.until(numbers(100))
      bench.checkComplete(seen, numbers(100), "what arrived")
      checkOrderPerKey(seen, "deliveries")
    })
  },
  {
    name: "deliveries of a key share a lane, in which they are in order",
    needs: ["orderPerKey"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(50), keyOf)
      const lanes = new Map<string, Set<string | undefined>>()
      const seen = yield* reader.until(numbers(50), ({ ack, lane, message }) => {
        const key = keyOf(textOf(message))
        lanes.set(key, (lanes.get(key) ?? new Set()).add(lane))
        return ack
      })
      checkOrderPerKey(seen, "deliveries")
      for (const [key, of] of lanes) {
        check(of.size === 1 && !of.has(undefined), () => `${key} must have one lane, not ${[...of].join(", ")}`)
      }
    })
  },
  {
    name: "no delivery of a key past an unacknowledged one",
    needs: ["orderPerKey", "onePerKey"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const other = yield* bench.topic("other")
      const reader = yield* Reader.make(bench)
      yield* Effect.forEach(numbers(2), () => bench.subscribe({ topics: [topic], into: reader }))
      yield* bench.publish(topic, numbers(5), () => "key")
      for (const text of numbers(5)) {
        const first = yield* reader.next("the next of the key")
        checkSame(textOf(first.message), text, "the next of the key")
        if (text === "1") yield* bench.fence(other)
        checkSame(yield* reader.waiting, 0, "deliveries behind an unacknowledged one")
        yield* first.nack
        const again = yield* reader.next("the redelivery")
        checkSame(textOf(again.message), text, "what comes after nack: the same again, before those behind it")
        checkSame(yield* reader.waiting, 0, "deliveries behind an unacknowledged one")
        yield* again.ack
      }
    })
  },
  {
    name: "an unacknowledged key does not hold up others",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(20), keyOf)
      const held: Array<Subscriber.Delivery> = []
      const others = numbers(20).filter((text) => keyOf(text) !== keyOf("1"))
      yield* reader.until(["1", ...others], (delivery) => {
        if (keyOf(textOf(delivery.message)) !== keyOf("1")) return delivery.ack
        held.push(delivery)
        return Effect.void
      })
      yield* Effect.forEach(held, (delivery) => delivery.ack)
    })
  }
]
