/**
 * Creates and checks the exchange and the queues of consumer groups.
 *
 * - One exchange for all topics, `event-flow`: durable, of type topic. A topic's
 *   messages are published to it with the topic as routing key.
 * - One queue for each group and topic, `<group>:<topic>`: durable, a quorum queue,
 *   bound to the exchange by the topic.
 * - One dead-letter queue for each topic, `<topic>.dead-letter`, bound by its name,
 *   shared by the groups. The queues of the topic name it as their
 *   dead-letter target.
 * - With `RabbitRetry`, one queue for each queue and delay,
 *   `<queue>.retry-<step>.<ms>ms`, which nobody consumes: its messages go to the
 *   queue when their time is over.
 *
 * A subscription declares what it needs by itself, unless `declare` is false.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import type * as NotificationEvent from "@event-flow/core/NotificationEvent"
import type * as Settings from "@event-flow/core/Settings"
import type { Channel, ChannelModel } from "amqplib"
import * as Arr from "effect/Array"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { AmqpFailure, ask, ReplyCode } from "./internal/amqpError.ts"
import { openChannel } from "./internal/channel.ts"
import * as Connection from "./internal/connection.ts"
import * as Names from "./internal/names.ts"
import { reasonOf } from "./internal/reason.ts"
import { topologySettings } from "./internal/settings.ts"
import * as Declare from "./internal/topology.ts"
import * as RabbitConfig from "./RabbitConfig.ts"

/**
 * What a consumer group needs for a topic.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface GroupSpec {
  readonly group: string
  readonly topic: string
  /** The delays of its retries: `RabbitRetry.specs` gives them. Default: none. */
  readonly retryDelays?: ReadonlyArray<Duration.Duration> | undefined
}

/**
 * Where an exchange or a queue differs from what it should be.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Difference {
  /** The name of the exchange or queue. */
  readonly name: string
  /** `"exchange"` or `"queue"` when it is missing, else the argument's name in RabbitMQ. */
  readonly setting: string
  readonly wanted: string
  readonly actual: string | undefined
}

/**
 * What `ensure` did and found.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Report {
  /** The names of the exchanges and queues that were created. */
  readonly created: ReadonlyArray<string>
  /** What existed and is not as wanted: nothing was changed about it. */
  readonly differences: ReadonlyArray<Difference>
}

/**
 * Exchange and queues could not be created or looked up. The reasons are those
 * of `PublishError`; take them apart with
 * `Effect.catchReason("RabbitTopologyError", "Unreachable", ...)`.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class RabbitTopologyError
  extends Schema.TaggedError<RabbitTopologyError>("@event-flow/rabbitmq-layer/RabbitTopology/RabbitTopologyError")(
    "RabbitTopologyError",
    {
      topics: Schema.Array(Schema.String),
      reason: Schema.Union([Broker.Unreachable, Broker.UnknownTopic, Broker.NotAuthorised, Broker.Rejected])
    }
  )
{
  override readonly cause = this.reason

  override get message(): string {
    return `The queues of topics ${this.topics.join(", ")}: ${this.reason._tag}: ${this.reason.detail}`
  }

  /** Whether the same may succeed later. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
}

/**
 * Creates and checks the exchange and the queues of consumer groups.
 *
 * **Details**
 *
 * Each call opens a connection of its own, and tries once. Retry it while the
 * error `isRetryable` if the server may still be starting.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class RabbitTopology extends Context.Service<RabbitTopology, {
  /**
   * Reports exchanges and queues that are missing, and the first argument that
   * differs of each one that exists. It changes nothing. RabbitMQ does not say
   * what a queue is bound to, so bindings are not checked.
   */
  readonly check: (specs: ReadonlyArray<GroupSpec>) => Effect.Effect<ReadonlyArray<Difference>, RabbitTopologyError>
  /**
   * Creates what is missing, binds the queues, and reports what differs. Existing
   * queues are never changed: RabbitMQ cannot change one, and deleting it would
   * lose its messages.
   */
  readonly ensure: (specs: ReadonlyArray<GroupSpec>) => Effect.Effect<Report, RabbitTopologyError>
}>()("@event-flow/rabbitmq-layer/RabbitTopology") {}

