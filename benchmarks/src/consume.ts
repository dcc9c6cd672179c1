/**
 * `npm run bench:consume -w benchmarks`: what `EventConsumer` costs a message, from a subscriber in memory whose
 * messages are there already: no broker, no network.
 */
import { Broker, EventConsumer } from "@event-flow/core"
import { Effect, Layer } from "effect"
import { parseArgs } from "node:util"
import { Count, messages, Source } from "./memorySource.ts"

const { values } = parseArgs({
  options: {
    reps: { type: "string", default: "9" },
    count: { type: "string", default: "200000" },
    concurrency: { type: "string", default: "16" }
  }
})
const count = Number(values.count)

const source = new Source((i) => messages[i % messages.length]!)
let handled = 0
const live = EventConsumer.layer([Count], {
  group: "bench",
  concurrency: Number(values.concurrency),
  maxInFlight: 2_000
}).pipe(
  Layer.provide(Count.toLayer(() => Effect.sync(() => void handled++))),
  Layer.provide([Broker.layerNone, source.layer])
)

const program = Effect.gen(function*() {
  yield* Layer.build(live)
  const taken: Array<number> = []
  for (let rep = -2; rep < Number(values.reps); rep++) {
    const start = performance.now()
    yield* Effect.promise(() => source.run(count))
    if (rep >= 0) taken.push((performance.now() - start) * 1e6 / count)
  }
  taken.sort((a, b) => a - b)
  if (handled !== count * (Number(values.reps) + 2)) throw new Error(`handled ${handled}`)
  const round = Math.round
  process.stdout.write(
    `ns a message: median ${round(taken[taken.length >> 1]!)}, best ${round(taken[0]!)}, worst ${
      round(taken.at(-1)!)
    }\n`
  )
})

await Effect.runPromise(Effect.scoped(program))
process.exit(0)
