/** Observers of flows. */
import { assert, it } from "@effect/vitest"
import { Command, EventFlow, FlowObserver, Mediator } from "@event-flow/core"
import { Effect, Layer } from "effect"

class Inner extends Command.Class<Inner>()("Inner", {}) {}
class Outer extends Command.Class<Outer>()("Outer", {}) {}

it.effect("F21: a flow that is built while a command of another one runs has the observers of its layer", () =>
  Effect.gen(function*() {
    const started: Array<string> = []
    const observer = FlowObserver.layer(
      FlowObserver.make({ commandStarted: (_, command) => void started.push(command._tag) })
    )
    const inner = EventFlow.make("InnerFlow", { commands: [Inner] }).layer().pipe(
      Layer.provide(Inner.toLayer(() => Effect.void)),
      Layer.provide(observer),
      Layer.orDie
    )
    const outer = EventFlow.make("OuterFlow", { commands: [Outer] }).layer().pipe(
      Layer.provide(Outer.toLayer(() => Mediator.send(new Inner()).pipe(Effect.provide(inner)))),
      Layer.provide(observer)
    )
    yield* Mediator.send(new Outer()).pipe(Effect.provide(outer))
    assert.deepStrictEqual(started, ["Outer", "Inner"])
  }))
