/**
 * What event-flow and the direct Effect call share: the definitions, and the handlers as a program would write them.
 */
import * as Command from "@event-flow/core/Command"
import * as DomainEvent from "@event-flow/core/DomainEvent"
import * as EventHandler from "@event-flow/core/EventHandler"
import * as NotificationEvent from "@event-flow/core/NotificationEvent"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { countHandler, depth, fanOut, type Seat, tally } from "./workload.ts"

const seat = { meetingId: Schema.String, userId: Schema.String, seat: Schema.Number }

export class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", seat) {}

export class SeatTaken extends NotificationEvent.Class<SeatTaken>()("SeatTaken", seat, { topic: "meetings" }) {}

export class StepTaken extends DomainEvent.Class<StepTaken>()("StepTaken", { ...seat, depth: Schema.Number }) {}

export class Join extends Command.Class<Join>()("Join", { payload: seat, success: Schema.Number }) {}

export class JoinOne extends Command.Class<JoinOne>()("JoinOne", {
  payload: seat,
  success: Schema.Number,
  emits: [UserJoined]
}) {}

export class JoinMany extends Command.Class<JoinMany>()("JoinMany", {
  payload: seat,
  success: Schema.Number,
  emits: [UserJoined]
}) {}

export class JoinStep extends Command.Class<JoinStep>()("JoinStep", {
  payload: seat,
  success: Schema.Number,
  emits: [StepTaken]
}) {}

export class JoinNotify extends Command.Class<JoinNotify>()("JoinNotify", {
  payload: seat,
  success: Schema.Number,
  emits: [SeatTaken]
}) {}

// Of any command that carries the payload: those with middleware have them, too (`production/`)

/** What a handler of a command collects with. */
interface Collects<E> {
  readonly collect: (event: E) => Effect.Effect<void>
}

export const join = Effect.fnUntraced(function*(command: Seat) {
  tally.commands += 1
  return command.seat
})

export const joinOne = Effect.fnUntraced(function*(command: Seat, { collect }: Collects<UserJoined>) {
  tally.commands += 1
  yield* collect(new UserJoined({ meetingId: command.meetingId, userId: command.userId, seat: command.seat }))
  return command.seat
})

export const joinMany = Effect.fnUntraced(function*(command: Seat, { collect }: Collects<UserJoined>) {
  tally.commands += 1
  for (let i = 0; i < fanOut; i++) {
    yield* collect(new UserJoined({ meetingId: command.meetingId, userId: command.userId, seat: command.seat }))
  }
  return command.seat
})

export const joinStep = Effect.fnUntraced(function*(command: Seat, { collect }: Collects<StepTaken>) {
  tally.commands += 1
  yield* collect(new StepTaken({ meetingId: command.meetingId, userId: command.userId, seat: command.seat, depth: 1 }))
  return command.seat
})

export const joinNotify = Effect.fnUntraced(function*(command: Seat, { collect }: Collects<SeatTaken>) {
  tally.commands += 1
  yield* collect(new SeatTaken({ meetingId: command.meetingId, userId: command.userId, seat: command.seat }))
  return command.seat
})

const onJoined = <const Name extends string>(name: Name) => {
  const definition = EventHandler.make(name, { on: UserJoined })
  return {
    definition,
    handle: definition.of(Effect.fnUntraced(function*(event) {
      countHandler(event)
    })),
    handleSlowly: definition.of(Effect.fnUntraced(function*(event) {
      countHandler(event)
      yield* Effect.sleep(1)
    }))
  }
}

export const first = onJoined("First")
export const second = onJoined("Second")
export const third = onJoined("Third")

export const OnStep = EventHandler.make("OnStep", { on: StepTaken, emits: [StepTaken] })

/** How long the chain is, and who looks at the heap while it runs (`memory.ts`). */
export const chain: { length: number; probe: ((depth: number) => void) | undefined } = {
  length: depth,
  probe: undefined
}

export const onStep = OnStep.of(Effect.fnUntraced(function*(event, { collect }) {
  if (chain.probe === undefined) countHandler(event)
  else chain.probe(event.depth)
  if (event.depth < chain.length) {
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

/** Runs a chain of another length. */
export const withChain = async (
  length: number,
  probe: (depth: number) => void,
  run: () => Promise<unknown>
): Promise<void> => {
  chain.length = length
  chain.probe = probe
  try {
    await run()
  } finally {
    chain.length = depth
    chain.probe = undefined
  }
}
