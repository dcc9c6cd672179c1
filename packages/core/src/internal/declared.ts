/** What a definition declares, in one form. */
import type * as Command from "../Command.ts"
import * as Event from "../Event.ts"
import type * as NotificationEvent from "../NotificationEvent.ts"

export const isNotification = (event: Event.AnyClass): event is NotificationEvent.AnyClass =>
  event[Event.TypeId] === "Notification"

/** The events of a handler, which names one or several. */
export const eventsOf = (
  handler: { readonly on: Event.AnyClass | ReadonlyArray<Event.AnyClass> }
): ReadonlyArray<Event.AnyClass> => typeof handler.on === "function" ? [handler.on] : handler.on

/** The commands that a command or a handler may send: a class, or the tag of a command that is defined later. */
export const sendsOf = (definition: object): ReadonlyArray<Command.AnyClass | string> =>
  // The option is younger than this function, which therefore asks for it by shape
  (definition as { readonly sends?: ReadonlyArray<Command.AnyClass | string> }).sends ?? []
