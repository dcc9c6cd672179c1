/**
 * Meetings: commands, a query, events, and their handlers. Nothing here knows of HTTP but the status
 * annotations of the errors, which only a server reads.
 */
import {
  Command,
  Correlation,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Inbox,
  NotificationEvent,
  Query
} from "@event-flow/core"
import { Context, Effect, Layer, Schema } from "effect"

// --- definitions ---

const Id = Schema.NonEmptyString
const Name = Schema.Trimmed.check(Schema.isNonEmpty(), Schema.isMaxLength(100))

export class Meeting extends Schema.Class<Meeting>("Meeting")({
  id: Id,
  title: Name,
  seats: Schema.Int,
  users: Schema.Array(Name)
}) {
  get seatsLeft() {
    return this.seats - this.users.length
  }
}

export class MeetingNotFound extends Schema.TaggedError<MeetingNotFound>()(
  "MeetingNotFound",
  { meetingId: Id },
  { httpApiStatus: 404 }
) {}

export class MeetingFull extends Schema.TaggedError<MeetingFull>()(
  "MeetingFull",
  { meetingId: Id, seats: Schema.Int },
  { httpApiStatus: 409 }
) {}

export class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", { meetingId: Id, user: Name }) {}

export class SeatTaken extends NotificationEvent.Class<SeatTaken>()("SeatTaken", {
  meetingId: Id,
  seatsLeft: Schema.Int
}, { topic: "meetings", key: (event) => event.meetingId }) {}

export class OpenMeeting extends Command.Class<OpenMeeting>()("OpenMeeting", {
  payload: { title: Name, seats: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1000 })) },
  success: Meeting
}) {}

export class JoinMeeting extends Command.Class<JoinMeeting>()("JoinMeeting", {
  payload: { meetingId: Id, user: Name },
  success: Schema.Struct({ seatsLeft: Schema.Int }),
  error: Schema.Union([MeetingNotFound, MeetingFull]),
  emits: [UserJoined, SeatTaken]
}) {}

export class FindMeeting extends Query.Class<FindMeeting>()("FindMeeting", {
  payload: { meetingId: Id },
  success: Meeting,
  error: MeetingNotFound
}) {}

// --- behaviour ---

class Meetings extends Context.Service<Meetings, {
  readonly open: (title: string, seats: number) => Effect.Effect<Meeting>
  readonly find: (id: string) => Effect.Effect<Meeting, MeetingNotFound>
  readonly join: (id: string, user: string) => Effect.Effect<Meeting, MeetingNotFound | MeetingFull>
}>()("examples/http/Meetings") {
  static readonly layerMemory = Layer.sync(Meetings, () => {
    const meetings = new Map<string, Meeting>()

    const open = Effect.fn("Meetings.open")((title: string, seats: number) =>
      Effect.sync(() => {
        const meeting = new Meeting({ id: String(meetings.size + 1), title, seats, users: [] })
        meetings.set(meeting.id, meeting)
        return meeting
      })
    )

    const find = Effect.fn("Meetings.find")(function*(id: string) {
      return meetings.get(id) ?? (yield* new MeetingNotFound({ meetingId: id }))
    })

    const join = Effect.fn("Meetings.join")(function*(id: string, user: string) {
      const meeting = yield* find(id)
      if (meeting.seatsLeft === 0) return yield* new MeetingFull({ meetingId: id, seats: meeting.seats })
      const joined = new Meeting({ ...meeting, users: [...meeting.users, user] })
      meetings.set(id, joined)
      return joined
    })

    return Meetings.of({ open, find, join })
  })
}

const OpenMeetingLive = OpenMeeting.toLayer(
  Effect.map(Meetings, (meetings) => ({ seats, title }) => meetings.open(title, seats))
)

const FindMeetingLive = FindMeeting.toLayer(
  Effect.map(Meetings, (meetings) => ({ meetingId }) => meetings.find(meetingId))
)

const JoinMeetingLive = JoinMeeting.toLayer(Effect.gen(function*() {
  const meetings = yield* Meetings
  return Effect.fn("JoinMeeting")(function*({ meetingId, user }, { collectAll }) {
    const { seatsLeft } = yield* meetings.join(meetingId, user)
    yield* collectAll([new UserJoined({ meetingId, user }), new SeatTaken({ meetingId, seatsLeft })])
    return { seatsLeft }
  })
}))

// The correlation of the request is that of everything that follows from it.
const logCorrelated = Effect.fn("logCorrelated")(function*(message: string) {
  const correlation = yield* Correlation.current
  yield* Effect.log(message).pipe(Effect.annotateLogs({ correlation: correlation?.correlationId }))
})

const Welcome = EventHandler.make("Welcome", { on: UserJoined })
const WelcomeLive = Welcome.toLayer(({ user }) => logCorrelated(`Welcome, ${user}`))

class MeetingsFlow extends EventFlow.make("Meetings", {
  commands: [OpenMeeting, JoinMeeting, FindMeeting],
  handlers: [Welcome]
}) {}

/** The commands and their events; needs a broker. */
export const MeetingsLive = MeetingsFlow.layer().pipe(
  Layer.provide([OpenMeetingLive, JoinMeetingLive, FindMeetingLive, WelcomeLive]),
  Layer.provide(Meetings.layerMemory)
)

const Announce = EventHandler.make("Announce", { on: SeatTaken })
const AnnounceLive = Announce.toLayer(({ meetingId, seatsLeft }) =>
  logCorrelated(`Meeting ${meetingId} has ${seatsLeft} seat(s) left`)
)

/** What another program would do with the notifications; needs a broker and its subscriber. */
export const AnnouncementsLive = EventConsumer.layer([Announce], { group: "announcements", dedupe: true }).pipe(
  Layer.provide([AnnounceLive, Inbox.layerMemory()])
)
