/** Channels that are closed with their scope. */
import type { Channel } from "amqplib"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type AmqpFailure, ask } from "./amqpError.ts"
import type { ConnectionSettings } from "./settings.ts"

export const openChannel = <C extends Channel>(
  settings: ConnectionSettings,
  create: () => Promise<C>
): Effect.Effect<C, AmqpFailure, Scope.Scope> =>
  Effect.acquireRelease(
    ask(async () => {
      const channel = await create()
      // An error comes with the answer to what failed too; unheard it would end the process
      channel.on("error", () => {})
      return channel
    }),
    // Fails on a channel that is closed, which is as good. It ends with the connection at the latest
    (channel) =>
      ask(() => channel.close()).pipe(
        Effect.interruptible,
        Effect.timeoutOption(settings.drainTimeout),
        Effect.ignore
      )
  )
