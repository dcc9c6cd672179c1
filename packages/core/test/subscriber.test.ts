/** Why a subscription failed, as it shows in the error channel. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, Subscriber } from "@event-flow/core"
import { Effect, Schema } from "effect"

const failed = (reason: Subscriber.SubscribeReason) =>
  Effect.fail(Subscriber.subscribeError({ topics: ["orders"], group: "board" }, reason))

describe("a subscription's failure", () => {
  it.effect("is taken apart by its reason", () =>
    Effect.gen(function*() {
      const missing = failed(new Broker.UnknownTopic({ detail: "no such topic" })).pipe(
        Effect.catchReason("SubscribeError", "UnknownTopic", ({ detail }) => Effect.succeed(detail))
      )
      assert.strictEqual(yield* missing, "no such topic")
    }))

  it.effect("says whether subscribing again may help", () =>
    Effect.gen(function*() {
      const away = yield* Effect.flip(failed(new Broker.Unreachable({ detail: "connection refused" })))
      const refused = yield* Effect.flip(failed(new Broker.NotAuthorised({ detail: "wrong password" })))
      assert.deepStrictEqual([away.isRetryable, refused.isRetryable], [true, false])
      assert.strictEqual(
        refused.message,
        "Subscription of group \"board\" to \"orders\" failed: NotAuthorised: wrong password"
      )
    }))

  it.effect("keeps its reason when it travels", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(failed(new Broker.Closed({ detail: "closing" })))
      const json = Schema.toCodecJson(Subscriber.SubscribeError)
      const back = yield* Schema.decodeEffect(json)(yield* Schema.encodeEffect(json)(error))
      assert.instanceOf(back.reason, Broker.Closed)
    }))
})
