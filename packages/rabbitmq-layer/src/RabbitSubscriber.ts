/**
 * Consuming from RabbitMQ.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as Health from "@event-flow/core/Health"
import type * as Settings from "@event-flow/core/Settings"
import * as Subscriber from "@event-flow/core/Subscriber"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import type { SchedulerDispatcher } from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import { type AmqpFailure, ask, detailOf, ReplyCode } from "./internal/amqpError.ts"
import { openChannel } from "./internal/channel.ts"
import * as Connection from "./internal/connection.ts"
import { Deliveries } from "./internal/deliveries.ts"
import { reasonOf } from "./internal/reason.ts"
import { type ConsumerSettings, consumerSettings } from "./internal/settings.ts"
import * as Declare from "./internal/topology.ts"
import * as RabbitConfig from "./RabbitConfig.ts"
import * as RabbitHealth from "./RabbitHealth.ts"
import * as RabbitRetry from "./RabbitRetry.ts"

/**
 * What the layers provide.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export type Services = Subscriber.Subscriber | RabbitHealth.RabbitHealth | RabbitRetry.RetrySubscriber

/**
 * A `Subscriber` on RabbitMQ, its `RabbitHealth`, and the `RetrySubscriber` that
 * `RabbitRetry` builds on.
 *
 * **Details**
 *
 * A group has one queue for each topic, a durable quorum queue by default (see
 * `RabbitTopology`). The consumers of the group share the messages of the queue.
 * A message leaves its queue when it is acknowledged. The server sends at most
 * `prefetch` messages of a queue ahead, by default about as many as handlers begin,
 * since a quorum queue counts what it sends as delivered. `take` gives out at most
 * `maxInFlight`.
 *
 * When the connection is lost, all deliveries are revoked. The layer connects,
 * declares and consumes again, and the server delivers unacknowledged messages
 * again. What a consumer gives back (`nack`) goes to the queue when the consumer
 * takes again. Closing a subscription sends the outstanding acknowledgements and then
 * gives the other messages back to the queue, so that the next consumer gets them
 * before later ones.
 *
 * **Gotchas**
 *
 * The order of a key holds only while one consumer reads the queue: a group with
 * one consumer, or `singleActiveConsumer`. Several consumers get messages in
 * turns, and handle messages of one key at the same time. When a message is
 * redelivered to another consumer, a quorum queue may deliver later messages
 * before it.
 *
 * The queue of an ephemeral group is a classic queue, which the server deletes
 * with its last consumer. Such a group cannot use `RabbitRetry`. After a lost
 * connection it starts at the end again.
 *
 * A group misses messages that were published before its first subscription,
 * because it had no queue. Create the queue earlier with `RabbitTopology`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: RabbitConfig.Consumer
): Layer.Layer<Services, Settings.InvalidSetting> => Layer.effectContext(make(options))

/**
 * The same with options from `Config`s of your own: one for each option, or one
 * for all of them.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<RabbitConfig.Consumer>
): Layer.Layer<Services, Settings.InvalidSetting | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * The same with options from the environment, or whatever the `ConfigProvider`
 * reads: `RABBITMQ_URL` and so on; see `RabbitConfig.consumer`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv: Layer.Layer<Services, Settings.InvalidSetting | Config.ConfigError> = layerConfig(
  RabbitConfig.consumer.config
)

// --- internal ---

const make = Effect.fnUntraced(function*(options: RabbitConfig.Consumer) {
  const settings = yield* consumerSettings(options)
  const connection = yield* Connection.make(settings)
  const dispatcher = (yield* Scheduler.Scheduler).makeDispatcher()
  const open = new Set<Subscription>()
  const healths = new Set<() => RabbitHealth.SubscriptionHealth>()
  let isClosed = false
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      isClosed = true
      return Effect.forEach(open, (subscription) => subscription.close, { concurrency: "unbounded", discard: true })
    })
  )
  const retrySubscriber = RabbitRetry.RetrySubscriber.of({
    queueName: settings.queueName,
    subscribe: Effect.fnUntraced(function*(options) {
      const closed = Subscriber.subscribeError(
        options,
        new Broker.Closed({ detail: "the layer of the RabbitMQ subscriber is closed" })
      )
      const problem = refusalOf(settings, options)
      if (problem !== undefined) {
        return yield* Subscriber.subscribeError(options, new Broker.Rejected({ detail: problem }))
      }
      const subscription = new Subscription(settings, connection, options, dispatcher, closed)
      yield* Effect.acquireRelease(
        // In one step with the question whether it is closed: closing the layer closes what is in the set
        Effect.suspend(() => isClosed ? Effect.fail(closed) : Effect.succeed(open.add(subscription))),
        () => Effect.andThen(subscription.close, Effect.sync(() => open.delete(subscription)))
      )
      const health = yield* Health.report(
        { system: "rabbitmq", component: "subscription", group: options.group, topics: options.topics },
        () => subscription.health
      )
      subscription.onState = health.set
      yield* Effect.acquireRelease(
        Effect.sync(() => healths.add(health.current)),
        () => Effect.sync(() => healths.delete(health.current))
      )
      yield* subscription.run.pipe(
        Effect.annotateLogs({ package: "@event-flow/rabbitmq-layer", group: options.group }),
        Effect.forkScoped
      )
      yield* subscription.ready
      return { take: subscription.deliveries.take, onRevoked: subscription.onRevoked }
    })
  })
  const subscriber = Subscriber.Subscriber.of({
    name: "rabbitmq",
    subscribe: (options) => retrySubscriber.subscribe({ ...options, retryDelays: [] })
  })
  const health = RabbitHealth.RabbitHealth.of({
    subscriptions: Effect.sync(() => Array.from(healths, (current) => current()))
  })
  return Context.make(Subscriber.Subscriber, subscriber).pipe(
    Context.add(RabbitHealth.RabbitHealth, health),
    Context.add(RabbitRetry.RetrySubscriber, retrySubscriber)
  )
})

/** Why a subscription cannot be as it is asked for. */
const refusalOf = (settings: ConsumerSettings, options: RabbitRetry.SubscribeOptions): string | undefined => {
  const refused = options.topics.map(settings.refusedTopic).find((detail) => detail !== undefined)
  if (refused !== undefined) return refused
  if (options.ephemeral !== true) return undefined
  if (!settings.declare) {
    return "the queues of an ephemeral group must be declared by the layer: leave out `declare: false`"
  }
  return options.retryDelays.length > 0
    ? "an ephemeral group has no queues for retries, which nobody would delete: use ConsumerPolicy.retry"
    : undefined
}

