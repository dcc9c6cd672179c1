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
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Broker from "./Broker.ts"
import * as ConsumerPolicy from "./ConsumerPolicy.ts"
import type * as Event from "./Event.ts"
import type { EventFlowError } from "./EventFlowError.ts"
import * as EventMap from "./EventMap.ts"
import * as EventProcessor from "./EventProcessor.ts"
import * as FlowObserver from "./FlowObserver.ts"
import * as Inbox from "./Inbox.ts"
import { causeOf, kindOf, toDeadLetter, toPostponed, underlying } from "./internal/aside.ts"
import { type AnyFiber, DeliveryRunner, type EventHandler, flowOf, type Shared } from "./internal/deliveryRunner.ts"
import { describe } from "./internal/describe.ts"
import { TypeId as EventTypeId } from "./internal/eventClass.ts"
import { isDone } from "./internal/isDone.ts"
import { Lanes, type Runner } from "./internal/lanes.ts"
import type { Mediator } from "./internal/mediatorId.ts"
import * as Traceparent from "./internal/traceparent.ts"
import * as Message from "./Message.ts"
import * as MessageCodec from "./MessageCodec.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"
import * as Subscriber from "./Subscriber.ts"
import * as Telemetry from "./Telemetry.ts"

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
  /** Whether the broker forgets the group when its last consumer ends; see `Subscriber.SubscribeOptions`. Default: false. */
  readonly ephemeral?: boolean | undefined
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
): Layer.Layer<EventConsumer, Subscriber.SubscribeError | NothingToConsume, Requirements<Dedupe>> =>
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
): Effect.Effect<never, ConsumerError | NothingToConsume, Requirements<Dedupe>> =>
  Effect.scoped(Effect.flatMap(start(options), (consumer) => consumer.run))

// --- internal ---

interface Started {
  readonly topics: Arr.NonEmptyReadonlyArray<string>
  readonly run: Effect.Effect<never, ConsumerError>
}

/** Subscribes, and gives the loop to run; closing the scope drains. */
const start = Effect.fnUntraced(function*<Dedupe extends boolean>(options: Options<Dedupe>) {
  const map = yield* EventMap.EventMap
  const known = notificationEvents(map)
  const topics = options.topics ?? topicsOf(known)
  if (!Arr.isReadonlyArrayNonEmpty(topics)) return yield* new NothingToConsume({ group: options.group })
  const concurrency = options.concurrency ?? 1
  const maxInFlight = options.maxInFlight ?? 16 * concurrency
  // Neither would consume anything, without a word
  yield* requireCount(options.group, "concurrency", concurrency)
  yield* requireCount(options.group, "maxInFlight", maxInFlight)
  const subscriber = yield* Subscriber.Subscriber
  // Opened first: it is closed last, when everything taken is settled
  const subscription = yield* subscriber.subscribe({
    topics,
    group: options.group,
    maxInFlight,
    ephemeral: options.ephemeral
  })
  const failed = yield* Deferred.make<never, ConsumerError>()
  const lanes: Lanes<Subscriber.Delivery> = new Lanes({
    concurrency,
    fork: Effect.runForkWith(yield* Effect.context<never>()),
    runner: yield* makeRunner(options, known, subscriber.name),
    abandon: (delivery, cause) => {
      if (Cause.hasInterrupts(cause)) return delivery.nack
      // At once: what waits behind this message must not be handled before it
      lanes.halt()
      // Nothing that runs in a worker fails with anything else
      return Effect.andThen(Deferred.failCause(failed, cause as Cause.Cause<ConsumerStopped>), delivery.nack)
    }
  })
  const isRevoked = (delivery: Subscriber.Delivery): boolean => delivery.isRevoked()
  yield* subscription.onRevoked(
    Effect.suspend(() => {
      // Said at once, and not when a worker comes to it: a rebalance waits for the answer
      const waiting = lanes.drop(isRevoked)
      return Effect.andThen(
        Effect.forEach(waiting, (delivery) => delivery.nack, { discard: true }),
        lanes.interrupt(isRevoked)
      )
    })
  )
  yield* Effect.addFinalizer(() =>
    lanes.stop.pipe(
      Effect.interruptible,
      Effect.timeoutOrElse({
        duration: options.drainTimeout ?? "30 seconds",
        orElse: () =>
          Effect.andThen(
            Effect.logWarning("Handlers did not end before the drain timeout: interrupting them"),
            lanes.interrupt(() => true)
          )
      }),
      Effect.annotateLogs({ group: options.group })
    )
  )
  const pump = Effect.forever(
    Effect.map(subscription.take, (deliveries) => {
      for (const delivery of deliveries) lanes.offer(delivery)
      lanes.start()
    }),
    { disableYield: true }
  )
  return { topics, run: Effect.raceFirst(pump, Deferred.await(failed)) } satisfies Started
}) as <Dedupe extends boolean>(
  options: Options<Dedupe>
) => Effect.Effect<
  Started,
  Subscriber.SubscribeError | NothingToConsume,
  Requirements<Dedupe> | Scope.Scope
