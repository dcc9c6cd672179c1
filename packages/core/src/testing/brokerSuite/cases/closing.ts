/** The end of subscriptions and layers. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { check, checkSame, type Definition, keyOf, numbers, Reader, sorted, textOf } from "../kit.ts"

export const closing: ReadonlyArray<Definition> = [
  {
    name: "what a closed subscription has not acknowledged comes again",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const first = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(20))
      const acknowledged: Array<string> = []
      yield* first.until(numbers(20), (delivery) => {
        const text = textOf(delivery.message)
        if (Number(text) > 10) return Effect.void
        acknowledged.push(text)
        return delivery.ack
      })
      yield* first.close
      const second = yield* bench.subscribe({ topics: [topic] })
      const seen = yield* second.until(numbers(10, 11))
      if (bench.features.duplicatesOnRebalance !== true) {
        checkSame(sorted(seen), numbers(10, 11), "what came again")
      }
    })
  },
  {
    name: "an acknowledgement after the subscription has closed does nothing",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const first = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, ["1"])
      const delivery = yield* first.next("the message")
      yield* first.close
      check(delivery.isRevoked(), () => "a delivery of a closed subscription must be revoked")
      yield* delivery.ack
      const second = yield* bench.subscribe({ topics: [topic] })
      yield* second.until(["1"])
    })
  },
  {
    name: "subscriptions close side by side, and others take over",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* Reader.make(bench)
      const open = yield* Effect.forEach(
        numbers(4),
        () => bench.subscribe({ topics: [topic], into: reader, maxInFlight: 3 })
      )
      yield* bench.publish(topic, numbers(40), keyOf)
      // Some are acknowledged, some in hand, some still in the broker
      const done = new Set<string>()
      for (const delivery of [yield* reader.next("a message"), yield* reader.next("a message")]) {
        yield* delivery.ack
        done.add(textOf(delivery.message))
      }
      yield* Effect.forEach(open, ({ close }) => Effect.all([close, close], { concurrency: 2 }), {
        concurrency: "unbounded"
      })
      const last = yield* bench.subscribe({ topics: [topic] })
      yield* last.until(numbers(40).filter((text) => !done.has(text)))
    })
  },
  {
    name: "the layer closes while subscriptions are open and messages on their way",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(bench.layer, scope)
      yield* Effect.gen(function*() {
        const subscriptions = yield* Effect.forEach(
          numbers(3),
          () => bench.subscribe({ topics: [topic], maxInFlight: 2 })
        )
        const publishing = yield* Effect.forkChild(
          Effect.forEach(numbers(20), (text) => bench.publish(topic, [text]), { concurrency: 5 }),
          { startImmediately: true }
        )
        yield* Effect.all([
          Scope.close(scope, Exit.void).pipe(bench.soon(() => "the end of the layer")),
          ...subscriptions.map(({ close }) => close)
        ], { concurrency: "unbounded" })
        const published = yield* Fiber.await(publishing).pipe(bench.soon(() => "the end of the publishes"))
        check(
          Exit.isSuccess(published) || Option.isSome(Cause.findErrorOption(published.cause)),
          () => `a publish to a closed layer must succeed or fail with a PublishError: ${String(published)}`
        )
        const late = yield* Effect.exit(bench.publish(topic, ["late"]))
        check(
          Exit.isFailure(late) && Option.isSome(Cause.findErrorOption(late.cause)),
          () => `a publish after the layer's end must fail with a PublishError: ${String(late)}`
        )
      }).pipe(Effect.provide(context))
    })
  }
]
