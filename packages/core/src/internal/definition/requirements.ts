/** What the layers of flows and consumers require of event handlers, computed from their definitions. */
import type * as Event from "../../Event.ts"
import type * as EventHandler from "../../EventHandler.ts"
import type { TypeId } from "./eventClass.ts"

/** The handlers among these that handle a domain event. */
export type DomainHandlers<H extends EventHandler.Any> = HandlersOf<H, "Domain">

/** The handlers among these that handle a notification event. */
export type NotificationHandlers<H extends EventHandler.Any> = HandlersOf<H, "Notification">

type HandlersOf<H extends EventHandler.Any, Kind extends Event.AnyClass[typeof TypeId]> = H extends EventHandler.Any
  ? Kind extends H["on"][number][typeof TypeId] ? H : never
  : never

/** The implementations of handlers. */
export type HandlerImplementations<H extends EventHandler.Any> = H extends EventHandler.Any
  ? EventHandler.EventHandlerImplementation<H["name"]>
  : never
