/**
 * The way back in: takes messages from a `Subscriber`, decodes them, drops
 * duplicates, runs the handlers of the `EventMap` through the `EventProcessor`,
 * and acknowledges.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type * as Broker from "./Broker.ts"
import * as ConsumerPolicy from "./ConsumerPolicy.ts"
import * as EventMap from "./EventMap.ts"
import * as EventProcessor from "./EventProcessor.ts"
import * as Inbox from "./Inbox.ts"
import { makeAfterFailure } from "./internal/consumer/failure.ts"
import { makeOnce } from "./internal/consumer/once.ts"
import * as Pump from "./internal/consumer/pump.ts"
import { makeWatch } from "./internal/consumer/watch.ts"
import { DeliveryWorker, type EventHandler, type Shared } from "./internal/consumer/worker.ts"
import { TypeId as EventTypeId } from "./internal/eventClass.ts"
import type { Mediator } from "./internal/mediatorId.ts"
import * as Message from "./Message.ts"
import * as MessageCodec from "./MessageCodec.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"
import * as Settings from "./Settings.ts"
import * as Subscriber from "./Subscriber.ts"

/**
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options<Dedupe extends boolean = boolean> {
  /** The consumer group: each message is handled once by every group. */
  readonly group: string
  /** Default: the topics of the notification events that the `EventMap` has handlers for. */
  readonly topics?: Arr.NonEmptyReadonlyArray<string> | undefined
  /** What to do with what cannot be handled. Default: `ConsumerPolicy.defaultPolicy`. */
  readonly policy?: ConsumerPolicy.ConsumerPolicy | undefined
  /**
   * How many messages are handled at once; those of one key in order all the
   * same. A whole number from 1. Default: 1.
   */
  readonly concurrency?: number | undefined
  /**
   * How many messages are taken and not yet acknowledged, at most; fewer than
   * `concurrency` bound that as well. A whole number from 1. Default: 16 for
   * each of `concurrency`.
   */
  readonly maxInFlight?: number | undefined
  /**
   * Whether to drop duplicates; requires an `Inbox`. Messages are told apart by
   * their `source` and `id`, which together are unique (CloudEvents 1.0). One
   * without an id cannot be told from another: it is always handled, and the
   * first such message is logged at `Warn`. Default: false.
   */
  readonly dedupe?: Dedupe | undefined
  /**
   * How long closing waits for the handlers that run, before it interrupts them.
   * What was taken and not started is given back at once. Default: 30 seconds.
   */
  readonly drainTimeout?: Duration.Input | undefined
}

/**
 * The consumer ended by itself: the policy said `Stop`, or a dead letter or a
 * retry could not be published. The message is unacknowledged.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class ConsumerStopped
  extends Schema.TaggedError<ConsumerStopped>("@event-flow/core/EventConsumer/ConsumerStopped")("ConsumerStopped", {
    group: Schema.String,
    topic: Schema.String,
    messageId: Schema.String,
    detail: Schema.String,
    cause: Schema.Defect()
  })
{
  override get message(): string {
    return `Consumer "${this.group}" stopped at message ${this.messageId} of topic "${this.topic}", ` +
      `which stays unacknowledged: ${this.detail}`
  }
}

/**
 * The `EventMap` has no handler of a notification event, and no topics were
 * given: there is nothing to consume.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class NothingToConsume
  extends Schema.TaggedError<NothingToConsume>("@event-flow/core/EventConsumer/NothingToConsume")(
    "NothingToConsume",
    { group: Schema.String }
  )
{
  override get message(): string {
    return `Consumer "${this.group}" has nothing to consume: list handlers of notification events in the EventMap`
  }
}

/**
 * Why a consumer did not start: an option is wrong, there is nothing to consume,
 * or the subscription was refused.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export type StartError = Settings.InvalidSetting | NothingToConsume | Subscriber.SubscribeError

/**
 * Why a consumer ended.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export type ConsumerError = ConsumerStopped | Subscriber.SubscribeError

/**
 * What a consumer requires.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Requirements<Dedupe extends boolean> =
  | Subscriber.Subscriber
  | EventProcessor.EventProcessor
  | EventMap.EventMap
  | Mediator
  | Broker.Broker
  | (true extends Dedupe ? Inbox.Inbox : never)

/**
 * A consumer that runs in the background of a layer.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class EventConsumer extends Context.Service<EventConsumer, {
  readonly group: string
  readonly topics: ReadonlyArray<string>
  /** Never succeeds; fails when the consumer has ended by itself. */
  readonly join: Effect.Effect<never, ConsumerError>
}>()("@event-flow/core/EventConsumer") {}