/**
 * The default name of a group's queue for a topic: `<group>:<topic>`, with `%` and
 * `:` of the group percent-encoded.
 *
 * @stability unstable
 * @category names
 * @since 0.1.0
 */
export const queueName: (group: string, topic: string) => string = Names.queueName

/**
 * The topic, routing key and queue of a topic's dead letters: `<topic>.dead-letter`.
 *
 * @stability unstable
 * @category names
 * @since 0.1.0
 */
export const deadLetterTopic: (topic: string) => string = Names.deadLetterTopic

/**
 * What a group needs for topics, or for the topics of notification events, each
 * once.
 *
 * **When to use**
 *
 * Use at the start of a program that publishes. The queue keeps messages that are
 * published before its first consumer starts. Without any queue, a message cannot
 * be routed, and publishing it fails.
 *
 * **Example** (At the start of a publisher)
 *
 * ```ts
 * import { RabbitTopology } from "@event-flow/rabbitmq-layer"
 *
 * const ensured = RabbitTopology.RabbitTopology.use((topology) =>
 *   topology.ensure(RabbitTopology.specs("delay-board", ["flights"]))
 * )
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const specs = (
  group: string,
  of: ReadonlyArray<NotificationEvent.AnyClass | string>
): ReadonlyArray<GroupSpec> =>
  Array.from(
    new Set(of.map((source) => typeof source === "string" ? source : source.route.topic)),
    (topic) => ({ group, topic })
  )

/**
 * A `RabbitTopology` for the queues that a subscriber with the same options
 * consumes. It is built without a server.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: RabbitConfig.Topology
): Layer.Layer<RabbitTopology, Settings.InvalidSetting> => Layer.effect(RabbitTopology, make(options))

/**
 * The same with options from `Config`s of your own: one for each option, or one
 * for all of them.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<RabbitConfig.Topology>
): Layer.Layer<RabbitTopology, Settings.InvalidSetting | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * The same with options from the environment, or whatever the `ConfigProvider`
 * reads: `RABBITMQ_URL` and so on; see `RabbitConfig.topology`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv: Layer.Layer<RabbitTopology, Settings.InvalidSetting | Config.ConfigError> = layerConfig(
  RabbitConfig.topology.config
)

// --- internal ---

/** What is to be there: how to look for it, and how to declare it. */
interface Wanted {
  readonly name: string
  readonly setting: "exchange" | "queue"
  readonly look: (channel: Channel) => Promise<unknown>
  readonly declare: (channel: Channel) => Promise<unknown>
}

