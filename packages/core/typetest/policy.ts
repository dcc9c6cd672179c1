/** What the types of total policies promise: what a handler can fail with, somebody has decided. */
import {
  Command,
  ConsumerPolicy,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  NotificationEvent
} from "@event-flow/core"
import { Schedule, Schema } from "effect"
import { check, type Equals } from "./support.ts"

class Delayed extends NotificationEvent.Class<Delayed>()("Delayed", {}, { topic: "flights" }) {}
class Alarmed extends DomainEvent.Class<Alarmed>()("Alarmed", {}) {}
class NoSeat extends Schema.TaggedError<NoSeat>()("NoSeat", { seat: Schema.String }) {}
class Timeout extends Schema.TaggedError<Timeout>()("Timeout", {}) {}
class Silent extends Schema.TaggedError<Silent>()("Silent", {}) {}
class Report extends Command.Class<Report>()("Report", {}) {}

const Show = EventHandler.make("Show", { on: Delayed, error: Schema.Union([NoSeat, Timeout]) })
const Count = EventHandler.make("Count", { on: Delayed })
const Tell = EventHandler.make("Tell", { on: Delayed, error: Schema.String })
const Raise = EventHandler.make("Raise", { on: Delayed, emits: [Alarmed], error: Timeout })
const Pass = EventHandler.make("Pass", { on: Delayed, emits: [Delayed] })
const Alarm = EventHandler.make("Alarm", { on: Alarmed, error: Silent })
class Board extends EventFlow.make("Board", { commands: [Report], handlers: [Raise, Alarm] }) {}

const dead = ConsumerPolicy.deadLetter()
const again = ConsumerPolicy.retry(ConsumerPolicy.defaultSchedule)
const rest = { undecodable: dead, defect: dead, inbox: ConsumerPolicy.retry(ConsumerPolicy.inboxSchedule) }

check<Equals<ConsumerPolicy.Errors<readonly [typeof Show, typeof Count]>, NoSeat | Timeout>>()
check<Equals<ConsumerPolicy.Errors<typeof Board>, Timeout | Silent>>()

// --- each tag that a handler declares has a decision ---

const policy = ConsumerPolicy.total([Show, Count], {
  ...rest,
  errors: { NoSeat: ({ seat }, { message }) => seat === message.topic ? dead : again, Timeout: again }
})
EventConsumer.layer([Show, Count], { group: "board", policy })
ConsumerPolicy.total([Count], { ...rest, errors: {} })

ConsumerPolicy.total([Show], {
  ...rest,
  // @ts-expect-error nobody has decided about Timeout
  errors: { NoSeat: dead }
})
ConsumerPolicy.total([Show], {
  ...rest,
  // @ts-expect-error no handler fails with Late
  errors: { NoSeat: dead, Timeout: again, Late: dead }
})
ConsumerPolicy.total([Show], {
  ...rest,
  // @ts-expect-error a function has the error of its tag
  errors: { NoSeat: ({ late }) => late ? dead : again, Timeout: again }
})

// --- of a flow, also what follow-ups fail with, and what cannot be published ---

ConsumerPolicy.total(Board, { ...rest, errors: { Timeout: again, Silent: dead } })
ConsumerPolicy.total(Board, {
  ...rest,
  // @ts-expect-error nobody has decided about Silent, the error of a follow-up
  errors: { Timeout: again }
})
ConsumerPolicy.total([Pass], { ...rest, errors: {}, publish: again })
// @ts-expect-error nobody has decided what happens when a follow-up cannot be published
ConsumerPolicy.total([Pass], { ...rest, errors: {} })

// --- errors without a tag ---

ConsumerPolicy.total([Tell], { ...rest, errors: {}, untagged: (text) => text.length > 3 ? dead : again })
// @ts-expect-error nobody has decided about errors without a tag
ConsumerPolicy.total([Tell], { ...rest, errors: {} })

// --- everything else ---

// @ts-expect-error nobody has decided about what cannot be decoded
ConsumerPolicy.total([Count], { errors: {}, defect: dead, inbox: rest.inbox })
// @ts-expect-error nobody has decided about defects
ConsumerPolicy.total([Count], { errors: {}, undecodable: dead, inbox: rest.inbox })
// @ts-expect-error nobody has decided about the inbox
ConsumerPolicy.total([Count], { errors: {}, undecodable: dead, defect: dead })
// @ts-expect-error the inbox never puts a message aside
ConsumerPolicy.total([Count], { ...rest, errors: {}, inbox: dead })
ConsumerPolicy.total([Count], { ...rest, errors: {}, inbox: ConsumerPolicy.stop })
ConsumerPolicy.total([Count], { ...rest, errors: {}, defect: () => ConsumerPolicy.retry(Schedule.recurs(1)) })
