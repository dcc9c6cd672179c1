/** A tracked run on the memory broker: it ends, and its flow is whole. */
import { Command, EventConsumer, EventFlow, EventHandler, Inbox, Mediator, NotificationEvent } from "@event-flow/core"
import { Tracker } from "@event-flow/core/testing"
import { Effect, Exit, Layer, Schema } from "effect"
import { Chance, runProgram } from "./kit.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { at: Schema.String }) {}
class Told extends NotificationEvent.Class<Told>()("Told", { id: Schema.String, hop: Schema.Int }, {
  topic: "told",
  key: (event) => event.id[0]
}) {}
class Do extends Command.Class<Do>()("Do", { payload: { id: Schema.String, n: Schema.Int }, emits: [Told] }) {}
const Hear = EventHandler.make("Hear", { on: Told, emits: [Told], error: Bad })
class Flow extends EventFlow.make("Flow", { commands: [Do], handlers: [Hear] }) {}

export const run = (seed: number): string | undefined => {
  const chance = new Chance(seed, "tracker")
  const sleepRate = chance.pick(0, 0, 0.5)
  const failRate = chance.pick(0, 0.2)
  const hops = chance.pick(0, 1, 3)
  const n = chance.pick(1, 3)
  const concurrency = chance.pick(1, 3)
  const dedupe = chance.pick(true, false)
  return runProgram(seed, chance, ({ fail }) => {
    let heard = 0
    const attempts = new Map<string, number>()
    const DoLive = Do.toLayer(({ id, n }, { collectAll }) =>
      collectAll(Array.from({ length: n }, (_, i) => new Told({ id: `${i}${id}`, hop: 0 })))
    )
    const HearLive = Hear.toLayer(Effect.fnUntraced(function*({ hop, id }, { collect }) {
      const key = `${id}/${hop}`
      const attempt = (attempts.get(key) ?? 0) + 1
      attempts.set(key, attempt)
      if (chance.of(`${key}/${attempt}`) < sleepRate) yield* Effect.sleep(5)
      if (chance.of(`${key}/${attempt} fails`) < failRate) return yield* new Bad({ at: key })
      heard++
      if (hop < hops) yield* collect(new Told({ id, hop: hop + 1 }))
    }))
    const Main = EventConsumer.layer(Flow, { group: "group", concurrency, dedupe }).pipe(
      Layer.provideMerge(Flow.layer()),
      Layer.provide([DoLive, HearLive, Inbox.layerMemory()]),
      Layer.provideMerge(Tracker.layerMemoryBroker())
    )
    const program = Effect.gen(function*() {
      for (let r = 0; r < 3; r++) {
        const before = heard
        const { exit, flow } = yield* Tracker.run(Mediator.send(new Do({ id: `x${r}`, n })))
        if (Exit.isFailure(exit)) fail("the send failed")
        if (flow.consumed.some(({ outcome }) => outcome === undefined)) fail(`it ends before a delivery:\n${flow}`)
        const isDead = flow.consumed.some(({ outcome }) => outcome === "dead_lettered")
        if (!isDead && heard - before !== n * (hops + 1)) fail(`${heard - before} heard of ${n * (hops + 1)}\n${flow}`)
      }
    })
    return Effect.provide(program, Main)
  })
}
