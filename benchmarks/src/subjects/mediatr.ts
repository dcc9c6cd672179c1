/** mediatr-ts with its own resolver: `send` for the command, `publish`, which awaits, for its events. */
import type { NotificationHandler, RequestHandler } from "mediatr-ts"
import { Mediator, NotificationData, notificationHandler, RequestData, requestHandler } from "mediatr-ts"
import type { Run, Subject } from "../subject.ts"
import { versionOf } from "../versions.ts"
import type { Seat, Workload } from "../workload.ts"
import { countHandler, countMessage, depth, encode, fanOut, meetingId, seatOf, tally, userId } from "../workload.ts"

const mediator = new Mediator()

abstract class SeatCommand extends RequestData<number> implements Seat {
  readonly meetingId: string
  readonly userId: string
  readonly seat: number
  constructor(meetingId: string, userId: string, seat: number) {
    super()
    this.meetingId = meetingId
    this.userId = userId
    this.seat = seat
  }
}

abstract class SeatEvent extends NotificationData implements Seat {
  readonly meetingId: string
  readonly userId: string
  readonly seat: number
  constructor(meetingId: string, userId: string, seat: number) {
    super()
    this.meetingId = meetingId
    this.userId = userId
    this.seat = seat
  }
}

// The registry is global and one handler a request class, so each workload has classes of its own.
class Join extends SeatCommand {}
class JoinOne extends SeatCommand {}
class JoinMany extends SeatCommand {}
class JoinManySlowly extends SeatCommand {}
class JoinStep extends SeatCommand {}
class JoinAbroad extends SeatCommand {}

class JoinedOne extends SeatEvent {}
class JoinedMany extends SeatEvent {}
class JoinedSlowly extends SeatEvent {}
class JoinedAbroad extends SeatEvent {}
class StepTaken extends SeatEvent {
  readonly depth: number
  constructor(meetingId: string, userId: string, seat: number, depth: number) {
    super(meetingId, userId, seat)
    this.depth = depth
  }
}

const sleep = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1))

const broker = {
  publish: async (_topic: string, body: Uint8Array): Promise<void> => countMessage(body)
}

class OnJoin implements RequestHandler<Join, number> {
  async handle(command: Join): Promise<number> {
    tally.commands += 1
    return command.seat
  }
}

class OnJoinOne implements RequestHandler<JoinOne, number> {
  async handle(command: JoinOne): Promise<number> {
    tally.commands += 1
    await mediator.publish(new JoinedOne(command.meetingId, command.userId, command.seat))
    return command.seat
  }
}

class OnJoinMany implements RequestHandler<JoinMany, number> {
  async handle(command: JoinMany): Promise<number> {
    tally.commands += 1
    for (let i = 0; i < fanOut; i++) {
      await mediator.publish(new JoinedMany(command.meetingId, command.userId, command.seat))
    }
    return command.seat
  }
}

class OnJoinManySlowly implements RequestHandler<JoinManySlowly, number> {
  async handle(command: JoinManySlowly): Promise<number> {
    tally.commands += 1
    const published: Array<Promise<void>> = []
    for (let i = 0; i < fanOut; i++) {
      published.push(mediator.publish(new JoinedSlowly(command.meetingId, command.userId, command.seat)))
    }
    await Promise.all(published)
    return command.seat
  }
}

class OnJoinStep implements RequestHandler<JoinStep, number> {
  async handle(command: JoinStep): Promise<number> {
    tally.commands += 1
    await mediator.publish(new StepTaken(command.meetingId, command.userId, command.seat, 1))
    return command.seat
  }
}

class OnJoinAbroad implements RequestHandler<JoinAbroad, number> {
  async handle(command: JoinAbroad): Promise<number> {
    tally.commands += 1
    await mediator.publish(new JoinedAbroad(command.meetingId, command.userId, command.seat))
    return command.seat
  }
}

const onEvent = () =>
  class implements NotificationHandler<SeatEvent> {
    async handle(event: SeatEvent): Promise<void> {
      countHandler(event)
    }
  }

/** `publish` starts all handlers at once, so three in order are three calls in one registered handler. */
class SlowInOrder implements NotificationHandler<JoinedSlowly> {
  async handle(event: JoinedSlowly): Promise<void> {
    for (let i = 0; i < 3; i++) {
      countHandler(event)
      await sleep()
    }
  }
}

class OnStep implements NotificationHandler<StepTaken> {
  async handle(event: StepTaken): Promise<void> {
    countHandler(event)
    if (event.depth < depth) {
      await mediator.publish(new StepTaken(event.meetingId, event.userId, event.seat, event.depth + 1))
    }
  }
}

class ToBroker implements NotificationHandler<JoinedAbroad> {
  async handle(event: JoinedAbroad): Promise<void> {
    await broker.publish("meetings", encode(event))
  }
}

// Node strips types and nothing more, so decorators are applied by plain calls.
requestHandler(Join)(OnJoin)
requestHandler(JoinOne)(OnJoinOne)
requestHandler(JoinMany)(OnJoinMany)
requestHandler(JoinManySlowly)(OnJoinManySlowly)
requestHandler(JoinStep)(OnJoinStep)
requestHandler(JoinAbroad)(OnJoinAbroad)
notificationHandler(JoinedOne)(onEvent())
notificationHandler(JoinedMany)(onEvent())
notificationHandler(JoinedMany)(onEvent())
notificationHandler(JoinedMany)(onEvent())
notificationHandler(JoinedSlowly)(SlowInOrder)
notificationHandler(StepTaken)(OnStep)
notificationHandler(JoinedAbroad)(ToBroker)

const commands: Record<Workload, new(meetingId: string, userId: string, seat: number) => SeatCommand> = {
  W1: Join,
  W2: JoinOne,
  W3: JoinMany,
  W4: JoinManySlowly,
  W5: JoinStep,
  W6: JoinAbroad
}

const setup = (workload: Workload): Run => {
  const Command = commands[workload]
  return async (units) => {
    for (let unit = 0; unit < units; unit++) {
      tally.answers += await mediator.send(new Command(meetingId, userId, seatOf(unit)))
    }
  }
}

const subject: Subject = {
  name: "mediatr-ts",
  packages: [versionOf("mediatr-ts")],
  setup
}

export default subject
