/**
 * Counts every command, event and message of both flows, from outside: no handler knows of it.
 */
import { FlowObserver, type Message, MessageCodec, type NotificationEvent } from "@event-flow/core"
import { Context, Effect, Exit, Layer, Schedule } from "effect"

export interface CommandCounts {
  sent: number
  succeeded: number
  failed: number
}

export interface EventCounts {
  collected: number
  /** By the name of the handler. */
  readonly handlerRuns: Map<string, number>
}

export interface MessageCounts {
  published: number
  /** Taken up by a consumer, a redelivery included. */
  consumed: number
  /** What became of it then. */
  readonly outcomes: Record<FlowObserver.DeliveryOutcome, number>
}

/** By the name of the command, event or type of message. */
export interface Counts {
  readonly commands: ReadonlyMap<string, CommandCounts>
  readonly events: ReadonlyMap<string, EventCounts>
  readonly messages: ReadonlyMap<string, MessageCounts>
}

export class FlowCounts extends Context.Service<FlowCounts, {
  readonly get: Effect.Effect<Counts>
  /** How many messages of an event have been published. */
  readonly published: (event: NotificationEvent.AnyClass) => Effect.Effect<number>
  /** Waits until so many messages of an event have been consumed, whatever became of them. */
  readonly awaitConsumed: (event: NotificationEvent.AnyClass, count: number) => Effect.Effect<void>
}>()("examples/flights/FlowCounts") {
  /** Watches the flows and consumers that are built on top of it. */
  static readonly layer = Layer.unwrap(Effect.sync(() => {
    const commands = new Map<string, CommandCounts>()
    const events = new Map<string, EventCounts>()
    const messages = new Map<string, MessageCounts>()

    const command = getOrAdd(commands, () => ({ sent: 0, succeeded: 0, failed: 0 }))
    const event = getOrAdd(events, () => ({ collected: 0, handlerRuns: new Map() }))
    const message = getOrAdd(messages, () => ({
      published: 0,
      consumed: 0,
      outcomes: { handled: 0, duplicate: 0, skipped: 0, postponed: 0, dead_lettered: 0, returned: 0, held: 0 }
    }))

    // A run stands for a command or a delivery from its start to its end.
    const runs = new WeakMap<object, string>()
    const news = new WeakSet<Message.Message>()
    const observer = FlowObserver.make({
      commandStarted: (run, { _tag }) => {
        runs.set(run, _tag)
        command(_tag).sent++
      },
      commandEnded: (run, exit) => {
        const counts = command(runs.get(run)!)
        if (Exit.isSuccess(exit)) counts.succeeded++
        else counts.failed++
      },
      collected: (_run, collected) => {
        for (const { _tag } of collected) event(_tag).collected++
      },
      handlerStarted: (_run, handler, { _tag }) => {
        const { handlerRuns } = event(_tag)
        handlerRuns.set(handler, (handlerRuns.get(handler) ?? 0) + 1)
      },
      published: (_events, messages, delivery) => {
        // What a consumer puts aside is no news
        if (delivery === undefined) { for (const message of messages) news.add(message) }
      },
      publishEnded: (messages, exit) => {
        if (Exit.isFailure(exit)) return
        for (const one of messages) if (news.has(one)) message(typeOf(one.attributes)).published++
      },
      deliveryStarted: (run, { attributes }) => {
        runs.set(run, typeOf(attributes))
        message(typeOf(attributes)).consumed++
      },
      deliveryEnded: (run, outcome) => {
        message(runs.get(run)!).outcomes[outcome]++
      }
    })

    const flowCounts = FlowCounts.of({
      get: Effect.sync(() => ({ commands, events, messages })),
      published: (event) => Effect.sync(() => messages.get(MessageCodec.typeOf(event))?.published ?? 0),
      awaitConsumed: (event, count) =>
        Effect.sync(() => consumed(messages.get(MessageCodec.typeOf(event)))).pipe(
          Effect.repeat({ until: (consumed) => consumed >= count, schedule: Schedule.spaced("20 millis") }),
          Effect.asVoid
        )
    })
    return Layer.merge(Layer.succeed(FlowCounts)(flowCounts), FlowObserver.layer(observer))
  }))
}

/** A message counts once: what was returned comes again, and a duplicate has come before. */
const consumed = (counts: MessageCounts | undefined): number =>
  counts === undefined ? 0 : counts.outcomes.handled + counts.outcomes.skipped + counts.outcomes.dead_lettered

const typeOf = (attributes: Readonly<Record<string, string>>): string => attributes["type"] ?? "(no type)"

const getOrAdd = <V>(map: Map<string, V>, make: () => V) => (key: string): V => {
  const value = map.get(key) ?? make()
  map.set(key, value)
  return value
}
