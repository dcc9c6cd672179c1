/**
 * The union of domain events and notification events, which differ by a literal
 * on each instance.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as DomainEvent from "./DomainEvent.ts"
import * as EventClass from "./internal/definition/eventClass.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"

/**
 * Any event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Any = DomainEvent.Any | NotificationEvent.Any

/**
 * Any event class.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type AnyClass = DomainEvent.AnyClass | NotificationEvent.AnyClass

/**
 * The instance type of an event class, or of a union of them.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Instance<C> = C extends new(...args: never) => infer Self ? Self : never

/**
 * Matches an event by its kind. The match is exhaustive: with a third kind of
 * event it would not compile.
 *
 * @stability unstable
 * @category pattern matching
 * @since 0.1.0
 */
export const match = <A, B = A>(event: Any, cases: {
  readonly Domain: (event: DomainEvent.Any) => A
  readonly Notification: (event: NotificationEvent.Any) => B
}): A | B => {
  switch (event[EventClass.TypeId]) {
    case "Domain":
      return cases.Domain(event)
    case "Notification":
      return cases.Notification(event)
  }
}
