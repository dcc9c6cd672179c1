/** What a tracked run waits for, wherever its fiber yields and whatever starts a turn later. */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  NotificationEvent
} from "@event-flow/core"
import { Tracker } from "@event-flow/core/testing"
import { Effect, Layer, References, Schema } from "effect"

class Told
  extends NotificationEvent.Class<Told>()("Told", { id: Schema.String }, { topic: "told", key: (e) => e.id })
{}
class Tell extends Command.Class<Tell>()("Tell", { emits: [Told] }) {}

const Hear = EventHandler.make("Hear", { on: Told })

class Telling extends EventFlow.make("Telling", { commands: [Tell], handlers: [Hear] }) {}

describe("a tracked run ends", () => {
  const main = EventConsumer.layer(Telling, { group: "group" }).pipe(
    Layer.provide(Hear.toLayer(() => Effect.yieldNow)),
    Layer.provideMerge(Telling.layer()),
    Layer.provide(Tell.toLayer((_, { collect }) => collect(new Told({ id: "a" })))),
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

describe("a tracked run waits for a command that is sent by", () => {
  class Done extends DomainEvent.Class<Done>()("Done", {}) {}
  class First extends Command.Class<First>()("First", { emits: [Done] }) {}
  class Late extends Command.Class<Late>()("Late", {}) {}
  const OnDone = EventHandler.make("OnDone", { on: Done, sends: [Late] })
  class Main extends EventFlow.make("Main", { commands: [First, Late], handlers: [OnDone] }) {}

  type Work = Effect.Effect<unknown, never, Command.CommandFlow<"Late">>

  const ways: Record<string, (send: Work) => Work> = {
    "a detached fiber, which begins in the next turn": (send) => Effect.forkDetach(send),
    "a detached fiber of a detached fiber": (send) => Effect.forkDetach(Effect.forkDetach(send)),
    "a detached fiber that yields first": (send) =>
      Effect.forkDetach(Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 3 }), send)),
    "a detached fiber, after a promise": (send) =>
      Effect.forkDetach(Effect.andThen(Effect.promise(() => Promise.resolve()), send))
  }

  for (const [name, fork] of Object.entries(ways)) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const ran: Array<string> = []
        const main = Main.layer().pipe(
          Layer.provide([
            First.toLayer((_, { collect }) => collect(new Done())),
            OnDone.toLayer(() => Effect.asVoid(fork(Mediator.send(new Late())))),
            Late.toLayer(() => Effect.sync(() => void ran.push("late")))
          ]),
          Layer.provideMerge(Tracker.layer)
        )
        const { flow } = yield* Effect.provide(Tracker.run(Mediator.send(new First())), main)
        assert.deepStrictEqual(flow.commands.map(({ command }) => command._tag), ["First", "Late"])
        assert.deepStrictEqual(ran, ["late"])
      }))
  }
})