>

const requireCount = (group: string, option: string, value: number): Effect.Effect<void> =>
  Number.isInteger(value) && value >= 1
    ? Effect.void
    : Effect.die(new Error(`EventConsumer "${group}": ${option} must be a whole number from 1, not ${value}`))

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

type Processor = EventProcessor.EventProcessor["Service"] & Partial<EventProcessor.HandlesInDispatch>

/** Handles deliveries, each to its end; fails only when the consumer must stop. */
const makeRunner = Effect.fnUntraced(function*(
  options: Options,
  known: ReadonlyMap<string, NotificationEvent.AnyClass>,
  system: string
) {
  const processor: Processor = yield* EventProcessor.EventProcessor
  // Run in the context of `start`, which requires the mediator
  const handleEvent = processor.handle as (event: Event.Any) => Effect.Effect<void, EventFlowError>
  const broker = yield* Broker.Broker
  const codec = yield* MessageCodec.MessageCodec
  const observer = yield* FlowObserver.Current
  const { metrics } = yield* Telemetry.Settings
  const inbox = options.dedupe === true
    // `Requirements` asks for it when `dedupe` is set
    ? yield* Inbox.Inbox as unknown as Effect.Effect<Inbox.Inbox["Service"]>
    : undefined
  const policy = options.policy ?? ConsumerPolicy.defaultPolicy
  const group = options.group

  const count = (message: Message.Message, outcome: string): Effect.Effect<void> =>
    metrics
      ? Metric.update(
        Metric.withAttributes(Telemetry.consumedMessages, {
          "messaging.system": system,
          "messaging.destination.name": message.topic,
          "messaging.consumer.group.name": group,
          "event_flow.outcome": outcome
        }),
        1
      )
      : Effect.void

  /** For the observer: a delivery that ends without being settled was returned. */
  const settled = new WeakSet<Subscriber.Delivery>()

  const settle = (delivery: Subscriber.Delivery, outcome: FlowObserver.DeliveryOutcome): Effect.Effect<void> => {
    const ack = observer === undefined
      ? delivery.ack
      // Before the acknowledgement, after which the broker may be found idle
      : Effect.andThen(
        Effect.sync(() => {
          settled.add(delivery)
          observer.deliveryEnded(delivery, outcome)
        }),
        delivery.ack
      )
    return metrics ? Effect.andThen(ack, count(delivery.message, outcome)) : ack
  }

  const observed = <A, E>(delivery: Subscriber.Delivery, handling: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    observer === undefined ? handling : Effect.suspend(() => {
      observer.deliveryStarted(delivery, delivery.message, group)
      return Effect.onExit(
        handling,
        () =>
          Effect.sync(() => {
            if (!settled.has(delivery)) observer.deliveryEnded(delivery, "returned")
          })
      )
    })

  /** One attempt: the outcome, or the failure as the policy sees it. */
  const attempt = (
    delivery: Subscriber.Delivery,
    message: Message.Message
  ): Effect.Effect<"handled" | "duplicate", ConsumerPolicy.Failure> =>
    Effect.matchCauseEffect(codec.decode(message, known), {
      onFailure: (cause) => {
        const error = Cause.findErrorOption(cause)
        return Option.isSome(error)
          ? Effect.fail<ConsumerPolicy.Failure>({ _tag: "Undecodable", message, error: error.value })
          : decodingDied(message, cause)
      },
      onSuccess: (event) => {
        observer?.deliveryDecoded(delivery, event)
        const handling = handleEvent(event)
        const handled = inbox === undefined
          ? Effect.as(handling, "handled" as const)
          : handleOnce(inbox, message, handling)
        // Not run when the consumer interrupts this: an interrupt seen here is a handler's own
        return Effect.catchCause(handled, (cause) => Effect.fail(handlerFailure(message, event, cause)))
      }
    })

  let isIdMissed = false

  const handleOnce = (
    inbox: Inbox.Inbox["Service"],
    message: Message.Message,
    handling: Effect.Effect<void, EventFlowError>
  ): Effect.Effect<"handled" | "duplicate", EventFlowError | Inbox.InboxError> => {
    const { id, source } = message.attributes
    if (id === undefined) {
      const handled = Effect.as(handling, "handled" as const)
      if (isIdMissed) return handled
      isIdMissed = true
      return Effect.andThen(
        Effect.logWarning(
          `A message of topic "${message.topic}" has no id: duplicates of such messages are not dropped`
        ),
        handled
      )
    }
    // A source is a URI reference, which has no blank: the first one ends it
    return Effect.map(
      inbox.once(group, `${source ?? ""} ${id}`, handling),
      (first) => Option.isSome(first) ? "handled" : "duplicate"
    )
  }

  /** A bug in a schema or an upcast: logged as one, and no reason to end the consumer. */
  const decodingDied = (
    message: Message.Message,
    cause: Cause.Cause<unknown>
  ): Effect.Effect<never, ConsumerPolicy.Failure> =>
    Effect.andThen(
      Effect.logError(`Decoding died on message ${Message.describeId(message)}`, cause),
      Effect.fail<ConsumerPolicy.Failure>({
        _tag: "Undecodable",
        message,
        error: new MessageCodec.DecodeError({
          topic: message.topic,
          messageId: Message.describeId(message),
          messageType: message.attributes["type"] ?? "(no type)",
          reason: "InvalidBody",
          detail: `decoding died: ${describe(Cause.squash(cause))}`
        })
      })
    )

  /** What it gives is why the message was put aside, if it was. */
  const handle = (delivery: Subscriber.Delivery): Effect.Effect<Unhandled, ConsumerStopped> => {
    const once = attempt(delivery, delivery.message)
    return Effect.matchEffect(once, {
      onSuccess: (outcome) => settle(delivery, outcome),
      onFailure: (failure) => afterFailure(delivery, once, failure)
    })
  }

  const afterFailure = Effect.fnUntraced(function*(
    delivery: Subscriber.Delivery,
    once: Effect.Effect<"handled" | "duplicate", ConsumerPolicy.Failure>,
    first: ConsumerPolicy.Failure
  ) {
    let failure = first
    let attempts = 1
    const schedules = new Map<string, (input: ConsumerPolicy.Failure) => Effect.Effect<unknown, unknown>>()
    while (true) {
      if (failure._tag === "HandlerDied") {
        yield* Effect.logError(`A handler died on message ${Message.describeId(delivery.message)}`, failure.cause)
      }
      const decision = policy(failure)
      if (decision._tag !== "Retry") return yield* conclude(delivery, failure, decision, attempts)
      const kind = kindOf(failure)
      const next = schedules.get(kind) ?? (yield* Schedule.toStepWithSleep(decision.schedule))
      schedules.set(kind, next)
      const ended = yield* Effect.exit(next(failure))
      if (Exit.isFailure(ended)) {
        if (Cause.hasInterrupts(ended.cause)) return yield* Effect.interrupt
        return yield* conclude(delivery, failure, decision.otherwise, attempts)
      }
      if (delivery.isRevoked()) return yield* delivery.nack
      attempts++
      const outcome = yield* Effect.result(once)
      if (outcome._tag === "Success") return yield* settle(delivery, outcome.success)
      failure = outcome.failure
    }
  })

  const conclude = (
    delivery: Subscriber.Delivery,
    failure: ConsumerPolicy.Failure,
    decision: ConsumerPolicy.Final | ConsumerPolicy.Postpone,
    attempts: number
  ): Effect.Effect<Unhandled, ConsumerStopped> => {
    const message = delivery.message
    switch (decision._tag) {
      case "Skip":
        return Effect.andThen(
          Effect.logWarning(
            `Skipped message ${Message.describeId(message)} of topic "${message.topic}"`,
            describe(underlying(failure))
          ),
          settle(delivery, "skipped")
        )
      case "Ignore":
        return Effect.andThen(
          Effect.logDebug(
            `Ignored message ${Message.describeId(message)} of topic "${message.topic}"`,
            describe(underlying(failure))
          ),
          settle(delivery, "skipped")
        )
      case "Stop":
        return Effect.fail(stopped(message, "the policy says so", underlying(failure)))
      case "Postpone":
        return Effect.flatMap(
          Clock.currentTimeMillis,
          (now) => publishAside(delivery, "retry", toPostponed(delivery, failure, decision, attempts, group, now))
        ).pipe(
          Effect.andThen(
            Effect.logInfo(
              `Postponed message ${
                Message.describeId(message)
              } of topic "${message.topic}" to topic "${decision.topic}"`,
              describe(underlying(failure))
            )
          ),
          Effect.andThen(settle(delivery, "postponed")),
          Effect.as(causeOf(failure))
        )
      case "DeadLetter":
        return publishAside(
          delivery,
          "dead letter",
          toDeadLetter(delivery, failure, decision.topic ?? `${message.topic}.dead-letter`, attempts, group)
        ).pipe(
          Effect.andThen(
            Effect.logWarning(
              `Dead-lettered message ${
                Message.describeId(message)
              } of topic "${message.topic}" after ${attempts} attempt(s)`,
              describe(underlying(failure))
            )
          ),
          Effect.andThen(settle(delivery, "dead_lettered")),
          Effect.as(causeOf(failure))
        )
    }
  }

  const stopped = (message: Message.Message, detail: string, cause: unknown): ConsumerStopped =>
    new ConsumerStopped({ group, topic: message.topic, messageId: Message.describeId(message), detail, cause })

  /** Retried for as long as that may help: the message stays unacknowledged meanwhile. */
  const publishAside = (
    delivery: Subscriber.Delivery,
    what: "dead letter" | "retry",
    aside: Message.Message
  ): Effect.Effect<void, ConsumerStopped> =>
    broker.publish([aside]).pipe(
      Effect.tapError((error) => Effect.logError(`Could not publish a ${what} to "${aside.topic}"`, error)),
      Effect.retry({
        schedule: deadLetterBackoff,
        while: (error) => error._tag === "PublishError" && error.isRetryable
      }),
      Effect.mapError((error) => stopped(delivery.message, `its ${what} cannot be published: ${error.message}`, error))
    )

  /** Runs an effect in the flow that its message is part of. */
  const correlated = <A, E>(delivery: Subscriber.Delivery, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    // The context of this very flow, and no copy of it: handlers share their work on it
    Effect.updateContext(effect, (caller: Context.Context<never>) => flowOf(caller, delivery)?.context ?? caller)

  const handleDelivery = (delivery: Subscriber.Delivery): Effect.Effect<void, ConsumerStopped> =>
    Effect.withFiber((fiber) => {
      const { attributes, topic } = delivery.message
      const { id, traceparent } = attributes
      const tracing = Telemetry.isTracing(fiber)
      return Effect.asVoid(Telemetry.process(correlated(delivery, observed(delivery, handle(delivery))), {
        system,
        topic,
        group,
        messageId: id,
        parent: tracing && traceparent !== undefined ? Traceparent.toSpan(traceparent) : undefined,
        tracing,
        metrics,
        failureOf: (unhandled) => unhandled ?? undefined
      }))
    })

  const shared: Shared = {
    handle: handleDelivery,
    decode: metrics || observer !== undefined || inbox !== undefined
      ? undefined
      : (message) => {
        const decoded = codec.decode(message, known)
        return isDone(decoded) ? decoded.value : undefined
      },
    eventHandler: (dispatch, next) =>
      // Run in the context of `start`, which requires the mediator
      processor[EventProcessor.handlesInDispatch]?.(dispatch, next) as EventHandler | undefined,
    recover: (delivery, event, cause) => {
      const { message } = delivery
      const failure = handlerFailure(message, event, cause)
      return Effect.asVoid(correlated(delivery, afterFailure(delivery, attempt(delivery, message), failure)))
    }
  }
  return (fiber: AnyFiber): Runner<Subscriber.Delivery> => new DeliveryRunner(shared, fiber)
})

const handlerFailure = (
  message: Message.Message,
  event: NotificationEvent.Any,
  cause: Cause.Cause<EventFlowError | Inbox.InboxError>
): ConsumerPolicy.Failure => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error) && !Cause.hasDies(cause)
    ? { _tag: "HandlerFailed", message, event, error: error.value }
    : { _tag: "HandlerDied", message, event, cause }
}

const deadLetterBackoff = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("30 seconds")])

/** Why a message was put aside. */
type Unhandled = Cause.Cause<unknown> | void
