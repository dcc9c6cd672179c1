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
      for (const message of messages) countMessage(message.body)
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

const setups: Record<Workload, () => Run> = {
  W1: () =>
    toRun(
      EventFlow.layer({ handlers: [] }).pipe(Layer.provideMerge(JoinLive), Layer.provide(NothingBroker)),
      joinLoop
    ),
  W2: () =>
    toRun(
      EventFlow.layer({ handlers: [first.definition] }).pipe(
        Layer.provideMerge(JoinOneLive),
        Layer.provide([first.definition.toLayer(first.handle), NothingBroker])
      ),
      joinOneLoop
    ),
  W3: () =>
    toRun(
      EventFlow.layer({ handlers: [first.definition, second.definition, third.definition] }).pipe(
        Layer.provideMerge(JoinManyLive),
        Layer.provide([
          first.definition.toLayer(first.handle),
          second.definition.toLayer(second.handle),
          third.definition.toLayer(third.handle),
          NothingBroker
        ])
      ),
      joinManyLoop
    ),
  W4: () =>
    toRun(
      EventFlow.layer({
        handlers: [first.definition, second.definition, third.definition],
        concurrency: fanOut
      }).pipe(
        Layer.provideMerge(JoinManyLive),
        Layer.provide([
          first.definition.toLayer(first.handleSlowly),
          second.definition.toLayer(second.handleSlowly),
          third.definition.toLayer(third.handleSlowly),
          NothingBroker
        ])
      ),
      joinManyLoop
    ),
  W5: () =>
    toRun(
      EventFlow.layer({ handlers: [flow.OnStep] }).pipe(
        Layer.provideMerge(JoinStepLive),
        Layer.provide([OnStepLive, NothingBroker])
      ),
      joinStepLoop
    ),
  W6: () =>
    toRun(
      EventFlow.layer({ handlers: [] }).pipe(Layer.provideMerge(JoinNotifyLive), Layer.provide(NothingBroker)),
      joinNotifyLoop
    )
}

const subject: Subject = {
  name: "event-flow",
  packages: [versionOf("@event-flow/core"), versionOf("effect")],
  setup: (workload) => setups[workload](),
  chain: (length, probe) =>
    flow.withChain(length, probe, async () => {
      const run = toRun(
        EventFlow.layer({ handlers: [flow.OnStep], maxDepth: Infinity }).pipe(
          Layer.provideMerge(JoinStepLive),
          Layer.provide([OnStepLive, NothingBroker])
        ),
        joinStepLoop
      )
      await run(1)
    }),
  close: async () => {
    for (const runtime of runtimes) await runtime.dispose()
  }
}

export default subject
