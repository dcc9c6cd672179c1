/**
 * The library as a program uses it: definitions, handler layers, one mediator.
 */
import * as Broker from "@event-flow/core/Broker"
import * as EventFlow from "@event-flow/core/EventFlow"
import * as Mediator from "@event-flow/core/Mediator"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as flow from "../flow.ts"
import { first, second, third } from "../flow.ts"
import type { Run, Subject } from "../subject.ts"
import { versionOf } from "../versions.ts"
import type { Workload } from "../workload.ts"
import { countMessage, fanOut, meetingId, seatOf, tally, userId } from "../workload.ts"

const JoinLive = flow.Join.toLayer(flow.join)
const JoinOneLive = flow.JoinOne.toLayer(flow.joinOne)
const JoinManyLive = flow.JoinMany.toLayer(flow.joinMany)
const JoinStepLive = flow.JoinStep.toLayer(flow.joinStep)
const JoinNotifyLive = flow.JoinNotify.toLayer(flow.joinNotify)
const OnStepLive = flow.OnStep.toLayer(flow.onStep)

const NothingBroker = Layer.succeed(Broker.Broker)({
  name: "nothing",
  publish: (messages) =>
    Effect.sync(() => {
      for (const message of messages) countMessage(message.body!)
    })
})

const loop = <E, R>(send: (seat: number) => Effect.Effect<number, E, R>) =>
  Effect.fnUntraced(function*(units: number) {
    for (let unit = 0; unit < units; unit++) {
      tally.answers += yield* send(seatOf(unit))
    }
  })

const joinLoop = loop((seat) => Mediator.send(new flow.Join({ meetingId, userId, seat })))
const joinOneLoop = loop((seat) => Mediator.send(new flow.JoinOne({ meetingId, userId, seat })))
const joinManyLoop = loop((seat) => Mediator.send(new flow.JoinMany({ meetingId, userId, seat })))
const joinStepLoop = loop((seat) => Mediator.send(new flow.JoinStep({ meetingId, userId, seat })))
const joinNotifyLoop = loop((seat) => Mediator.send(new flow.JoinNotify({ meetingId, userId, seat })))

/** One runtime a workload: what a program sets up once is not measured. */
const runtimes: Array<{ readonly dispose: () => Promise<void> }> = []

const toRun = <R, E, EX>(
  layer: Layer.Layer<R, EX>,
  run: (units: number) => Effect.Effect<void, E, R>
): Run => {
  const runtime = ManagedRuntime.make(layer)
  runtimes.push(runtime)
  return (units) => runtime.runPromise(run(units))
}

const firstHandlers = [first.definition] as const
const allHandlers = [first.definition, second.definition, third.definition] as const
class W1 extends EventFlow.make("W1", { commands: [flow.Join] }) {}
class W2 extends EventFlow.make("W2", { commands: [flow.JoinOne], handlers: firstHandlers }) {}
class W3 extends EventFlow.make("W3", { commands: [flow.JoinMany], handlers: allHandlers }) {}
class W5 extends EventFlow.make("W5", { commands: [flow.JoinStep], handlers: [flow.OnStep] }) {}
class W6 extends EventFlow.make("W6", { commands: [flow.JoinNotify] }) {}

const setups: Record<Workload, () => Run> = {
  W1: () => toRun(Layer.provide(W1.layer(), JoinLive), joinLoop),
  W2: () => toRun(Layer.provide(W2.layer(), [JoinOneLive, first.definition.toLayer(first.handle)]), joinOneLoop),
  W3: () =>
    toRun(
      Layer.provide(W3.layer(), [
        JoinManyLive,
        first.definition.toLayer(first.handle),
        second.definition.toLayer(second.handle),
        third.definition.toLayer(third.handle)
      ]),
      joinManyLoop
    ),
  W4: () =>
    toRun(
      Layer.provide(W3.layer({ concurrency: fanOut }), [
        JoinManyLive,
        first.definition.toLayer(first.handleSlowly),
        second.definition.toLayer(second.handleSlowly),
        third.definition.toLayer(third.handleSlowly)
      ]),
      joinManyLoop
    ),
  W5: () => toRun(Layer.provide(W5.layer(), [JoinStepLive, OnStepLive]), joinStepLoop),
  W6: () => toRun(Layer.provide(W6.layer(), [JoinNotifyLive, NothingBroker]), joinNotifyLoop)
}

const subject: Subject = {
  name: "event-flow",
  packages: [versionOf("@event-flow/core"), versionOf("effect")],
  setup: (workload) => setups[workload](),
  chain: (length, probe) =>
    flow.withChain(length, probe, async () => {
      const run = toRun(
        Layer.provide(W5.layer({ maxDepth: "unbounded" }), [JoinStepLive, OnStepLive]),
        joinStepLoop
      )
      await run(1)
    }),
  close: async () => {
    for (const runtime of runtimes) await runtime.dispose()
  }
}

export default subject