/**
 * How many messages of a queue the server sends ahead. A quorum queue counts each of
 * them as delivered when it goes back to the queue, handled or not. So no more are
 * sent than handlers begin at once; without a limit, as many again, which hides the
 * way to the server (docs/decisions/0015).
 */
const prefetchOf = (
  { deliveryLimit, prefetch }: ConsumerSettings,
  { concurrency, maxInFlight }: RabbitRetry.SubscribeOptions
): number => {
  if (prefetch !== undefined) return prefetch
  const begun = concurrency ?? maxInFlight
  return Math.min(maxInFlight, deliveryLimit === undefined ? 2 * begun : begun, 65_535)
}

class Subscription {
  readonly deliveries: Deliveries
  onState: (state: Health.State, detail?: string) => void = () => {}
  readonly #settings: ConsumerSettings
  readonly #connection: Connection.Connection
  readonly #options: RabbitRetry.SubscribeOptions
  readonly #closed: Subscriber.SubscribeError
  readonly #ready = Deferred.makeUnsafe<void, Subscriber.SubscribeError>()
  readonly #closing = Deferred.makeUnsafe<void>()
  readonly #ended = Deferred.makeUnsafe<void>()
  readonly #listeners = new Set<Effect.Effect<void>>()
  #isStarted = false

  constructor(
    settings: ConsumerSettings,
    connection: Connection.Connection,
    options: RabbitRetry.SubscribeOptions,
    dispatcher: SchedulerDispatcher,
    closed: Subscriber.SubscribeError
  ) {
    this.#settings = settings
    this.#connection = connection
    this.#options = options
    this.#closed = closed
    this.deliveries = new Deliveries(options, dispatcher)
  }

  /** What health says beside the state. */
  get health(): Pick<RabbitHealth.SubscriptionHealth, "group" | "queues" | "waiting" | "inFlight"> {
    const { group, topics } = this.#options
    return { group, queues: topics.map((topic) => this.#settings.queueName(group, topic)), ...this.deliveries.counts }
  }

  /** Waits until it consumes for the first time. */
  get ready(): Effect.Effect<void, Subscriber.SubscribeError> {
    const { subscribeTimeout } = this.#settings
    return Deferred.await(this.#ready).pipe(Effect.timeoutOrElse({
      duration: subscribeTimeout,
      orElse: () =>
        Effect.fail(
          Subscriber.subscribeError(
            this.#options,
            new Broker.Unreachable({
              detail: this.#connection.problem() ?? `no answer within ${subscribeTimeout} ms`
            })
          )
        )
    }))
  }