/**
 * Consumes in the background for as long as the layer is open. It is subscribed
 * when the layer is built. A consumer that ends by itself logs the error at
 * `Fatal` and gives it to whoever joins it.
 *
 * **Gotchas**
 *
 * Layers that are merged close at once. Provide the consumer to what publishes
 * to it in the same process (`Layer.provide`), so that it closes after it.
 *
 * **Example** (A delay board)
 *
 * ```ts
 * const Board = EventConsumer.layer({ group: "delay-board", concurrency: 4 }).pipe(
 *   Layer.provide(EventFlow.layer({ handlers: [ShowDelay] })),
 *   Layer.provide([ShowDelayLive, MemoryBroker.layer()])
 * )
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = <const Dedupe extends boolean = false>(
  options: Options<Dedupe>
): Layer.Layer<EventConsumer, StartError, Requirements<Dedupe>> =>
  Layer.effect(
    EventConsumer,
    Effect.gen(function*() {
      // Its own scope: a consumer that ends by itself lets go of what it has taken
      const scope = yield* Scope.fork(yield* Effect.scope)
      const consumer = yield* Scope.provide(start(options), scope)
      const fiber = yield* consumer.run.pipe(
        Effect.tapCause((cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logFatal("The consumer has ended", cause)
        ),
        Effect.onExit((exit) => Scope.close(scope, exit)),
        Effect.annotateLogs({ package: "@event-flow/core", module: "EventConsumer", group: options.group }),
        Effect.forkScoped
      )
      return EventConsumer.of({ group: options.group, topics: consumer.topics, join: Fiber.join(fiber) })
    })
  )

/**
 * Consumes in the calling fiber until it is interrupted, or the consumer ends
 * by itself.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const run = <const Dedupe extends boolean = false>(
  options: Options<Dedupe>
): Effect.Effect<never, StartError | ConsumerError, Requirements<Dedupe>> =>
  Effect.scoped(Effect.flatMap(start(options), (consumer) => consumer.run))

// --- internal ---

interface Started {
  readonly topics: Arr.NonEmptyReadonlyArray<string>
  readonly run: Effect.Effect<never, ConsumerError>
}

/** Subscribes, and gives the loop to run; closing the scope drains. */
const start = Effect.fnUntraced(function*<Dedupe extends boolean>(options: Options<Dedupe>) {
  const known = notificationEvents(yield* EventMap.EventMap)
  const topics = options.topics ?? topicsOf(known)
  if (!Arr.isReadonlyArrayNonEmpty(topics)) return yield* new NothingToConsume({ group: options.group })
  const { concurrency, drainTimeout, maxInFlight = 16 * concurrency } = yield* settingsOf(options.group).check({
    concurrency: options.concurrency,
    maxInFlight: options.maxInFlight,
    drainTimeout: options.drainTimeout
  })
  const subscriber = yield* Subscriber.Subscriber
  // Opened first: it is closed last, when everything taken is settled
  const subscription = yield* subscriber.subscribe({ topics, group: options.group, maxInFlight })
  const workers = yield* shared(options, known, subscriber.name)
  const run = yield* Pump.start<ConsumerStopped>({
    group: options.group,
    subscription,
    concurrency,
    drainTimeout,
    runner: (fiber) => new DeliveryWorker(workers, fiber)
  })
  return { topics, run } satisfies Started
}) as <Dedupe extends boolean>(
  options: Options<Dedupe>
) => Effect.Effect<Started, StartError, Requirements<Dedupe> | Scope.Scope>

/** What the workers of a consumer share. */
const shared = Effect.fnUntraced(function*(
  options: Options,
  known: ReadonlyMap<string, NotificationEvent.AnyClass>,
  system: string
) {
  const { group } = options
  const processor: EventProcessor.EventProcessor["Service"] & Partial<EventProcessor.HandlesInDispatch> = yield* (
    EventProcessor.EventProcessor
  )
  const watch = yield* makeWatch({ group, system })
  return {
    codec: yield* MessageCodec.MessageCodec,
    known,
    // Run in the context of `start`, which requires the mediator
    processor: processor as unknown as EventHandler,
    inDispatch: (dispatch, next) =>
      processor[EventProcessor.handlesInDispatch]?.(dispatch, next) as EventHandler | undefined,
    // `Requirements` asks for the inbox when `dedupe` is set
    once: options.dedupe === true
      ? makeOnce(yield* Inbox.Inbox as unknown as Effect.Effect<Inbox.Inbox["Service"]>, group)
      : undefined,
    watch,
    afterFailure: makeAfterFailure({
      group,
      policy: options.policy ?? ConsumerPolicy.defaultPolicy,
      watch,
      stopped: (message, detail, cause) =>
        new ConsumerStopped({ group, topic: message.topic, messageId: Message.describeId(message), detail, cause })
    })
  } satisfies Shared
})

const numbers = Schema.Struct({
  concurrency: Settings.withDefault(Settings.wholeNumber(), 1),
  maxInFlight: Schema.optional(Settings.wholeNumber()),
  drainTimeout: Settings.withDefault(Settings.duration({ minimum: 0, infinite: true }), "30 seconds")
})

const settingsOf = (group: string) =>
  Settings.make(`EventConsumer "${group}"`, { prefix: "EVENT_CONSUMER", schema: numbers })

const notificationEvents = (
  map: EventMap.EventMap["Service"]
): ReadonlyMap<string, NotificationEvent.AnyClass> => {
  const known = new Map<string, NotificationEvent.AnyClass>()
  for (const { event } of map.entries.values()) {
    if (event[EventTypeId] === "Notification") known.set(event.tag, event as NotificationEvent.AnyClass)
  }
  return known
}

const topicsOf = (known: ReadonlyMap<string, NotificationEvent.AnyClass>): ReadonlyArray<string> => [
  ...new Set(Array.from(known.values(), (event) => event.route.topic))
]
