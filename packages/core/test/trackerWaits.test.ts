/** What a tracked run waits for, wherever its fiber yields and whatever starts a turn later. */
import { assert, describe, it } from "@effect/vitest"
import { Command, EventConsumer, EventFlow, EventHandler, Mediator, NotificationEvent } from "@event-flow/core"
import { Tracker } from "@event-flow/core/testing"
import { Effect, Layer, References, Schema } from "effect"

class Told
  extends NotificationEvent.Class<Told>()("Told", { id: Schema.String }, { topic: "told", key: (e) => e.id })
{}
class Tell extends Command.Class<Tell>()("Tell", { emits: [Told] }) {}

const Hear = EventHandler.make("Hear", { on: Told })

const TellLive = Tell.toLayer((_, { collect }) => collect(new Told({ id: "a" })))

describe("a tracked run ends", () => {
  const main = EventConsumer.layer({ group: "group" }).pipe(
    Layer.provideMerge(EventFlow.layer({ handlers: [Hear] })),
    Layer.provideMerge(Layer.merge(TellLive, Hear.toLayer(() => Effect.yieldNow))),
    Layer.provideMerge(Tracker.layerMemoryBroker())
  )

  it.effect("wherever its fibers yield", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops < 200; ops++) {
        const { flow } = yield* Tracker.run(Mediator.send(new Tell())).pipe(
          Effect.provide(main, { local: true }),
          Effect.provideService(References.MaxOpsBeforeYield, ops)
        )
        assert.deepStrictEqual(flow.consumed.map(({ outcome }) => outcome), ["handled"], `${ops} operations`)
      }
    }))
})
