/** What the types of events promise. */
import { ConsumedMessage, DomainEvent, Event, NotificationEvent, Upcast } from "@event-flow/core"
import type { EventFlowError } from "@event-flow/core"
import { Context, Effect, Schema, SchemaGetter } from "effect"
import { check, type Equals } from "./support.ts"

class Joined extends DomainEvent.Class<Joined>()("Joined", { userId: Schema.String }) {}

class Announced extends NotificationEvent.Class<Announced>()("Announced", {
  id: Schema.String,
  on: Schema.DateFromString,
  title: Schema.optionalKey(Schema.String)
}, { topic: "meetings" }) {}

// --- instances have the decoded fields, their tag and their kind ---

check<Equals<Joined["userId"], string>>()
check<Equals<Joined["_tag"], "Joined">>()
check<Equals<typeof Joined["tag"], "Joined">>()
check<Equals<Announced["on"], Date>>()
check<Equals<Event.Instance<typeof Joined | typeof Announced>, Joined | Announced>>()

export const joined = new Joined({ userId: "1" })
export const isDomain: DomainEvent.Any = joined
export const isNotification: NotificationEvent.Any = new Announced({ id: "1", on: new Date() })

// @ts-expect-error a field is missing
new Joined({})
// @ts-expect-error a field is of another type
new Joined({ userId: 1 })
// @ts-expect-error a field is unknown
new Joined({ userId: "1", other: 1 })
// @ts-expect-error the encoded form is not what a constructor takes
new Announced({ id: "1", on: "2026-01-01" })
// @ts-expect-error events are immutable
joined.userId = "2"
// @ts-expect-error a domain event is no notification event
export const notANotification: NotificationEvent.Any = joined
// @ts-expect-error a notification event is no domain event
export const notADomainEvent: DomainEvent.Any = isNotification

// --- events without fields need no argument, those with fields do ---

class Empty extends DomainEvent.Class<Empty>()("Empty", {}) {}
export const empty = new Empty()
// @ts-expect-error it has a field that must be given
new Joined()

// --- the class itself is the type parameter ---

// @ts-expect-error Self is missing
export class NoSelf extends DomainEvent.Class()("NoSelf", {}) {}
// @ts-expect-error Self is missing
export class NoSelfNotification extends NotificationEvent.Class()("NoSelf", {}, { topic: "t" }) {}
// @ts-expect-error Self is missing
export class NoSelfExtended extends Joined.extend()("NoSelfExtended", {}) {}

check<
  Equals<
    ReturnType<ReturnType<typeof DomainEvent.Class<never>>>,
    "Missing `Self` generic: write `class X extends DomainEvent.Class<X>()(\"X\", { ... }) {}`"
  >
>()

// --- extending gives another event, with a tag and a route of its own ---

class JoinedLate extends Joined.extend<JoinedLate>()("JoinedLate", { minutes: Schema.Int }) {}
check<Equals<JoinedLate["_tag"], "JoinedLate">>()
check<Equals<JoinedLate["userId"], string>>()
check<Equals<JoinedLate["minutes"], number>>()
// @ts-expect-error it is no instance of the event that it extends
export const base: Joined = new JoinedLate({ userId: "1", minutes: 1 })

class Renamed extends Joined.extend<Renamed>()("Renamed", { userId: Schema.Int }) {}
check<Equals<Renamed["userId"], number>>()

class AnnouncedAgain extends Announced.extend<AnnouncedAgain>()("AnnouncedAgain", { times: Schema.Int }, {
  topic: "again",
  key: ({ id, times }) => `${id} ${times}`
}) {}
check<Equals<AnnouncedAgain["on"], Date>>()
// @ts-expect-error an extended notification event needs its own route
export class NoRoute extends Announced.extend<NoRoute>()("NoRoute", {}) {}

// --- a key function sees the decoded fields ---

export class Keyed extends NotificationEvent.Class<Keyed>()("Keyed", {
  id: Schema.String,
  on: Schema.DateFromString,
  title: Schema.optionalKey(Schema.String)
}, {
  topic: "keyed",
  key: (event) => {
    check<Equals<typeof event.on, Date>>()
    check<Equals<typeof event._tag, "Keyed">>()
    check<Equals<typeof event.id, string>>()
    return event.title
  }
}) {}

export class BadKey extends NotificationEvent.Class<BadKey>()("BadKey", { n: Schema.Int }, {
  topic: "t",
  // @ts-expect-error a key is text
  key: (event) => event.n
}) {}

export class UnknownField extends NotificationEvent.Class<UnknownField>()("UnknownField", { n: Schema.Int }, {
  topic: "t",
  // @ts-expect-error the event has no such field
  key: (event) => event.id
}) {}

// --- what is on the wire must encode and decode from itself alone ---

