/**
 * The way back in: takes messages from a `Subscriber`, decodes them, drops
 * duplicates, runs the handlers of notification events that a flow or a list
 * has, processes their follow-ups, and acknowledges.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Broker from "./Broker.ts"
import type * as Command from "./Command.ts"
import * as ConsumerPolicy from "./ConsumerPolicy.ts"
import type * as EventFlow from "./EventFlow.ts"
import type * as EventHandler from "./EventHandler.ts"
import type * as EventMap from "./EventMap.ts"
import * as Health from "./Health.ts"
import * as Inbox from "./Inbox.ts"
import { makeAfterFailure } from "./internal/consumer/failure.ts"
import { makeOnce } from "./internal/consumer/once.ts"
import { Outage } from "./internal/consumer/outage.ts"
import * as Pump from "./internal/consumer/pump.ts"
import { handlersOf, makeConsuming } from "./internal/consumer/source.ts"
import { makeWatch } from "./internal/consumer/watch.ts"
import { DeliveryWorker, type Shared } from "./internal/consumer/worker.ts"
import { list } from "./internal/definition/implementation.ts"
import type { HandlerImplementations, NotificationHandlers } from "./internal/definition/requirements.ts"
import { describeId } from "./internal/describe.ts"
import * as MessageCodec from "./MessageCodec.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"
import * as Settings from "./Settings.ts"
import * as Subscriber from "./Subscriber.ts"

/**
 * When a consumer takes it that a dependency of its handlers is away, such as a
 * database: its circuit breaker.
 *
 * **Details**
 *
 * When `after` messages in a row fail in the same way, the consumer pauses: it
 * holds these messages, starts no others, and tries one of those that it has
 * after `firstProbe`, then after twice that, up to `maxProbe`. It goes on when
 * one is handled. While it is paused it puts nothing aside.
 *
 * Failures are of the same way when they have the same tag, and the same tag (or
 * name) of the error behind it. These count: defects; failures of the inbox; and
 * typed errors that the policy retries. What cannot be decoded does not, nor a
 * typed error that the policy puts aside at once or postpones. A message that is
 * handled ends the row of those with the same event.
 *
 * A message that fails alone is left to the policy. Before it is dead-lettered or
 * skipped, the consumer holds it for `patience`, tries others meanwhile, and then
 * tries it once more: the first messages of an outage must not be lost before the
 * row is long enough.
 *
 * @stability unstable
 * @category settings
 * @since 0.1.0
 */
export const outageFields = {
  /** How many messages in a row must fail in the same way. A whole number from 2. Default: 3. */
  after: Settings.withDefault(Settings.wholeNumber({ minimum: 2 }), 3),
  /**
   * How long a message is held before the policy puts it aside. 0: not at all, and
   * up to `after` of them are lost to each outage. Raise it for a topic that has
   * fewer messages than `after` in this time. Default: 5 seconds.
   */
  patience: Settings.withDefault(Settings.duration({ minimum: 0 }), "5 seconds"),
  /** How long after the pause begins the first message is tried. Default: 1 second. */
  firstProbe: Settings.withDefault(Settings.duration(), "1 second"),
  /** The longest wait between two messages that are tried. Default: 30 seconds. */
  maxProbe: Settings.withDefault(Settings.duration(), "30 seconds"),
  /**
   * How long a pause may last. After that the policy decides about each message
   * that is tried and fails, one every `maxProbe`, so that messages which are all
   * bad do not block the others without end. Default: 1 day.
   */
  maxPause: Settings.withDefault(Settings.duration({ infinite: true }), "1 day")
}

/**
 * How a consumer makes batches of messages.
 *
 * **Details**
 *
 * A worker takes up to `size` messages that are ready, those of a key in order,
 * and handles all of them or none: with an inbox in one transaction, in which
 * their ids are remembered at once; then they are acknowledged. The handlers of
 * an event run for one event after the other, then the handlers that
 * `EventHandler.batch` defines, each with all of its events.
 *
 * When anything in a batch fails, its messages are handled again in batches of
 * half the size, down to the message that fails alone, about which the policy
 * decides; then the batches grow again. So what handlers do outside of the
 * transaction of an inbox happens again for the messages beside one that fails.
 *
 * @stability unstable
 * @category settings
 * @since 0.1.0
 */
export const batchFields = {
  /** How many messages, at most. A whole number from 2. Default: 100. */
  size: Settings.withDefault(Settings.wholeNumber({ minimum: 2 }), 100),
  /** How long a worker waits for more messages when fewer than `size` are ready. Default: 0, it takes what is there. */
  wait: Settings.withDefault(Settings.duration({ minimum: 0 }), "0 millis")
}

