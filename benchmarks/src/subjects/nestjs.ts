/**
 * @nestjs/cqrs as an application uses it: an application context with CqrsModule, a command handler that publishes to
 * the EventBus. Each workload has a context of its own, since every registered handler filters every event.
 */
import "reflect-metadata"
import type { DynamicModule, Type } from "@nestjs/common"
import { Inject, Module } from "@nestjs/common"
import { NestFactory } from "@nestjs/core"
import type { CqrsModuleOptions, ICommandHandler, IEventHandler } from "@nestjs/cqrs"
import { Command, CommandBus, CommandHandler, CqrsModule, EventBus, EventsHandler } from "@nestjs/cqrs"
import type { Run, Subject } from "../subject.ts"
import { versionOf } from "../versions.ts"
import type { Seat, Workload } from "../workload.ts"
import { countHandler, countMessage, depth, encode, fanOut, meetingId, seatOf, tally, userId } from "../workload.ts"

class JoinMeeting extends Command<number> implements Seat {
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

// Node strips types and nothing more, so decorators are applied by plain calls.
const commandHandler = (handler: Type<ICommandHandler<JoinMeeting, number>>): Type => {
  Inject(EventBus)(handler, undefined, 0)
  CommandHandler(JoinMeeting)(handler)
  return handler
}

const eventHandler = <E extends Seat>(event: Type<E>, handler: Type<IEventHandler<E>>): Type => {
  EventsHandler(event)(handler)
  return handler
}

const join = (): Type =>
  commandHandler(
    class {
      async execute(command: JoinMeeting): Promise<number> {
        tally.commands += 1
        return command.seat
      }
    }
  )

const joinOne = (): Type =>
  commandHandler(
    class {
      readonly events: EventBus
      constructor(events: EventBus) {
        this.events = events
      }
      async execute(command: JoinMeeting): Promise<number> {
        tally.commands += 1
        this.events.publish(new UserJoined(command.meetingId, command.userId, command.seat))
        return command.seat
      }
    }
  )

const joinMany = (): Type =>
  commandHandler(
    class {
      readonly events: EventBus
      constructor(events: EventBus) {
        this.events = events
      }
      async execute(command: JoinMeeting): Promise<number> {
        tally.commands += 1
        const events: Array<UserJoined> = []
        for (let i = 0; i < fanOut; i++) {
          events.push(new UserJoined(command.meetingId, command.userId, command.seat))
        }
        this.events.publishAll(events)
        return command.seat
      }
    }
  )

const joinStep = (): Type =>
  commandHandler(
    class {
      readonly events: EventBus
      constructor(events: EventBus) {
        this.events = events
      }
      async execute(command: JoinMeeting): Promise<number> {
        tally.commands += 1
        this.events.publish(new StepTaken(command.meetingId, command.userId, command.seat, 1))
        return command.seat
      }
    }
  )

const onJoined = (): Type =>
  eventHandler(
    UserJoined,
    class {
      handle(event: UserJoined): void {
        countHandler(event)
      }
    }
  )

const onStep = (): Type => {
  const handler = eventHandler(
    StepTaken,
    class {
      readonly events: EventBus
      constructor(events: EventBus) {
        this.events = events
      }
      handle(event: StepTaken): void {
        countHandler(event)
        if (event.depth < depth) {
          this.events.publish(new StepTaken(event.meetingId, event.userId, event.seat, event.depth + 1))
        }
      }
    }
  )
  Inject(EventBus)(handler, undefined, 0)
  return handler
}

/** The bus awaits no handler of an event: W4 has to count them down to know that a unit is over. */
let waiting = 0
let allDone: () => void = () => {}

const sleep = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1))

/** The bus starts all handlers of an event at once, so three in order are three calls in one registered handler. */
const slowInOrder = (): Type =>
  eventHandler(
    UserJoined,
    class {
      async handle(event: UserJoined): Promise<void> {
        for (let i = 0; i < 3; i++) {
          countHandler(event)
          await sleep()
        }
        waiting -= 1
        if (waiting === 0) {
          allDone()
        }
      }
    }
  )

const broker = {
  publish: async (_topic: string, body: Uint8Array): Promise<void> => countMessage(body)
}

/**
 * W6: what nest offers for a broker, a publisher in the place of its own. As everywhere, the broker answers with a
 * promise, and the command waits for it: a failure to publish would be seen.
 */
const toBroker: CqrsModuleOptions = {
  eventPublisher: { publish: (event) => broker.publish("meetings", encode(event as unknown as UserJoined)) }
}

const joinAbroad = (): Type =>
  commandHandler(
    class {
      readonly events: EventBus
      constructor(events: EventBus) {
        this.events = events
      }
      async execute(command: JoinMeeting): Promise<number> {
        tally.commands += 1
        await this.events.publish(new UserJoined(command.meetingId, command.userId, command.seat))
        return command.seat
      }
    }
  )

const providers: Record<Workload, () => Array<Type>> = {
  W1: () => [join()],
  W2: () => [joinOne(), onJoined()],
  W3: () => [joinMany(), onJoined(), onJoined(), onJoined()],
  W4: () => [joinMany(), slowInOrder()],
  W5: () => [joinStep(), onStep()],
  W6: () => [joinAbroad()]
}

const contexts: Array<{ readonly close: () => Promise<void> }> = []

export const command = (unit: number): JoinMeeting => new JoinMeeting(meetingId, userId, seatOf(unit))

/** The bus of an application with the handlers of a workload. */
export const busOf = async (workload: Workload, options: CqrsModuleOptions): Promise<CommandBus> => {
  class AppModule {}
  Module({})(AppModule)
  const module: DynamicModule = {
    module: AppModule,
    imports: [CqrsModule.forRoot(options)],
    providers: providers[workload]()
  }
  const context = await NestFactory.createApplicationContext(module, { logger: ["error"] })
  contexts.push(context)
  return context.get(CommandBus)
}

const setup = async (workload: Workload): Promise<Run> => {
  const bus = await busOf(workload, workload === "W6" ? toBroker : {})
  if (workload === "W4") {
    return async (units) => {
      for (let unit = 0; unit < units; unit++) {
        waiting = fanOut
        const done = new Promise<void>((resolve) => {
          allDone = resolve
        })
        tally.answers += await bus.execute(command(unit))
        await done
      }
    }
  }
  // Elsewhere the handlers are synchronous and have run when `publish` returns.
  return async (units) => {
    for (let unit = 0; unit < units; unit++) {
      tally.answers += await bus.execute(command(unit))
    }
  }
}

const subject: Subject = {
  name: "@nestjs/cqrs",
  packages: ["@nestjs/cqrs", "@nestjs/core", "@nestjs/common", "rxjs", "reflect-metadata"].map(versionOf),
  setup,
  close: async () => {
    for (const context of contexts) {
      await context.close()
    }
  }
}

export default subject
