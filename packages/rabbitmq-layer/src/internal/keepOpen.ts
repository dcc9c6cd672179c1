/** Keeps a channel open for a line of messages. */
import * as Broker from "@event-flow/core/Broker"
import type { ConfirmChannel } from "amqplib"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { type AmqpFailure, ask } from "./amqpError.ts"
import { openChannel } from "./channel.ts"
import { backoff, type Connection, type Link } from "./connection.ts"
import type { Line } from "./line.ts"
import { refusal } from "./refusal.ts"
import type { PublisherSettings } from "./settings.ts"

/** Opens one channel after the other. `declare` declares what a channel needs to be there. */
export const keepOpen = Effect.fnUntraced(function*(
  settings: PublisherSettings,
  connection: Connection,
  line: Line,
  declare: (channel: ConfirmChannel) => Promise<unknown>
): Effect.fn.Return<never> {
  let failures = 0
  while (true) {
    const linked = yield* Effect.result(connection.link)
    if (Result.isFailure(linked)) {
      // Waiting on does not help, and the caller should know
      const { cause, detail } = linked.failure
      line.failAll(new Broker.NotAuthorised({ detail, cause }))
      continue
    }
    const ended = yield* Effect.result(useChannel(settings, linked.success, line, declare, () => failures = 0))
    if (Result.isSuccess(ended)) {
      if (ended.success !== undefined) yield* Effect.logWarning(`RabbitMQ closed a channel: ${ended.success.message}`)
    } else {
      line.problem = ended.failure.detail
      yield* Effect.logWarning(`Cannot open a channel of RabbitMQ: ${line.problem}`)
      // The server refuses the exchange: nobody needs to wait for another refusal
      if (ended.failure.code !== undefined) line.failAll(refusal(ended.failure))
      yield* backoff(settings, failures++)
    }
  }
})

// --- internal ---

/** One channel from its opening to its end; gives the error for which the server closed it. */
const useChannel = (
  settings: PublisherSettings,
  link: Link,
  line: Line,
  declare: (channel: ConfirmChannel) => Promise<unknown>,
  onOpen: () => void
): Effect.Effect<Error | undefined, AmqpFailure> =>
  Effect.gen(function*() {
    const channel = yield* openChannel(settings, () => link.model.createConfirmChannel())
    yield* ask(() => declare(channel))
    const ended = yield* Deferred.make<Error | undefined>()
    line.attach(channel, link, (error) => Deferred.doneUnsafe(ended, Effect.succeed(error)))
    onOpen()
    // The link can have been lost before the channel was attached
    return yield* Effect.raceFirst(Deferred.await(ended), Effect.as(Deferred.await(link.lost), undefined))
  }).pipe(Effect.ensuring(Effect.sync(() => line.detach(undefined))), Effect.scoped)
