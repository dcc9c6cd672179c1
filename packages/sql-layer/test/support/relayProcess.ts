/**
 * A relay in a process of its own, to be killed. It says on its output how far
 * it is, and then waits for its end:
 *
 * - `before`: places orders, and comes to its broker with them
 * - `after`: has published a batch, of which the database does not know
 * - `within`: has published half a batch
 */
import { PgClient } from "@effect/sql-pg"
import { Broker, Mediator } from "@event-flow/core"
import { OutboxRelay } from "@event-flow/sql-layer"
import { print } from "@event-flow/test-support/program"
import { Effect, Layer, Redacted, References } from "effect"
import { append, flow, orderOf, Place } from "./shop.ts"

const [url, log, hangs] = process.argv.slice(2) as [string, string, "before" | "after" | "within"]

const broker = Layer.succeed(Broker.Broker)({
  name: "test",
  publish: (messages) =>
    Effect.suspend(() => {
      const orders = messages.map(orderOf)
      if (hangs === "within" && orders.length < 2) {
        append(log, orders)
        return Effect.void
      }
      if (hangs !== "before") append(log, hangs === "within" ? orders.slice(0, orders.length / 2) : orders)
      return Effect.andThen(print("hangs"), Effect.never)
    })
})

const program = Effect.gen(function*() {
  if (hangs === "before") {
    yield* Effect.forEach(
      Array.from({ length: 200 }, (_, n) => `key-${n % 10}`),
      (key) => Mediator.send(new Place({ key })),
      { concurrency: 4, discard: true }
    )
    yield* print("committed")
  }
  return yield* Effect.never
})

await Effect.runPromise(
  program.pipe(
    Effect.provide([flow(), Layer.provide(OutboxRelay.layer({ publishTimeout: "1 hour" }), broker)]),
    Effect.provide(
      Layer.merge(PgClient.layer({ url: Redacted.make(url) }), Layer.succeed(References.MinimumLogLevel, "None"))
    )
  )
)