/**
 * The settings of a consumer, as fields of a schema; see `Options`.
 *
 * @stability unstable
 * @category settings
 * @since 0.1.0
 */
export const fields = {
  /** The consumer group: each message is handled once by every group. */
  group: Schema.NonEmptyString,
  /** Default: the topics of the notification events that the consumer has handlers for. */
  topics: Schema.optional(Schema.NonEmptyArray(Schema.NonEmptyString)),
  /** What to do with what cannot be handled. Default: `ConsumerPolicy.defaultPolicy`. */
  policy: Schema.optional(Settings.code<ConsumerPolicy.ConsumerPolicy>()),
  /**
   * How many messages are handled at once; those of one key in order all the
   * same. A whole number from 1. Default: 1.
   */
  concurrency: Settings.withDefault(Settings.wholeNumber(), 1),
  /**
   * How many messages are taken and not yet acknowledged, at most; fewer than
   * `concurrency` bound that as well. A whole number from 1. Default: 16 for
   * each of `concurrency`; with `batch` the size of a batch for each.
   */
  maxInFlight: Schema.optional(Settings.wholeNumber()),
  /** Whether messages are handled in batches; see `batchFields`. Default: false. */
  batch: Settings.withDefault(Schema.Union([Schema.Boolean, Schema.Struct(batchFields)]), false),
  /**
   * Whether to drop duplicates; requires an `Inbox`. Messages are told apart by
   * their `source` and `id`, which together are unique (CloudEvents 1.0). One
   * without an id cannot be told from another: it is always handled, and the
   * first such message is logged at `Warn`. Default: false.
   */
  dedupe: Settings.withDefault(Schema.Boolean, false),
  /**
   * How long closing waits for the handlers that run, before it interrupts them.
   * What was taken and not started is given back at once. Default: 30 seconds.
   */
  drainTimeout: Settings.withDefault(Settings.duration({ minimum: 0, infinite: true }), "30 seconds"),
  /**
   * How the consumer tells a dependency that is away from messages that cannot be
   * handled; see `outageFields`. False: it does not tell, and leaves every failure
   * to the policy at once. Default: true.
   */
  outage: Settings.withDefault(Schema.Union([Schema.Boolean, Schema.Struct(outageFields)]), true),
  /** Whether the broker forgets the group when its last consumer ends; see `Subscriber.SubscribeOptions`. Default: false. */
  ephemeral: Settings.withDefault(Schema.Boolean, false)
}

/**
 * Options of a consumer.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options<Dedupe extends boolean = boolean>
  extends Omit<Schema.Struct.Encoded<typeof fields>, "dedupe">
{
  /** See `fields.dedupe`: it requires an `Inbox`. */
  readonly dedupe?: Dedupe | undefined
}

const defaultBatch = Schema.decodeUnknownSync(Schema.Struct(batchFields))({})

const noBatch = { size: 1, wait: 0 }

const defaultOutage = Schema.decodeUnknownSync(Schema.Struct(outageFields))({})

const settings = Settings.make("EventConsumer", { prefix: "EVENT_CONSUMER", schema: Schema.Struct(fields) })

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
 * There is no handler of a notification event, and no topics were given: there
 * is nothing to consume.
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
    return `Consumer "${this.group}" has nothing to consume: list handlers of notification events`
  }
}

/**
 * The policy publishes dead letters to topics that do not exist: the first message
 * that cannot be handled would end the consumer.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class DeadLetterTopicMissing
  extends Schema.TaggedError<DeadLetterTopicMissing>("@event-flow/core/EventConsumer/DeadLetterTopicMissing")(
    "DeadLetterTopicMissing",
    { group: Schema.String, topics: Schema.Array(Schema.String) }
  )
{
  override get message(): string {
    return `Consumer "${this.group}" cannot publish dead letters to ${
      this.topics.map((topic) => `"${topic}"`).join(", ")
    }: no such topic. Create it before the consumer starts, or give the consumer a policy that publishes them elsewhere`
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
 * Whose handlers of notification events a consumer runs: those of a flow, which
 * processes their follow-ups as well, or those of a list, apart from any flow.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Source = EventFlow.Any | ReadonlyArray<EventHandler.Any>

/**
 * What a consumer requires: a subscriber, a broker (for dead letters, and what
 * handlers emit), the implementations of its handlers, and the flows of the
 * commands that these send.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Requirements<S extends Source, Dedupe extends boolean> =
  // A conditional type, of which editors and errors show the members in place of the name
  S extends Source ?
      | Subscriber.Subscriber
      | Broker.Broker
      | SourceRequirements<S>
      | (true extends Dedupe ? Inbox.Inbox : never)
    : never

/** What a consumer requires for its handlers. */
type SourceRequirements<S extends Source> = S extends EventFlow.Any ?
    | EventFlow.RunningFlow<S["flowName"]>
    | HandlerImplementations<NotificationHandlers<S["handlers"][number]>>
    | Exclude<
      Command.Flows<NotificationHandlers<S["handlers"][number]>["sends"][number]>,
      Command.Flows<S["commands"][number]>
    >
  : S extends ReadonlyArray<infer H extends EventHandler.Any> ?
      | HandlerImplementations<H>
      | Command.Flows<H["sends"][number]>
  : never

