/** What the tests of the testing module share: a flow with a consumer of its own notification events. */
import { Command, DomainEvent, EventConsumer, EventFlow, EventHandler, NotificationEvent } from "@event-flow/core"
import { RecordingBroker, Tracker } from "@event-flow/core/testing"
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

export class Main
  extends EventFlow.make("Main", { commands: [Join], handlers: [Greet, Count, Thank, Board, Screen] })
{}

export const nothing = () => Effect.void

const JoinLive = Join.toLayer(Effect.fnUntraced(function*(command, { collect }) {
  if (command.userId === "late") return yield* new Full({ meetingId: "m" })
  yield* collect(new UserJoined({ userId: command.userId }))
  yield* collect(new Announced({ id: `m-${command.userId}` }))
  return 3
}))
const GreetLive = Greet.toLayer((event, { collect }) => collect(new GreetingSent({ userId: event.userId })))
const BoardLive = Board.toLayer((event, { collect }) => collect(new Shown({ id: event.id })))

/** The flow, with a handler of the test's own. */
export const main = (greet: Layer.Layer<EventHandler.EventHandlerImplementation<"Greet">> = GreetLive) =>
  Main.layer().pipe(Layer.provide([JoinLive, greet, Count.toLayer(nothing), Thank.toLayer(nothing)]))

/** Its consumer. */
export const consumer = (
  board: Layer.Layer<EventHandler.EventHandlerImplementation<"Board">> = BoardLive,
  options?: Partial<EventConsumer.Options<false>>
) =>
  EventConsumer.layer(Main, { group: "board", ...options }).pipe(
    Layer.provide([board, Screen.toLayer(nothing)])
  )

/** Both, tracked. */
export const app = (...args: Parameters<typeof consumer>) =>
  consumer(...args).pipe(
    Layer.provideMerge(main()),
    Layer.provideMerge(Tracker.layerMemoryBroker())
  )

/** The flow alone, tracked. */
export const tracked = main().pipe(Layer.provide(RecordingBroker.layer), Layer.provideMerge(Tracker.layer))
