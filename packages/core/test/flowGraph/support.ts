/** What the tests of the graph share: flows of a meeting. */
import { Command, DomainEvent, EventHandler, type FlowGraph, NotificationEvent, Query } from "@event-flow/core"
import { Schema } from "effect"

export class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}
export class GreetingSent extends DomainEvent.Class<GreetingSent>()("GreetingSent", { userId: Schema.String }) {}
export class MeetingFull extends DomainEvent.Class<MeetingFull>()("MeetingFull", {}) {}
export class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, {
  topic: "meetings"
}) {}
export class DelayFound extends NotificationEvent.Class<DelayFound>()("DelayFound", { id: Schema.String }, {
  topic: "delays"
}) {}

export class Join extends Command.Class<Join>()("Join", { emits: [UserJoined, Announced] }) {}
export class Leave extends Command.Class<Leave>()("Leave", { emits: [MeetingFull] }) {}
export class Seats extends Query.Class<Seats>()("Seats", { success: Schema.Int }) {}

export const Greet = EventHandler.make("Greet", { on: UserJoined, emits: [GreetingSent] })
export const Count = EventHandler.make("Count", { on: UserJoined })
export const Welcome = EventHandler.make("Welcome", { on: GreetingSent, emits: [UserJoined] })
export const Thank = EventHandler.make("Thank", { on: GreetingSent })
export const Board = EventHandler.make("Board", { on: DelayFound })
export const Mirror = EventHandler.make("Mirror", { on: Announced, emits: [Announced] })
export const OnFull = EventHandler.make("OnFull", { on: MeetingFull })
export class Lost extends DomainEvent.Class<Lost>()("Lost", {}) {}
export const Orphan = EventHandler.make("Orphan", { on: Lost })

export const names = (nodes: ReadonlyArray<FlowGraph.Node>) => nodes.map((node) => node.name)