class Cipher extends Context.Service<Cipher, { readonly key: string }>()("Cipher") {}
const Decrypted = Schema.String.pipe(Schema.decodeTo(Schema.String, {
  decode: SchemaGetter.transformEffect((text: string) => Effect.as(Cipher, text)),
  encode: SchemaGetter.transform((text: string) => text)
}))
const Encrypted = Schema.String.pipe(Schema.decodeTo(Schema.String, {
  decode: SchemaGetter.transform((text: string) => text),
  encode: SchemaGetter.transformEffect((text: string) => Effect.as(Cipher, text))
}))
// @ts-expect-error decoding needs a service
export class Undecodable extends NotificationEvent.Class<Undecodable>()("Undecodable", { text: Decrypted }, {
  topic: "t"
}) {}
// @ts-expect-error encoding needs a service
export class Unencodable extends NotificationEvent.Class<Unencodable>()("Unencodable", { text: Encrypted }, {
  topic: "t"
}) {}
export class Nested extends NotificationEvent.Class<Nested>()("Nested", {
  // @ts-expect-error encoding needs a service, within an optional structure
  deep: Schema.optionalKey(Schema.Array(Schema.Struct({ text: Encrypted })))
}, { topic: "t" }) {}
// @ts-expect-error so does an added field
export class Added extends Announced.extend<Added>()("Added", { text: Encrypted }, { topic: "t" }) {}
// A domain event stays in its process
export class Local extends DomainEvent.Class<Local>()("Local", { text: Encrypted }) {}

// @ts-expect-error a notification event needs a topic
export class NoTopic extends NotificationEvent.Class<NoTopic>()("NoTopic", {}, {}) {}

// --- the version is that at which the chain of upcasts ends ---

const V1 = Schema.Struct({ id: Schema.String })
const V2 = Schema.Struct({ id: Schema.String, title: Schema.String })
const toV2 = Upcast.from(V1).toCurrent((v1) => ({ id: v1.id, n: 0 }))
const toV3 = Upcast.from(V1)
  .to(V2, (v1) => {
    check<Equals<typeof v1, typeof V1.Type>>()
    return { ...v1, title: "" }
  })
  .toCurrent((v2) => {
    check<Equals<typeof v2, typeof V2.Type>>()
    return { id: v2.id, n: v2.title.length }
  })

check<Equals<typeof toV2["version"], 2>>()
check<Equals<typeof toV3["version"], 3>>()

const current = { id: Schema.String, n: Schema.Int }

export class Versioned extends NotificationEvent.Class<Versioned>()("Versioned", current, {
  topic: "t",
  version: 3,
  upcast: toV3
}) {}

export class TooShort extends NotificationEvent.Class<TooShort>()("TooShort", current, {
  topic: "t",
  version: 3,
  // @ts-expect-error the chain ends at version 2
  upcast: toV2
}) {}

export class TooLong extends NotificationEvent.Class<TooLong>()("TooLong", current, {
  topic: "t",
  version: 2,
  // @ts-expect-error the chain ends at version 3
  upcast: toV3
}) {}

export class NoVersion extends NotificationEvent.Class<NoVersion>()("NoVersion", current, {
  topic: "t",
  // @ts-expect-error the version is 1 when it is not given
  upcast: toV2
}) {}

export class OtherFields extends NotificationEvent.Class<OtherFields>()("OtherFields", { id: Schema.Int }, {
  topic: "t",
  version: 2,
  // @ts-expect-error the chain does not give what the constructor takes
  upcast: toV2
}) {}

// @ts-expect-error a step does not give the next version
Upcast.from(V1).to(V2, (v1) => v1)

// @ts-expect-error a chain without its last step is none
export const incomplete: Upcast.Upcast<2, unknown> = Upcast.from(V1)

// --- what an event says of its message fits its fields ---

const removed = { id: Schema.String, reason: Schema.optionalKey(Schema.String) }
const key = ({ id }: { readonly id: string }) => id
NotificationEvent.Class<object>()("Removed", removed, { topic: "t", key, tombstone: (id) => ({ id }), id: key })
// @ts-expect-error a tombstone has no such field
NotificationEvent.Class<object>()("Removed", removed, { topic: "t", key, tombstone: (id) => ({ name: id }) })
// @ts-expect-error an id is text
NotificationEvent.Class<object>()("Removed", removed, { topic: "t", id: () => 1 })
// @ts-expect-error the event has no such field
NotificationEvent.Class<object>()("Removed", removed, { topic: "t", id: (event) => event.name })
// @ts-expect-error a header is text, bytes or nothing
NotificationEvent.Class<object>()("Removed", removed, { topic: "t", headers: () => ({ n: 1 }) })

// @ts-expect-error there is no consumed message where no consumer runs the handler
export const attempt = Effect.map(ConsumedMessage.current, (consumed) => consumed.attempt)

// --- events are matched exhaustively ---

declare const event: Event.Any

check<Equals<ReturnType<typeof matched>, 1 | "two">>()
export const matched = () => Event.match(event, { Domain: () => 1 as const, Notification: () => "two" as const })

// @ts-expect-error a kind is missing
Event.match(event, { Domain: () => 1 })
// @ts-expect-error there is no such kind
Event.match(event, { Domain: () => 1, Notification: () => 2, Third: () => 3 })
// @ts-expect-error each case sees its own kind
Event.match(event, { Domain: (event: NotificationEvent.Any) => event, Notification: () => undefined })

check<Equals<Event.Any, DomainEvent.Any | NotificationEvent.Any>>()
// @ts-expect-error a domain event is not published
export const published = (event: DomainEvent.Any): NotificationEvent.Any => event
// @ts-expect-error an object that looks like an event is none
export const lookalike: Event.Any = { _tag: "Joined" }

// --- the errors of a flow are a union of tagged errors ---

check<
  Equals<
    EventFlowError.EventFlowError["_tag"],
    "EventHandlerError" | "BrokerNotFound" | "PublishError" | "CascadeTooDeep" | "EventsFailed"
  >
>()
