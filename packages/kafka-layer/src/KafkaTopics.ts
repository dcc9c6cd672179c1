/**
 * Creates and checks the topics of a program's notification events.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Broker from "@event-flow/core/Broker"
import * as ConsumerPolicy from "@event-flow/core/ConsumerPolicy"
import type * as NotificationEvent from "@event-flow/core/NotificationEvent"
import type * as Settings from "@event-flow/core/Settings"
import { Admin, ConfigResourceTypes } from "@platformatic/kafka"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { Answers, watch } from "./internal/answers.ts"
import { baseOptions, promise } from "./internal/client.ts"
import * as KafkaError from "./internal/errors.ts"
import { connectionSettings } from "./internal/settings.ts"
import * as KafkaConfig from "./KafkaConfig.ts"

/**
 * How a topic should be. The broker chooses what is left out.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface TopicSpec {
  readonly topic: string
  readonly partitions?: number | undefined
  readonly replicas?: number | undefined
  /** How long messages are kept. */
  readonly retention?: Duration.Input | undefined
  /** Further settings by their names in Kafka (`cleanup.policy`). */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/**
 * Where a topic differs from what it should be.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Difference {
  readonly topic: string
  /** `"topic"` when it is missing, else `"partitions"`, `"replicas"` or a setting's name in Kafka. */
  readonly setting: string
  readonly wanted: string
  readonly actual: string | undefined
}

/**
 * What `ensure` created, and what differs.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly created: ReadonlyArray<string>
  /** How topics that existed differ from their specs. They were not changed. */
  readonly differences: ReadonlyArray<Difference>
}

/**
 * Topics could not be created or looked up. The reasons are those of
 * `PublishError`; take them apart with
 * `Effect.catchReason("KafkaTopicsError", "Unreachable", ...)`.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class KafkaTopicsError
  extends Schema.TaggedError<KafkaTopicsError>("@event-flow/kafka-layer/KafkaTopics/KafkaTopicsError")(
    "KafkaTopicsError",
    {
      topics: Schema.Array(Schema.String),
      reason: Schema.Union([Broker.Unreachable, Broker.UnknownTopic, Broker.NotAuthorised, Broker.Rejected])
    }
  )
{
  override readonly cause = this.reason

  override get message(): string {
    return `Topics ${this.topics.join(", ")}: ${this.reason._tag}: ${this.reason.detail}`
  }

  /** Whether the same call may succeed later. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
}

/**
 * Creates and checks topics.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class KafkaTopics extends Context.Service<KafkaTopics, {
  /** Says what differs, and changes nothing. */
  readonly check: (specs: ReadonlyArray<TopicSpec>) => Effect.Effect<ReadonlyArray<Difference>, KafkaTopicsError>
  /**
   * Creates what is missing, waits until a broker knows it, and says what differs.
   * Topics that exist are never changed: more partitions would send keys elsewhere and break their order.
   */
  readonly ensure: (specs: ReadonlyArray<TopicSpec>) => Effect.Effect<Report, KafkaTopicsError>
}>()("@event-flow/kafka-layer/KafkaTopics") {}

