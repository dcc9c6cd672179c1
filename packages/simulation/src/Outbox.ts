/**
 * A transactional outbox on the simulated store, and its relay, behind the same
 * port as those of `@event-flow/sql-layer`.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import type { Message } from "@event-flow/core/Message"
import * as Arr from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Store from "./Store.ts"

/**
 * The messages that wait for the relay, in the order in which they were put there.
 *
 * @stability unstable
 * @category constants
 * @since 0.1.0
 */
export const messages: Store.Table<Message> = Store.table<Message>("outbox")

/**
 * The `Broker` of a flow whose commands are transactions: publishing writes a row of
 * the same transaction.
 *
 * **Details**
 *
 * Outside of a transaction it fails with `TransactionRequired`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Broker.Broker, never, Store.Store> = Layer.effect(
  Broker.Broker,
  Effect.map(Store.Store, (store) =>
    Broker.Broker.of({
      name: "outbox",
      publish: (batch) =>
        Effect.flatMap(store.isInTransaction, (isIn): Effect.Effect<void, Broker.PublishError> =>
          isIn
            ? Effect.forEach(batch, add, { discard: true }).pipe(
              Effect.provideService(Store.Store, store),
              Effect.mapError((error) =>
                Broker.publishError(batch[0], new Broker.Unreachable({ detail: error.message, cause: error }))
              )
            )
            : Effect.fail(Broker.publishError(
              batch[0],
              new Broker.TransactionRequired({ detail: "the outbox writes into the transaction of a command" })
            )))
    }))
)

/**
 * Options of the relay.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface RelayOptions {
  /** How many messages of the outbox it publishes before it looks again. Default: 5. */
  readonly batchSize?: number | undefined
  /** How long it waits when the outbox is empty. Default: 500 milliseconds. */
  readonly pollInterval?: Duration.Input | undefined
  /** How long it waits after a failure. Default: 300 milliseconds. */
  readonly retryAfter?: Duration.Input | undefined
}

/**
 * Publishes what is in the outbox, in order, and removes it when the broker has it.
 * When the process dies between the two, it publishes again.
 *
 * **Gotchas**
 *
 * One relay at a time keeps the order of a key: run it in a node of one instance.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const relay = (options: RelayOptions = {}): Layer.Layer<never, never, Store.Store | Broker.Broker> =>
  Layer.effectDiscard(
    Effect.gen(function*() {
      const broker = yield* Broker.Broker
      const round = Effect.gen(function*() {
        const rows = Arr.take(yield* messages.all, options.batchSize ?? 5)
        if (rows.length === 0) return yield* Effect.sleep(options.pollInterval ?? "500 millis")
        for (const [key, message] of rows) {
          yield* broker.publish([message])
          yield* messages.remove(key)
        }
      })
      yield* round.pipe(
        Effect.catch(() => Effect.sleep(options.retryAfter ?? "300 millis")),
        Effect.forever,
        Effect.forkScoped
      )
    })
  )

// --- internal ---

const add = (message: Message) =>
  Effect.flatMap(Store.next("outbox"), (n) => messages.put(String(n).padStart(8, "0"), message))
