/** The kinds of event classes. */
import type * as DomainEvent from "../../DomainEvent.ts"
import type * as Event from "../../Event.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import { TypeId } from "./eventClass.ts"

export const isDomainClass = (event: Event.AnyClass): event is DomainEvent.AnyClass => event[TypeId] === "Domain"

export const isNotificationClass = (event: Event.AnyClass): event is NotificationEvent.AnyClass =>
  event[TypeId] === "Notification"
