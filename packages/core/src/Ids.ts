/**
 * Where the ids of messages and the correlation ids of flows come from.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"

/**
 * Makes ids. `next` is called when an id is first read, at most once for each
 * message and each flow: it must not throw, and never give the same id twice.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Ids {
  readonly next: () => string
}

/**
 * The ids of a program: those of the messages that it publishes, and the
 * correlation ids of the flows that it starts. Read as the `Clock` is, from the
 * context in which a command is sent. Default: UUIDs of version 7 (RFC 9562).
 *
 * **Example** (Ids that a test knows beforehand)
 *
 * ```ts
 * import { Command, EventFlow, Ids, Mediator, NotificationEvent } from "@event-flow/core"
 * import { RecordingBroker } from "@event-flow/core/testing"
 * import { Effect, Layer } from "effect"
 * import { strictEqual } from "node:assert"
 *
 * class Sold extends NotificationEvent.Class<Sold>()("Sold", {}, { topic: "sales" }) {}
 * class Sell extends Command.Class<Sell>()("Sell", { emits: [Sold] }) {}
 * class Shop extends EventFlow.make("Shop", { commands: [Sell] }) {}
 *
 * const ShopLive = Shop.layer().pipe(
 *   Layer.provide(Sell.toLayer((_, { collect }) => collect(new Sold()))),
 *   Layer.provideMerge(RecordingBroker.layer)
 * )
 *
 * let made = 0
 * const Numbered = Layer.succeed(Ids.Ids)({ next: () => `id-${++made}` })
 *
 * const test = Effect.gen(function*() {
 *   yield* Mediator.send(new Sell())
 *   const [message] = yield* RecordingBroker.RecordingBroker.use((broker) => broker.published)
 *   strictEqual(message?.attributes["id"], "id-1")
 * })
 *
 * Effect.runPromise(test.pipe(Effect.provide(Layer.provideMerge(ShopLive, Numbered))))
 * ```
 *
 * @stability unstable
 * @category references
 * @since 0.1.0
 */
export const Ids: Context.Reference<Ids> = Context.Reference<Ids>("@event-flow/core/Ids", {
  defaultValue: () => uuids
})

// --- internal ---

let millis = -1
let begin = ""

/**
 * A UUID of version 7: the time, and the random bits of one of version 4, which
 * runtimes make from a pool. That takes 0.1 us, `SecureRandom.uuidV7Unsafe` 1.6.
 */
const uuidV7 = (): string => {
  const now = Date.now()
  if (now !== millis) {
    const time = now.toString(16).padStart(12, "0")
    begin = `${time.slice(0, 8)}-${time.slice(8)}-7`
    millis = now
  }
  return begin + crypto.randomUUID().slice(15)
}

const uuids: Ids = {
  // Browsers have `randomUUID` in secure contexts only
  next: typeof globalThis.crypto?.randomUUID === "function" ? uuidV7 : () => SecureRandom.uuidV7Unsafe()
}
