/**
 * Watches a flow from inside: what `@event-flow/core/testing` records and draws.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Exit from "effect/Exit"
import type * as Event from "./Event.ts"
import type { Message } from "./Message.ts"

/**
 * The calls that a flow makes to its observer, synchronously and in order. An
 * observer must not throw.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface FlowObserver {
  /** A command's handler starts; `parent`: the handler run in which it was sent. */
  readonly commandStarted: (run: object, command: { readonly _tag: string }, parent: object | undefined) => void
  /** An event handler starts. */
  readonly handlerStarted: (run: object, handler: string, event: Event.Any) => void
  /** The handler of a command or of an event has ended, with what it collected. */
  readonly handlerEnded: (
    run: object,
    exit: Exit.Exit<unknown, unknown>,
    collected: ReadonlyArray<Event.Any>
  ) => void
  /** The dispatch of a command, events included, has ended. */
  readonly commandEnded: (run: object, exit: Exit.Exit<unknown, unknown>) => void
  /** Notification events go to the broker as these messages. */
  readonly published: (events: ReadonlyArray<Event.Any>, messages: ReadonlyArray<Message>) => void
  /** The consumer starts with an event that came from a broker. */
  readonly consumed: (message: Message, event: Event.Any) => void
}

/**
 * The observer of the flows built below it; read when layers are built.
 * Default: none, and then nothing is spent on it.
 *
 * @stability unstable
 * @category references
 * @since 0.1.0
 */
export const Current: Context.Reference<FlowObserver | undefined> = Context.Reference<FlowObserver | undefined>(
  "@event-flow/core/FlowObserver/Current",
  { defaultValue: () => undefined }
)

/**
 * The run of a handler in which a nested command is sent.
 *
 * @stability unstable
 * @category references
 * @since 0.1.0
 */
export const CurrentRun: Context.Reference<object | undefined> = Context.Reference<object | undefined>(
  "@event-flow/core/FlowObserver/CurrentRun",
  { defaultValue: () => undefined }
)
