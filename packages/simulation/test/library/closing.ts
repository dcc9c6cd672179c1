/** A flow that closes at the moment of a send: a command that has begun is waited for, and none begins afterwards. */
import { Command, EventFlow, Mediator } from "@event-flow/core"
import { Effect, Exit, Fiber, Layer, Schema, Scope } from "effect"
import { Chance, runProgram } from "./kit.ts"

class Work extends Command.Class<Work>()("Work", { payload: { n: Schema.Int } }) {}
class Flow extends EventFlow.make("Flow", { commands: [Work] }) {}

export const run = (seed: number): string | undefined => {
  const chance = new Chance(seed, "closing")
  const sends = chance.pick(1, 1, 2)
  const closeAfter = chance.below(2)
  return runProgram(seed, chance, ({ fail }) => {
    let isClosed = false
    const WorkLive = Work.toLayer(({ n }) =>
      Effect.suspend(() => {
        if (isClosed) fail(`command ${n} starts after the close`)
        const yields = Effect.repeat(Effect.yieldNow, { times: chance.below(4) })
        return Effect.ensuring(yields, Effect.sync(() => isClosed && fail(`command ${n} ends after the close`)))
      }).pipe(Effect.asVoid)
    )
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const built = yield* Layer.buildWithScope(Flow.layer().pipe(Layer.provide(WorkLive)), scope)
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let n = 0; n < sends; n++) {
        const send = Effect.exit(Effect.provideContext(Mediator.send(new Work({ n })), built))
        fibers.push(yield* Effect.forkDetach(Effect.delay(send, 1 + chance.below(2))))
      }
      yield* Effect.sleep(1 + closeAfter)
      yield* Scope.close(scope, Exit.void)
      isClosed = true
      yield* Fiber.awaitAll(fibers)
      yield* Effect.sleep(10)
    })
  })
}