  readonly onRevoked = (listener: Effect.Effect<void>): Effect.Effect<void, never, Scope.Scope> =>
    Effect.asVoid(Effect.acquireRelease(
      Effect.sync(() => {
        this.#listeners.add(listener)
      }),
      () => Effect.sync(() => this.#listeners.delete(listener))
    ))

  /** Consumes over one channel after the other, until it is closed or fails for good. */
  get run(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#isStarted = true
      return Effect.raceFirst(this.#consume(), Deferred.await(this.#closing))
    }).pipe(Effect.ensuring(Effect.sync(() => {
      this.deliveries.end()
      this.deliveries.fail(this.#closed)
      Deferred.doneUnsafe(this.#ready, Effect.fail(this.#closed))
      Deferred.doneUnsafe(this.#ended, Effect.void)
    })))
  }

  /** Stops deliveries, and waits until the server has taken the acknowledgements and the rest. */
  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      Deferred.doneUnsafe(this.#closing, Effect.void)
      return this.#isStarted ? Deferred.await(this.#ended) : Effect.void
    })
  }

  readonly #consume = Effect.fnUntraced(function*(this: Subscription) {
    let failures = 0
    while (true) {
      const ended = yield* Effect.result(
        Effect.flatMap(this.#connection.link, (link) => this.#session(link, () => failures = 0))
      )
      this.onState("disconnected", Result.isSuccess(ended) ? ended.success : ended.failure.detail)
      yield* this.#revoked()
      if (Result.isSuccess(ended)) {
        yield* Effect.logWarning(`The consumer was interrupted, deliveries are taken back: ${ended.success}`)
        continue
      }
      const error = Subscriber.subscribeError(this.#options, reasonOf(ended.failure))
      if (this.#isFinal(ended.failure, error)) {
        yield* Effect.logError(error.message)
        this.deliveries.fail(error)
        Deferred.doneUnsafe(this.#ready, Effect.fail(error))
        return
      }
      yield* Effect.logWarning(`Cannot consume: ${error.reason.detail}`)
      yield* Connection.backoff(this.#settings, failures++)
    }
  })

  /**
   * Whether trying again cannot help. A subscription that has once worked is
   * tried again unless the server refuses it: the server may be starting, and its
   * queues may have no leaders yet.
   */
  #isFinal({ code, detail }: AmqpFailure, error: Subscriber.SubscribeError): boolean {
    if (!Deferred.isDoneUnsafe(this.#ready)) return error.reason._tag !== "Unreachable"
    if (code === ReplyCode.notFound) return !this.#settings.declare && !detail.includes("home node")
    return code === ReplyCode.accessRefused || code === ReplyCode.preconditionFailed
  }

  /** Uses one channel until it ends, and gives the reason. */
  readonly #session = Effect.fnUntraced(function*(this: Subscription, link: Connection.Link, onOpen: () => void) {
    const { topics } = this.#options
    const ended = yield* Deferred.make<string>()
    const end = (reason: string) => Deferred.doneUnsafe(ended, Effect.succeed(reason))
    const channel = yield* openChannel(this.#settings, () => link.model.createChannel())
    let problem = "the channel was closed"
    channel.on("error", (error) => problem = detailOf(error))
    channel.on("close", () => {
      this.deliveries.end()
      end(problem)
    })
    const { accept } = this.deliveries.begin(channel, link.gather)
    // Before the channel closes, which gives the rest back. Consumers are not cancelled first: the queue would send
    // later messages to its next consumer
    yield* Effect.addFinalizer(() => Effect.sync(() => this.deliveries.end()))
    yield* ask(async () => {
      if (this.#settings.declare) await Declare.declareConsumed(channel, this.#settings, this.#options)
      await channel.prefetch(prefetchOf(this.#settings, this.#options))
      for (const topic of topics) {
        const queue = this.#settings.queueName(this.#options.group, topic)
        await channel.consume(queue, (message) => {
          if (message === null) end(`the server cancelled the consumer of queue "${queue}"`)
          else accept(queue, topic, message)
        })
      }
    })
    onOpen()
    this.onState("connected")
    Deferred.doneUnsafe(this.#ready, Effect.void)
    return yield* Effect.raceFirst(Deferred.await(ended), Deferred.await(link.lost))
  }, Effect.scoped)

  /** Ends the handlers of revoked deliveries, and waits for at most `revokeTimeout`. */
  #revoked(): Effect.Effect<void> {
    const { revokeTimeout } = this.#settings
    return Effect.forEach(this.#listeners, (listener) => Effect.exit(listener), {
      concurrency: "unbounded",
      discard: true
    }).pipe(
      Effect.timeoutOrElse({
        duration: revokeTimeout,
        orElse: () => Effect.logWarning(`Handlers of revoked deliveries did not end within ${revokeTimeout} ms`)
      })
    )
  }
}
