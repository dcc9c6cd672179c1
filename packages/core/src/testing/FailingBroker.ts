/**
 * A broker that fails where a test says so, around another broker.
 *
 * **Example** (The second publish finds the broker gone)
 *
 * ```ts
 * import { Broker } from "@event-flow/core"
 * import { FailingBroker, RecordingBroker } from "@event-flow/core/testing"
 * import { Layer } from "effect"
 *
 * const layer = FailingBroker.layer(
 *   FailingBroker.nth(2, new Broker.Unreachable({ detail: "connection refused" }))
 * ).pipe(Layer.provideMerge(RecordingBroker.layer))
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Broker from "../Broker.ts"
import { describeType } from "../internal/describe.ts"
import type { Message } from "../Message.ts"

/**
 * How a publish fails: with the `PublishError` of a reason, or in one of the
 * other ways that this module has constants and functions for.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Failure =
  | Broker.PublishReason
  | { readonly _tag: "BrokerNotFound" }
  | { readonly _tag: "Defect"; readonly defect: unknown }
  | { readonly _tag: "Hang" }
  | { readonly _tag: "AfterPublishing"; readonly failure: Exclude<Failure, { readonly _tag: "AfterPublishing" }> }

/**
 * Decides for each publish whether it fails; `call` is 1 for the first.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Plan = (call: number, messages: Arr.NonEmptyReadonlyArray<Message>) => Failure | undefined

/**
 * A publish that a failing broker was asked for.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly messages: Arr.NonEmptyReadonlyArray<Message>
  /** Undefined: it went to the other broker. */
  readonly failure: Failure | undefined
}

/**
 * What a failing broker was asked for.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class FailingBroker extends Context.Service<FailingBroker, {
  /** Every publish, in order. */
  readonly calls: Effect.Effect<ReadonlyArray<Call>>
}>()("@event-flow/core/testing/FailingBroker") {}

/**
 * The nth publish fails (1 is the first), the others succeed.
 *
 * @stability unstable
 * @category plans
 * @since 0.1.0
 */
export const nth = (n: number, failure: Failure): Plan => (call) => call === n ? failure : undefined

/**
 * The first n publishes fail, the others succeed.
 *
 * @stability unstable
 * @category plans
 * @since 0.1.0
 */
export const first = (n: number, failure: Failure): Plan => (call) => call <= n ? failure : undefined

/**
 * Every publish fails.
 *
 * @stability unstable
 * @category plans
 * @since 0.1.0
 */
export const always = (failure: Failure): Plan => () => failure

/**
 * The publish fails with `BrokerNotFound`, as with `Broker.layerNone`.
 *
 * @stability unstable
 * @category failures
 * @since 0.1.0
 */
export const brokerNotFound: { readonly _tag: "BrokerNotFound" } = { _tag: "BrokerNotFound" }

/**
 * The publish dies with this defect.
 *
 * @stability unstable
 * @category failures
 * @since 0.1.0
 */
export const die = (defect: unknown): { readonly _tag: "Defect"; readonly defect: unknown } => ({
  _tag: "Defect",
  defect
})

/**
 * The publish never ends by itself: it waits until it is interrupted.
 *
 * @stability unstable
 * @category failures
 * @since 0.1.0
 */
export const hang: { readonly _tag: "Hang" } = { _tag: "Hang" }

/**
 * The messages are published, and then the publish fails: the sender cannot know
 * that they arrived.
 *
 * @stability unstable
 * @category failures
 * @since 0.1.0
 */
export const afterPublishing = (failure: Exclude<Failure, { readonly _tag: "AfterPublishing" }>): Failure => ({
  _tag: "AfterPublishing",
  failure
})

/**
 * Fails by the plan, and passes on to the broker below it whatever the plan
 * leaves alone.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (plan: Plan): Layer.Layer<Broker.Broker | FailingBroker, never, Broker.Broker> =>
  Layer.effectContext(
    Effect.map(Broker.Broker, (inner) => {
      const calls: Array<Call> = []
      const broker = Broker.Broker.of({
        name: inner.name,
        publish: (messages) =>
          Effect.suspend(() => {
            const failure = plan(calls.length + 1, messages)
            calls.push({ messages, failure })
            if (failure === undefined) return inner.publish(messages)
            return failure._tag === "AfterPublishing"
              ? Effect.andThen(inner.publish(messages), fail(failure.failure, messages[0]))
              : fail(failure, messages[0])
          })
      })
      return Context.make(FailingBroker, FailingBroker.of({ calls: Effect.sync(() => [...calls]) })).pipe(
        Context.add(Broker.Broker, broker)
      )
    })
  )

// --- internal ---

const fail = (
  failure: Parameters<typeof afterPublishing>[0],
  message: Message
): Effect.Effect<never, Broker.BrokerNotFound | Broker.PublishError> => {
  switch (failure._tag) {
    case "BrokerNotFound":
      return Effect.fail(
        new Broker.BrokerNotFound({ topic: message.topic, event: describeType(message) })
      )
    case "Defect":
      return Effect.die(failure.defect)
    case "Hang":
      return Effect.never
    default:
      return Effect.fail(Broker.publishError(message, failure))
  }
}
