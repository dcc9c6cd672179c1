/** What the tests of the memory broker share: messages that are numbers, and a subscription that can be closed. */
import { Broker, MemoryBroker, Message, Subscriber } from "@event-flow/core"
import { Cause, Effect, Exit, Scope } from "effect"
import { adjust, bodyOf } from "../fixtures.ts"

export const message = (n: number, options: { readonly key?: string; readonly topic?: string } = {}): Message.Message =>
  Message.make({ topic: "topic", ...options, body: new TextEncoder().encode(String(n)) })

/** One publish of these numbers. */
export const publish = (
  numbers: ReadonlyArray<number>,
  options?: { readonly key?: string; readonly topic?: string }
): Effect.Effect<void, Broker.BrokerNotFound | Broker.PublishError, Broker.Broker> =>
  Broker.Broker.use(({ publish }) => {
    const [first, ...rest] = numbers.map((n) => message(n, options))
    return publish([first!, ...rest])
  })

export const subscribe = (options: Partial<Subscriber.SubscribeOptions> = {}) =>
  Effect.gen(function*() {
    const { subscribe } = yield* Subscriber.Subscriber
    const scope = yield* Scope.fork(yield* Effect.scope)
    const { take } = yield* Scope.provide(
      subscribe({ topics: ["topic"], group: "group", maxInFlight: 100, ...options }),
      scope
    )
    return { take, close: Scope.close(scope, Exit.void) }
  })

export const numbers = (deliveries: ReadonlyArray<Subscriber.Delivery>): ReadonlyArray<unknown> =>
  deliveries.map(({ message }) => bodyOf(message))

export const ackAll = (deliveries: ReadonlyArray<Subscriber.Delivery>): Effect.Effect<void> =>
  Effect.forEach(deliveries, ({ ack }) => ack, { discard: true })

/** Starts an effect and lets everything settle. */
export const started = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.tap(Effect.forkChild(effect, { startImmediately: true }), () => adjust(0))

export const reasonOf = (exit: Exit.Exit<unknown, unknown>): string => {
  const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  if (error instanceof Broker.PublishError) return error.reason._tag
  return error instanceof Subscriber.SubscribeError ? error.reason._tag : String(exit)
}

export const stored = (topic = "topic") =>
  Effect.map(MemoryBroker.MemoryBroker.use(({ messages }) => messages(topic)), (list) => list.map(bodyOf))

export const pending = MemoryBroker.MemoryBroker.use(({ pending }) => pending)