/**
 * The topics of notification events, each once, and those of their dead letters,
 * which have one partition each: a consumer does not start where they are missing.
 *
 * **Example** (Topics at the start of a program)
 *
 * ```ts
 * import { NotificationEvent } from "@event-flow/core"
 * import { KafkaTopics } from "@event-flow/kafka-layer"
 * import { Schema } from "effect"
 *
 * class SeatTaken extends NotificationEvent.Class<SeatTaken>()("SeatTaken", { seat: Schema.Int }, { topic: "seats" }) {}
 *
 * const ensureTopics = KafkaTopics.KafkaTopics.use((topics) =>
 *   topics.ensure(KafkaTopics.specs([SeatTaken], { partitions: 12, retention: "7 days" }))
 * )
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const specs = (
  definitions: ReadonlyArray<NotificationEvent.AnyClass>,
  options?: Omit<TopicSpec, "topic">
): ReadonlyArray<TopicSpec> =>
  [...new Set(definitions.map((definition) => definition.route.topic))].flatMap((topic) => [
    { topic, ...options },
    { topic: ConsumerPolicy.deadLetterTopic(topic), ...options, partitions: 1 }
  ])

/**
 * A `KafkaTopics` with an admin client of its own. It is built without a broker.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: KafkaConfig.Connection
): Layer.Layer<KafkaTopics, Settings.InvalidSetting> => Layer.effect(KafkaTopics, make(options))

/**
 * The same with options from `Config`s of your own: one for each option, or one
 * for all of them.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<KafkaConfig.Connection>
): Layer.Layer<KafkaTopics, Settings.InvalidSetting | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * The same with options from the environment, or whatever the `ConfigProvider`
 * reads: `KAFKA_BOOTSTRAP_SERVERS` and so on; see `KafkaConfig.connection`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerFromEnv: Layer.Layer<KafkaTopics, Settings.InvalidSetting | Config.ConfigError> = layerConfig(
  KafkaConfig.connection.config
)

// --- internal ---

const make = Effect.fnUntraced(function*(options: KafkaConfig.Connection) {
  const settings = yield* connectionSettings(options)
  const admin = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const admin = new Admin(baseOptions(settings))
      watch(admin.connections, new Answers(), settings)
      return admin
    }),
    (admin) => Effect.ignore(Effect.timeoutOption(promise(() => admin.close()), settings.requestTimeout))
  )

  /** The specs whose topics exist, with what differs about them. */
  const compare = Effect.fnUntraced(function*(specs: ReadonlyArray<TopicSpec>) {
    const names = new Set(yield* promise(() => admin.listTopics({ includeInternals: true })))
    const existing = specs.filter(({ topic }) => names.has(topic))
    const differences: Array<Difference> = []
    if (existing.length === 0) return { names, differences }
    const metadata = yield* promise(() =>
      admin.metadata({ topics: existing.map(({ topic }) => topic), forceUpdate: true })
    )
    const withSettings = existing.filter((spec) => Object.keys(kafkaSettings(spec)).length > 0)
    const described = withSettings.length === 0 ? [] : yield* promise(() =>
      admin.describeConfigs({
        resources: withSettings.map((spec) => ({
          resourceType: ConfigResourceTypes.TOPIC,
          resourceName: spec.topic,
          configurationKeys: Object.keys(kafkaSettings(spec))
        }))
      })
    )
    for (const spec of existing) {
      const note = (setting: string, wanted: string | undefined, actual: string | undefined) => {
        if (wanted !== undefined && wanted !== actual) differences.push({ topic: spec.topic, setting, wanted, actual })
      }
      const partitions = metadata.topics.get(spec.topic)?.partitions ?? []
      note("partitions", spec.partitions?.toString(), partitions.length.toString())
      note("replicas", spec.replicas?.toString(), partitions[0]?.replicas.length.toString())
      const configs = described.find(({ resourceName }) => resourceName === spec.topic)?.configs ?? []
      for (const [name, wanted] of Object.entries(kafkaSettings(spec))) {
        note(name, wanted, configs.find((config) => config.name === name)?.value ?? undefined)
      }
    }
    return { names, differences }
  })

  const missing = (specs: ReadonlyArray<TopicSpec>, names: ReadonlySet<string>) =>
    specs.filter(({ topic }) => !names.has(topic))

  const create = (spec: TopicSpec): Effect.Effect<string | undefined, KafkaError.Failure> =>
    promise(() =>
      admin.createTopics({
        topics: [{ topic: spec.topic, partitions: spec.partitions ?? -1, replicas: spec.replicas ?? -1 }],
        configs: Object.entries(kafkaSettings(spec)).map(([name, value]) => ({ name, value }))
      })
    ).pipe(
      Effect.as(spec.topic),
      // Another program was faster
      Effect.catchIf((failure) => failure.detail.startsWith("TOPIC_ALREADY_EXISTS"), () => Effect.succeed(undefined))
    )

  /** Brokers know a topic some time after the controller has made it; until then to subscribe fails. */
  const known = (topics: ReadonlyArray<string>): Effect.Effect<void, KafkaError.Failure> =>
    topics.length === 0 ? Effect.void : promise(() => admin.metadata({ topics: [...topics], forceUpdate: true })).pipe(
      Effect.retry({ schedule: Schedule.spaced("100 millis"), while: ({ kind }) => kind === "unknownTopic" }),
      Effect.timeoutOption(settings.requestTimeout),
      Effect.asVoid
    )

  return KafkaTopics.of({
    check: (specs) =>
      compare(specs).pipe(
        Effect.map(({ differences, names }) => [
          ...missing(specs, names).map(({ topic }) => ({
            topic,
            setting: "topic",
            wanted: "exists",
            actual: undefined
          })),
          ...differences
        ]),
        Effect.mapError((failure) => topicsError(specs, failure))
      ),
    ensure: (specs) =>
      Effect.gen(function*() {
        const { differences, names } = yield* compare(specs)
        const absent = missing(specs, names)
        const created = yield* Effect.forEach(absent, create)
        yield* known(absent.map(({ topic }) => topic))
        return { created: created.filter((topic) => topic !== undefined), differences }
      }).pipe(Effect.mapError((failure) => topicsError(specs, failure)))
  })
})

const kafkaSettings = (spec: TopicSpec): Readonly<Record<string, string>> => ({
  ...(spec.retention === undefined
    ? undefined
    : { "retention.ms": Math.round(Duration.toMillis(spec.retention)).toString() }),
  ...spec.settings
})

const topicsError = (specs: ReadonlyArray<TopicSpec>, failure: KafkaError.Failure): KafkaTopicsError =>
  new KafkaTopicsError({
    topics: specs.map(({ topic }) => topic),
    reason: KafkaError.isRetryable(failure.kind)
      ? new Broker.Unreachable(KafkaError.reasonFields(failure))
      : KafkaError.refusalReason(failure)
  })
