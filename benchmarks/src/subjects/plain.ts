/**
 * The floor, for reference and not among the results: as `effect.ts`, but with plain classes for commands and events,
 * which check nothing, and with a plain function call for collecting.
 */
import * as Effect from "effect/Effect"
import type { Run, Subject } from "../subject.ts"
import { versionOf } from "../versions.ts"
import type { Seat, Workload } from "../workload.ts"
import { countHandler, countMessage, depth, encode, fanOut, meetingId, seatOf, tally, userId } from "../workload.ts"

class JoinMeeting implements Seat {
  readonly meetingId: string
  readonly userId: string
  readonly seat: number
  constructor(meetingId: string, userId: string, seat: number) {
    this.meetingId = meetingId
    this.userId = userId
    this.seat = seat
  }
}

class UserJoined implements Seat {
  readonly meetingId: string
  readonly userId: string
  readonly seat: number
  constructor(meetingId: string, userId: string, seat: number) {
    this.meetingId = meetingId
    this.userId = userId
    this.seat = seat
  }
}

class StepTaken implements Seat {
  readonly meetingId: string
  readonly userId: string
  readonly seat: number
  readonly depth: number
  constructor(meetingId: string, userId: string, seat: number, depth: number) {
    this.meetingId = meetingId
    this.userId = userId
    this.seat = seat
    this.depth = depth
  }
}

/** Handlers hand events over by a plain call, the cheapest way there is. */
type Emit<E> = (event: E) => void

const join = Effect.fnUntraced(function*(command: JoinMeeting) {
  tally.commands += 1
  return command.seat
})

const joinOne = Effect.fnUntraced(function*(command: JoinMeeting, emit: Emit<UserJoined>) {
  tally.commands += 1
  emit(new UserJoined(command.meetingId, command.userId, command.seat))
  return command.seat
})

const joinMany = Effect.fnUntraced(function*(command: JoinMeeting, emit: Emit<UserJoined>) {
  tally.commands += 1
  for (let i = 0; i < fanOut; i++) {
    emit(new UserJoined(command.meetingId, command.userId, command.seat))
  }
  return command.seat
})

const joinStep = Effect.fnUntraced(function*(command: JoinMeeting, emit: Emit<StepTaken>) {
  tally.commands += 1
  emit(new StepTaken(command.meetingId, command.userId, command.seat, 1))
  return command.seat
})

const onJoined = () =>
  Effect.fnUntraced(function*(event: UserJoined) {
    countHandler(event)
  })

const onJoinedSlowly = () =>
  Effect.fnUntraced(function*(event: UserJoined) {
    countHandler(event)
    yield* Effect.sleep(1)
  })

const onStep = Effect.fnUntraced(function*(event: StepTaken, emit: Emit<StepTaken>) {
  countHandler(event)
  if (event.depth < depth) {
    emit(new StepTaken(event.meetingId, event.userId, event.seat, event.depth + 1))
  }
})

const broker = {
  publish: (_topic: string, body: Uint8Array): Effect.Effect<void> => Effect.sync(() => countMessage(body))
}

const [first, second, third] = [onJoined(), onJoined(), onJoined()]
const [slowFirst, slowSecond, slowThird] = [onJoinedSlowly(), onJoinedSlowly(), onJoinedSlowly()]

const slowInOrder = Effect.fnUntraced(function*(event: UserJoined) {
  yield* slowFirst(event)
  yield* slowSecond(event)
  yield* slowThird(event)
})

const command = (unit: number): JoinMeeting => new JoinMeeting(meetingId, userId, seatOf(unit))

// Each loop is one generator for all units: the calls of the handlers are all that a unit pays for.
const loops: Record<Workload, (units: number) => Effect.Effect<void>> = {
  W1: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      tally.answers += yield* join(command(unit))
    }
  }),
  W2: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const events: Array<UserJoined> = []
      const answer = yield* joinOne(command(unit), (event) => events.push(event))
      for (const event of events) {
        yield* first(event)
      }
      tally.answers += answer
    }
  }),
  W3: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const events: Array<UserJoined> = []
      const answer = yield* joinMany(command(unit), (event) => events.push(event))
      for (const event of events) {
        yield* first(event)
        yield* second(event)
        yield* third(event)
      }
      tally.answers += answer
    }
  }),
  W4: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const events: Array<UserJoined> = []
      const answer = yield* joinMany(command(unit), (event) => events.push(event))
      yield* Effect.forEach(events, slowInOrder, { concurrency: fanOut, discard: true })
      tally.answers += answer
    }
  }),
  W5: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const events: Array<StepTaken> = []
      const emit = (event: StepTaken) => events.push(event)
      const answer = yield* joinStep(command(unit), emit)
      // The array grows while it is walked: follow-ups come after what is already waiting.
      for (const event of events) {
        yield* onStep(event, emit)
      }
      tally.answers += answer
    }
  }),
  W6: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const events: Array<UserJoined> = []
      const answer = yield* joinOne(command(unit), (event) => events.push(event))
      for (const event of events) {
        yield* broker.publish("meetings", encode(event))
      }
      tally.answers += answer
    }
  })
}

const chain = Effect.fnUntraced(function*(depth: number, probe: (depth: number) => void) {
  let next: StepTaken | undefined = new StepTaken(meetingId, userId, 0, 1)
  const step = Effect.fnUntraced(function*(event: StepTaken) {
    probe(event.depth)
    return event.depth < depth ? new StepTaken(event.meetingId, event.userId, event.seat, event.depth + 1) : undefined
  })
  while (next !== undefined) {
    next = yield* step(next)
  }
})

const subject: Subject = {
  name: "plain",
  packages: [versionOf("effect")],
  setup: (workload): Run => (units) => Effect.runPromise(loops[workload](units)),
  chain: (depth, probe) => Effect.runPromise(chain(depth, probe))
}

export default subject
