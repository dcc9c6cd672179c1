/**
 * Joining a meeting: a command, both kinds of event, and a handler's follow-up.
 *
 *     JoinMeeting ─┬─ UserJoined ──── Greet ──── GreetingSent ──── CountGreetings
 *                  └─ SeatTaken ───── broker, topic "meetings"
 */
import {
  Command,
  DomainEvent,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  NotificationEvent
} from "@event-flow/core"
import { Console, Effect, Layer, Schema } from "effect"

// What happens, as data: events and commands are Schema classes.

class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", {
  user: Schema.String
}) {}

class GreetingSent extends DomainEvent.Class<GreetingSent>()("GreetingSent", {
  user: Schema.String
}) {}

// A notification event leaves the process; those of one key keep their order.
class SeatTaken extends NotificationEvent.Class<SeatTaken>()("SeatTaken", {
  meeting: Schema.String,
  seatsLeft: Schema.Int
}, { topic: "meetings", key: (event) => event.meeting }) {}

class MeetingFull extends Schema.TaggedError<MeetingFull>()("MeetingFull", {
  meeting: Schema.String
}) {}

class JoinMeeting extends Command.Class<JoinMeeting>()("JoinMeeting", {
  payload: { meeting: Schema.String, user: Schema.String },
  success: Schema.Int,
  error: MeetingFull,
  emits: [UserJoined, SeatTaken]
}) {}

const Greet = EventHandler.make("Greet", { on: UserJoined, emits: [GreetingSent] })
const CountGreetings = EventHandler.make("CountGreetings", { on: GreetingSent })

// How it happens, as layers. A handler collects events; they are processed after it has succeeded.

const JoinMeetingLive = JoinMeeting.toLayer(Effect.sync(() => {
  let seatsLeft = 2
  return Effect.fn("JoinMeeting")(function*({ meeting, user }, { collectAll }) {
    if (seatsLeft === 0) return yield* new MeetingFull({ meeting })
    seatsLeft--
    yield* collectAll([new UserJoined({ user }), new SeatTaken({ meeting, seatsLeft })])
    return seatsLeft
  })
}))

const GreetLive = Greet.toLayer(
  Effect.fn("Greet")(function*({ user }, { collect }) {
    yield* Console.log(`  Greet: welcome, ${user}!`)
    yield* collect(new GreetingSent({ user }))
  })
)

const CountGreetingsLive = CountGreetings.toLayer(Effect.sync(() => {
  let greetings = 0
  return () => Console.log(`  CountGreetings: ${++greetings} so far`)
}))

// The flow lists what belongs together. Its layer asks for an implementation of each, and for a broker.

class Meetings extends EventFlow.make("Meetings", {
  commands: [JoinMeeting],
  handlers: [Greet, CountGreetings]
}) {}

const MainLive = Meetings.layer().pipe(
  Layer.provide([JoinMeetingLive, GreetLive, CountGreetingsLive]),
  Layer.provideMerge(MemoryBroker.layer())
)

// `send` gives the response when every event and follow-up is done. Leaving out an implementation, collecting
// an event that is not declared, or forgetting MeetingFull does not compile.

const join = Effect.fn("join")(function*(user: string) {
  yield* Console.log(`${user} asks to join`)
  yield* Mediator.send(new JoinMeeting({ meeting: "effect-days", user })).pipe(
    Effect.flatMap((seatsLeft) => Console.log(`  ${user} is in, seats left: ${seatsLeft}`)),
    Effect.catchTag("MeetingFull", ({ meeting }) => Console.log(`  sorry ${user}, ${meeting} is full`))
  )
})

const program = Effect.gen(function*() {
  yield* Effect.forEach(["Ada", "Grace", "Edsger"], join, { discard: true })
  const broker = yield* MemoryBroker.MemoryBroker
  const messages = yield* broker.messages("meetings")
  yield* Console.log("Published to the topic \"meetings\":")
  for (const { attributes, body, key } of messages) {
    yield* Console.log(`  ${attributes["type"]} key=${key} ${new TextDecoder().decode(body ?? undefined)}`)
  }
})

Effect.runPromise(program.pipe(Effect.provide(MainLive)))