const make = Effect.fnUntraced(function*(options: RabbitConfig.Topology) {
  const settings = yield* topologySettings(options)

  const wantedBy = (specs: ReadonlyArray<GroupSpec>): ReadonlyArray<Wanted> => {
    const queues = specs.flatMap(({ group, retryDelays = [], topic }) =>
      Declare.queuesOf(settings, { group, topics: [topic], retryDelays })
    )
    return [
      {
        name: settings.exchange,
        setting: "exchange",
        look: (channel) => channel.checkExchange(settings.exchange),
        declare: (channel) => Declare.declareExchange(channel, settings)
      },
      ...Arr.dedupeWith(queues, (one, other) => one.name === other.name).map((queue): Wanted => ({
        name: queue.name,
        setting: "queue",
        look: (channel) => channel.checkQueue(queue.name),
        declare: (channel) => Declare.declareQueue(channel, queue)
      }))
    ]
  }

  /** On a channel of its own, since the server closes it with the answer no. */
  const onChannel = (model: ChannelModel, question: (channel: Channel) => Promise<unknown>) =>
    openChannel(settings, () => model.createChannel()).pipe(
      Effect.flatMap((channel) => ask(() => question(channel))),
      Effect.timeoutOrElse({
        duration: settings.connectTimeout,
        orElse: () => Effect.fail(new AmqpFailure(new Error(`no answer within ${settings.connectTimeout} ms`)))
      }),
      Effect.scoped
    )

  const isThere = (model: ChannelModel, { look }: Wanted) =>
    Effect.as(onChannel(model, look), true).pipe(
      Effect.catchIf((failure) => failure.code === ReplyCode.notFound, () => Effect.succeed(false))
    )

  /** Declares it, and gives what differs where it is there and cannot be declared so. */
  const declare = (
    model: ChannelModel,
    { declare, name }: Wanted
  ): Effect.Effect<Difference | undefined, AmqpFailure> =>
    Effect.as(onChannel(model, declare), undefined).pipe(
      Effect.catchIf((failure) => failure.code === ReplyCode.preconditionFailed, (failure) => {
        const difference = differenceIn(name, failure.detail)
        return difference === undefined ? Effect.fail(failure) : Effect.succeed(difference)
      })
    )

  const compare = Effect.fnUntraced(function*(model: ChannelModel, wanted: Wanted) {
    if (yield* isThere(model, wanted)) return yield* declare(model, wanted)
    const { name, setting } = wanted
    return { name, setting, wanted: "exists", actual: undefined } satisfies Difference
  })

  const ensure = Effect.fnUntraced(function*(model: ChannelModel, specs: ReadonlyArray<GroupSpec>) {
    const created: Array<string> = []
    const differences: Array<Difference> = []
    for (const wanted of wantedBy(specs)) {
      const wasThere = yield* isThere(model, wanted)
      const difference = yield* declare(model, wanted)
      if (difference !== undefined) differences.push(difference)
      else if (!wasThere) created.push(wanted.name)
    }
    return { created, differences } satisfies Report
  })

  const connected = <A>(
    specs: ReadonlyArray<GroupSpec>,
    use: (model: ChannelModel) => Effect.Effect<A, AmqpFailure>
  ): Effect.Effect<A, RabbitTopologyError> =>
    // An error of the connection comes with the answers to what was asked
    Effect.flatMap(Connection.open(settings, (model) => model.on("error", () => {})), use).pipe(
      Effect.scoped,
      Effect.mapError((failure) =>
        new RabbitTopologyError({
          topics: Arr.dedupe(specs.map(({ topic }) => topic)),
          reason: reasonOf(failure)
        })
      )
    )

  /** Fails for topics that cannot be routed, before it connects. */
  const routable = (specs: ReadonlyArray<GroupSpec>): Effect.Effect<void, RabbitTopologyError> => {
    for (const { topic } of specs) {
      const detail = settings.refusedTopic(topic)
      if (detail !== undefined) {
        return Effect.fail(new RabbitTopologyError({ topics: [topic], reason: new Broker.Rejected({ detail }) }))
      }
    }
    return Effect.void
  }

  return RabbitTopology.of({
    check: (specs) =>
      Effect.andThen(
        routable(specs),
        connected(specs, (model) => Effect.forEach(wantedBy(specs), (wanted) => compare(model, wanted)))
      ).pipe(Effect.map(Arr.filter((difference) => difference !== undefined))),
    ensure: (specs) => Effect.andThen(routable(specs), connected(specs, (model) => ensure(model, specs)))
  })
})

/** `inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'classic' but current is 'quorum'` */
const differenceIn = (name: string, detail: string): Difference | undefined => {
  const match = /inequivalent arg '(?<setting>[^']+)' .*: received (?<wanted>.+) but current is (?<actual>.+)/s
    .exec(detail)?.groups
  if (match === undefined) return undefined
  const valueOf = (words: string) => /'([^']*)'/.exec(words)?.[1]
  return {
    name,
    setting: match["setting"]!,
    wanted: valueOf(match["wanted"]!) ?? "none",
    actual: valueOf(match["actual"]!)
  }
}