/**
 * Why the layer of a consumer cannot be built.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export type StartError =
  | Subscriber.SubscribeError
  | NothingToConsume
  | DeadLetterTopicMissing
  | EventMap.DuplicateDefinition
  | Settings.InvalidSetting

/**
 * What a consumer does now.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type State =
  /** It takes messages and handles them. */
  | { readonly _tag: "Running" }
  /** Messages in a row failed in the same way: it tries one of them from time to time, and goes on by itself. */
  | {
    readonly _tag: "Paused"
    /** In milliseconds since 1970. */
    readonly since: number
    /** How the last message that was tried failed. */
    readonly failure: ConsumerPolicy.Failure
    /** How many failed messages wait for the end of the pause. */
    readonly held: number
  }
  /** It has ended by itself, or was closed; `join` has the reason. */
  | { readonly _tag: "Ended" }

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
  /** What it does now, for a health check. */
  readonly state: Effect.Effect<State>
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
 * **Details**
 *
 * No message ends the consumer, whatever its headers and bytes (F22).
 *
 * Handlers of notification events run here and nowhere else. They find in their
 * context the services of their layers, and of the rest only Effect's references
 * for logging, tracing, metrics, time, randomness and configuration (F17).
 *
 * **Example** (A delay board)
 *
 * ```ts
 * import { EventConsumer, EventFlow, EventHandler, MemoryBroker, NotificationEvent } from "@event-flow/core"
 * import { Effect, Layer, Schema } from "effect"
 *
 * class FlightDelayed extends NotificationEvent.Class<FlightDelayed>()("FlightDelayed", {
 *   flight: Schema.String
 * }, { topic: "delays" }) {}
 * const ShowDelay = EventHandler.make("ShowDelay", { on: FlightDelayed })
 * const ShowDelayLive = ShowDelay.toLayer(({ flight }) => Effect.log(flight))
 *
 * class Board extends EventFlow.make("Board", { handlers: [ShowDelay] }) {}
 *
 * const BoardLive = EventConsumer.layer(Board, { group: "delay-board", concurrency: 4 }).pipe(
 *   Layer.provide(Board.layer()),
 *   Layer.provide([ShowDelayLive, MemoryBroker.layer()])
 * )
 *
 * // It ends when the consumer ends by itself, with the reason
 * const program = EventConsumer.EventConsumer.use((consumer) => consumer.join).pipe(Effect.provide(BoardLive))
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = <const S extends Source, const Dedupe extends boolean = false>(
  source: S,
  options: Options<Dedupe>
): Layer.Layer<EventConsumer, StartError, Requirements<S, Dedupe>> => {
  listed(source)
  return Layer.effect(
    EventConsumer,
    Effect.gen(function*() {
      // Its own scope: a consumer that ends by itself lets go of what it has taken
      const scope = yield* Scope.fork(yield* Effect.scope)
      const consumer = yield* Scope.provide(start(source, options), scope)
      const fiber = yield* consumer.run.pipe(
        Effect.tapCause((cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logFatal("The consumer has ended", cause)
        ),
        Effect.onExit((exit) => Scope.close(scope, exit)),
        Effect.annotateLogs({ package: "@event-flow/core", module: "EventConsumer", group: options.group }),
        Effect.forkScoped
      )
      return EventConsumer.of({
        group: options.group,
        topics: consumer.topics,
        state: Effect.sync((): State =>
          fiber.pollUnsafe() === undefined ? stateOf(consumer.outage) : { _tag: "Ended" }
        ),
        join: Fiber.join(fiber)
      })
    })
  )
}

/**
 * The same with options from a `ConfigProvider`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <const S extends Source, const Dedupe extends boolean = false>(
  source: S,
  options: Config.Wrap<Options<Dedupe>>
): Layer.Layer<EventConsumer, StartError | Config.ConfigError, Requirements<S, Dedupe>> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), (options) => layer(source, options)))

/**
 * Consumes in the calling fiber until it is interrupted, or the consumer ends
 * by itself.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const run = <const S extends Source, const Dedupe extends boolean = false>(
  source: S,
  options: Options<Dedupe>
): Effect.Effect<never, ConsumerError | StartError, Requirements<S, Dedupe>> => {
  listed(source)
  return Effect.scoped(Effect.flatMap(start(source, options), (consumer) => consumer.run))
}

// --- internal ---

const listed = (source: Source): void => {
  for (const handler of handlersOf(source)) list(handler)
}

const stateOf = (outage: Outage | undefined): State => {
  const paused = outage?.state
  return paused === undefined ? { _tag: "Running" } : { _tag: "Paused", ...paused }
}

interface Started {
  readonly outage: Outage | undefined
  readonly topics: Arr.NonEmptyReadonlyArray<string>
  readonly run: Effect.Effect<never, ConsumerError>
}

/** Subscribes, and gives the loop to run; closing the scope drains. */
const start = Effect.fnUntraced(function*<S extends Source>(source: S, options: Options) {
  const { concurrency, drainTimeout, group, maxInFlight, ...checked } = yield* settings.check(options)
  const consuming = yield* makeConsuming(source)
  const topics = checked.topics ?? topicsOf(consuming.known)
  if (!Arr.isReadonlyArrayNonEmpty(topics)) return yield* new NothingToConsume({ group })
  const policy = checked.policy ?? ConsumerPolicy.defaultPolicy
  yield* checkDeadLetters(group, topics, policy)
  const subscriber = yield* Subscriber.Subscriber
  const batch = checked.batch === false ? noBatch : checked.batch === true ? defaultBatch : checked.batch
  // Opened first: it is closed last, when everything taken is settled
  const subscription = yield* subscriber.subscribe({
    topics,
    group,
    maxInFlight: maxInFlight ?? Math.max(16, batch.size) * concurrency,
    concurrency: concurrency * batch.size,
    ephemeral: checked.ephemeral
  })
  const watch = yield* makeWatch({ group, system: subscriber.name })
  const outage = checked.outage === false
    ? undefined
    : new Outage(group, checked.outage === true ? defaultOutage : checked.outage)
  const closing = yield* Deferred.make<void>()
  const health = yield* Health.report({ system: subscriber.name, component: "consumer", group, topics }, () => ({}))
  health.set("connected")
  if (outage !== undefined) {
    outage.onChange = (reason) => reason === undefined ? health.set("connected") : health.set("paused", reason)
  }
  const shared: Shared = {
    group,
    codec: yield* MessageCodec.MessageCodec,
    consuming,
    // `Requirements` asks for the inbox when `dedupe` is set
    once: checked.dedupe
      ? makeOnce(yield* Inbox.Inbox as unknown as Effect.Effect<Inbox.Inbox["Service"]>, group)
      : undefined,
    watch,
    outage,
    afterFailure: makeAfterFailure({
      group,
      outage,
      closing,
      policy,
      watch,
      stopped: (message, detail, cause) =>
        new ConsumerStopped({ group, topic: message.topic, messageId: describeId(message), detail, cause })
    })
  }
  const run = yield* Pump.start<ConsumerStopped>({
    group,
    subscription,
    concurrency,
    batch,
    drainTimeout,
    outage,
    closing,
    runner: (fiber) => new DeliveryWorker(shared, fiber)
  })
  return { outage, topics, run } satisfies Started
}) as <S extends Source, Dedupe extends boolean>(
  source: S,
  options: Options<Dedupe>
) => Effect.Effect<Started, StartError, Requirements<S, Dedupe> | Scope.Scope>

/** Where the broker cannot tell now, the consumer starts nevertheless. */
const checkDeadLetters = Effect.fnUntraced(function*(
  group: string,
  topics: Arr.NonEmptyReadonlyArray<string>,
  policy: ConsumerPolicy.ConsumerPolicy
) {
  const { missingTopics } = yield* Broker.Broker
  const named = (policy.deadLetterTopics ?? []).flatMap((topic) => topic ?? topics.map(ConsumerPolicy.deadLetterTopic))
  const wanted = [...new Set(named)]
  if (missingTopics === undefined || !Arr.isReadonlyArrayNonEmpty(wanted)) return
  const missing = yield* Effect.catch(missingTopics(wanted), (error) =>
    Effect.as(
      Effect.logWarning(`Consumer "${group}" could not check the topics of its dead letters`, error.message),
      []
    ))
  if (missing.length > 0) return yield* new DeadLetterTopicMissing({ group, topics: missing })
})

const topicsOf = (known: ReadonlyMap<string, NotificationEvent.AnyClass>): ReadonlyArray<string> => [
  ...new Set(Array.from(known.values(), (event) => event.route.topic))
]
