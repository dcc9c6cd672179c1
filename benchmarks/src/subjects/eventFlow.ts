/**
 * The library as a program uses it: definitions, handler layers, one mediator. The handlers are those of `effect.ts`,
 * but for collecting through `collect`.
 */
import * as Broker from "@event-flow/core/Broker"
import * as Command from "@event-flow/core/Command"
import * as DomainEvent from "@event-flow/core/DomainEvent"
import * as EventFlow from "@event-flow/core/EventFlow"
import * as EventHandler from "@event-flow/core/EventHandler"
import * as Mediator from "@event-flow/core/Mediator"
import * as NotificationEvent from "@event-flow/core/NotificationEvent"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import type { Run, Subject } from "../subject.ts"
import { versionOf } from "../versions.ts"
import type { Workload } from "../workload.ts"
import { countHandler, countMessage, depth, fanOut, meetingId, seatOf, tally, userId } from "../workload.ts"

const seat = { meetingId: Schema.String, userId: Schema.String, seat: Schema.Number }

class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", seat) {}

class SeatTaken extends NotificationEvent.Class<SeatTaken>()("SeatTaken", seat, { topic: "meetings" }) {}

class StepTaken extends DomainEvent.Class<StepTaken>()("StepTaken", { ...seat, depth: Schema.Number }) {}

class Join extends Command.Class<Join>()("Join", { payload: seat, success: Schema.Number }) {}

class JoinOne extends Command.Class<JoinOne>()("JoinOne", {
  payload: seat,
  success: Schema.Number,
  emits: [UserJoined]
}) {}

class JoinMany extends Command.Class<JoinMany>()("JoinMany", {
  payload: seat,
  success: Schema.Number,
  emits: [UserJoined]
}) {}

class JoinStep extends Command.Class<JoinStep>()("JoinStep", {
  payload: seat,
  success: Schema.Number,
  emits: [StepTaken]
}) {}

class JoinNotify extends Command.Class<JoinNotify>()("JoinNotify", {
  payload: seat,
  success: Schema.Number,
  emits: [SeatTaken]
}) {}

const JoinLive = Join.toLayer(Effect.fnUntraced(function*(command) {
  tally.commands += 1
  return command.seat
}))

const JoinOneLive = JoinOne.toLayer(Effect.fnUntraced(function*(command, { collect }) {
  tally.commands += 1
  yield* collect(new UserJoined({ meetingId: command.meetingId, userId: command.userId, seat: command.seat }))
  return command.seat
}))

const JoinManyLive = JoinMany.toLayer(Effect.fnUntraced(function*(command, { collect }) {
  tally.commands += 1
  for (let i = 0; i < fanOut; i++) {
    yield* collect(new UserJoined({ meetingId: command.meetingId, userId: command.userId, seat: command.seat }))
  }
  return command.seat
}))

const JoinStepLive = JoinStep.toLayer(Effect.fnUntraced(function*(command, { collect }) {
  tally.commands += 1
  yield* collect(
    new StepTaken({ meetingId: command.meetingId, userId: command.userId, seat: command.seat, depth: 1 })
  )
  return command.seat
}))

const JoinNotifyLive = JoinNotify.toLayer(Effect.fnUntraced(function*(command, { collect }) {
  tally.commands += 1
  yield* collect(new SeatTaken({ meetingId: command.meetingId, userId: command.userId, seat: command.seat }))
  return command.seat
}))

const onJoined = <const Name extends string>(name: Name) => {
  const definition = EventHandler.make(name, { on: UserJoined })
  return {
    definition,
    layer: definition.toLayer(Effect.fnUntraced(function*(event) {
      countHandler(event)
    })),
    slowLayer: definition.toLayer(Effect.fnUntraced(function*(event) {
      countHandler(event)
      yield* Effect.sleep(1)
    }))
  }
}

const [first, second, third] = [onJoined("First"), onJoined("Second"), onJoined("Third")] as const

const OnStep = EventHandler.make("OnStep", { on: StepTaken, emits: [StepTaken] })

let chainDepth = depth
let probe: ((depth: number) => void) | undefined

const OnStepLive = OnStep.toLayer(Effect.fnUntraced(function*(event, { collect }) {
  if (probe === undefined) countHandler(event)
  else probe(event.depth)
  if (event.depth < chainDepth) {
    yield* collect(
      new StepTaken({
        meetingId: event.meetingId,
        userId: event.userId,
        seat: event.seat,
        depth: event.depth + 1
      })
    )
  }
}))

const NothingBroker = Layer.succeed(Broker.Broker)({
  name: "nothing",
  publish: (messages) =>
    Effect.sync(() => {
      for (const message of messages) countMessage(message.body)
    })
})

const loop =
  <E, R>(send: (seat: number) => Effect.Effect<number, E, R>) => Effect.fnUntraced(function*(units: number) {
    for (let unit = 0; unit < units; unit++) {
      tally.answers += yield* send(seatOf(unit))
    }
  })

const joinLoop = loop((seat) => Mediator.send(new Join({ meetingId, userId, seat })))
const joinOneLoop = loop((seat) => Mediator.send(new JoinOne({ meetingId, userId, seat })))
const joinManyLoop = loop((seat) => Mediator.send(new JoinMany({ meetingId, userId, seat })))
const joinStepLoop = loop((seat) => Mediator.send(new JoinStep({ meetingId, userId, seat })))
const joinNotifyLoop = loop((seat) => Mediator.send(new JoinNotify({ meetingId, userId, seat })))

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
        Layer.provide([first.layer, NothingBroker])
      ),
      joinOneLoop
    ),
  W3: () =>
    toRun(
      EventFlow.layer({ handlers: [first.definition, second.definition, third.definition] }).pipe(
        Layer.provideMerge(JoinManyLive),
        Layer.provide([first.layer, second.layer, third.layer, NothingBroker])
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
        Layer.provide([first.slowLayer, second.slowLayer, third.slowLayer, NothingBroker])
      ),
      joinManyLoop
    ),
  W5: () =>
    toRun(
      EventFlow.layer({ handlers: [OnStep] }).pipe(
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
  chain: async (length, onStep) => {
    chainDepth = length
    probe = onStep
    const run = toRun(
      EventFlow.layer({ handlers: [OnStep], maxDepth: Infinity }).pipe(
        Layer.provideMerge(JoinStepLive),
        Layer.provide([OnStepLive, NothingBroker])
      ),
      joinStepLoop
    )
    try {
      await run(1)
    } finally {
      chainDepth = depth
      probe = undefined
    }
  },
  close: async () => {
    for (const runtime of runtimes) await runtime.dispose()
  }
}

export default subject
