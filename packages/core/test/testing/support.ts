/** What the tests of `testing` share: a flow in which somebody joins a meeting. */
import { Command, DomainEvent, EventFlow, EventHandler, NotificationEvent } from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"

export class Full extends Schema.TaggedError<Full>()("Full", { meetingId: Schema.String }) {
  override get message(): string {
    return `${this.meetingId} is full`
  }
}

export class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}
export class GreetingSent extends DomainEvent.Class<GreetingSent>()("GreetingSent", { userId: Schema.String }) {}
export class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, {
  topic: "meetings",
  key: (event) => event.id
}) {}
export class Shown extends NotificationEvent.Class<Shown>()("Shown", { id: Schema.String }, { topic: "shown" }) {}

export class Join extends Command.Class<Join>()("Join", {
  payload: { userId: Schema.String },
  success: Schema.Int,
  error: Full,
  emits: [UserJoined, Announced]
}) {}
export class Book extends Command.Class<Book>()("Book", { success: Schema.Int, error: Full }) {}

export const Greet = EventHandler.make("Greet", { on: UserJoined, emits: [GreetingSent], error: Full })
export const Count = EventHandler.make("Count", { on: UserJoined })
export const Thank = EventHandler.make("Thank", { on: GreetingSent })
export const Board = EventHandler.make("Board", { on: Announced, emits: [Shown], error: Full })
export const Screen = EventHandler.make("Screen", { on: Shown })

export const JoinLive = Join.toLayer(Effect.fnUntraced(function*(command, { collect }) {
  if (command.userId === "late") return yield* new Full({ meetingId: "m" })
  yield* collect(new UserJoined({ userId: command.userId }))
  yield* collect(new Announced({ id: `m-${command.userId}` }))
  return 3
}))
export const GreetLive = Greet.toLayer((event, { collect }) => collect(new GreetingSent({ userId: event.userId })))
export const nothing = () => Effect.void
export const quiet = [Count.toLayer(nothing), Thank.toLayer(nothing), Screen.toLayer(nothing)] as const

export class Meetings extends EventFlow.make("Meetings", {
  commands: [Join],
  handlers: [Greet, Count, Thank, Board, Screen]
}) {}

export const main = (handlers?: {
  readonly greet?: Layer.Layer<EventHandler.EventHandlerImplementation<"Greet">>
  readonly board?: Layer.Layer<EventHandler.EventHandlerImplementation<"Board">>
}) =>
  Meetings.layer().pipe(
    // Merged: a consumer of the flow needs those of notification events too
    Layer.provideMerge([
      JoinLive,
      handlers?.greet ?? GreetLive,
      handlers?.board ?? Board.toLayer((event, { collect }) => collect(new Shown({ id: event.id }))),
      ...quiet
    ])
  )
