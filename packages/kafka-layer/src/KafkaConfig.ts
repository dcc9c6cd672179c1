/**
 * How to reach a Kafka cluster, how to publish and how to consume. Every
 * setting can be given in code or read from a `ConfigProvider`; a wrong one
 * fails when the layer is built, with the name of the field.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/**
 * A setting is wrong.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class KafkaConfigError
  extends Schema.TaggedError<KafkaConfigError>("@event-flow/kafka-layer/KafkaConfig/KafkaConfigError")(
    "KafkaConfigError",
    { field: Schema.String, detail: Schema.String }
  )
{
  override get message(): string {
    return `Kafka configuration: ${this.field}: ${this.detail}`
  }
}

/**
 * TLS. All certificates are PEM text.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Tls {
  /** The authority that signed the brokers' certificates. Default: those of the system. */
  readonly ca?: string | undefined
  /** This client's certificate, for mutual TLS. */
  readonly certificate?: string | undefined
  readonly key?: Redacted.Redacted | undefined
  /** The name that the broker's certificate must bear. Default: the host connected to. */
  readonly serverName?: string | undefined
}

/**
 * SASL credentials.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Sasl {
  readonly mechanism: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512"
  readonly username: string
  readonly password: Redacted.Redacted
}

/**
 * How to reach the cluster.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Connection {
  /** `host:port` of one or more brokers; the others are learnt from them. */
  readonly bootstrapServers: ReadonlyArray<string>
  /** Names this program in the brokers' logs and quotas. Default: `"event-flow"`. */
  readonly clientId?: string | undefined
  /** Default: false. */
  readonly tls?: boolean | Tls | undefined
  readonly sasl?: Sasl | undefined
  /** How long connecting to a broker may take. Default: 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** How long a broker may take to answer one request. Default: 10 seconds. */
  readonly requestTimeout?: Duration.Input | undefined
  /** How old the knowledge of topics and leaders may grow without cause to doubt it. Default: 1 minute. */
  readonly metadataMaxAge?: Duration.Input | undefined
}

/**
 * How to publish.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Publishing {
  /**
   * How long a message waits for others to share its request, while none of its
   * partition is on its way. With 0 it waits for what is published in the same
   * turn of the event loop. Behind a request on its way, messages gather
   * anyway. Default: 0.
   */
  readonly linger?: Duration.Input | undefined
  /** The most messages in one request. Default: 500. */
  readonly maxBatchMessages?: number | undefined
  /** The most bytes of one partition in one request; below the broker's `message.max.bytes`. Default: 512 KiB. */
  readonly maxBatchBytes?: number | undefined
  /** The most requests on their way to one broker; never two of one partition. Default: 5. */
  readonly maxInFlight?: number | undefined
  /** How many messages may wait for their acknowledgement; further publishes wait for room. Default: 10,000. */
  readonly maxBufferedMessages?: number | undefined
  /** The same in bytes. Default: 32 MiB. */
  readonly maxBufferedBytes?: number | undefined
  /**
   * `"all"`: in-sync replicas have it. `"leader"`: the leader has it; it is lost
   * if that one dies before the others copied it. Default: `"all"`.
   */
  readonly acks?: "all" | "leader" | undefined
  /** The broker drops a repetition that a retry made. Needs `acks: "all"`. Default: true, with `acks: "all"`. */
  readonly idempotent?: boolean | undefined
  /** Default: `"none"`. */
  readonly compression?: "none" | "gzip" | "snappy" | "lz4" | "zstd" | undefined
  /** How long a publish may take, retries included, before it fails. Default: 30 seconds. */
  readonly deliveryTimeout?: Duration.Input | undefined
  /** The wait before a retry. Default: 100 milliseconds. */
  readonly retryDelay?: Duration.Input | undefined
  /** How long closing waits for messages on their way. Default: 10 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
  /** Let the broker create topics that do not exist, where it is willing to. Default: false. */
  readonly createTopics?: boolean | undefined
}

/**
 * How to consume.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Consuming {
  /** Where a group without a committed offset begins. Default: `"earliest"`, which skips nothing. */
  readonly startFrom?: "earliest" | "latest" | undefined
  /** Without a heartbeat for so long, a consumer is taken for dead. Default: 30 seconds. */
  readonly sessionTimeout?: Duration.Input | undefined
  /** Default: 3 seconds. */
  readonly heartbeatInterval?: Duration.Input | undefined
  /** How long the members of the group may take to join again. Default: 60 seconds; at least `sessionTimeout`. */
  readonly rebalanceTimeout?: Duration.Input | undefined
  /**
   * How long running handlers may go on when partitions are taken away, before
   * they are interrupted. Shorter than `sessionTimeout`. Default: 10 seconds.
   */
  readonly revokeTimeout?: Duration.Input | undefined
  /** How long closing a subscription waits for deliveries that are out. Default: 10 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
  /** Commit at least so often while there is something to commit. Default: 1 second. */
  readonly commitInterval?: Duration.Input | undefined
  /** Commit after so many acknowledgements, too. Default: 5,000. */
  readonly commitCount?: number | undefined
  /** The most bytes fetched of one partition at once. Default: 256 KiB. */
  readonly maxBytesPerPartition?: number | undefined
  /** How many messages of a partition may wait in memory before no more of it is fetched. Default: 500. */
  readonly maxBufferedPerPartition?: number | undefined
  /**
   * How far behind the newest acknowledged message of a partition the oldest
   * unacknowledged one may lie, in messages. Default: 10,000.
   */
  readonly maxUncommittedPerPartition?: number | undefined
  /** How long a broker may hold back an answer while it has nothing. Default: 500 milliseconds. */
  readonly fetchWait?: Duration.Input | undefined
  /** The wait before a message that was given back is delivered again. Default: 100 milliseconds. */
  readonly redeliveryDelay?: Duration.Input | undefined
  /** The first wait before connecting again; it doubles up to 10 seconds. Default: 250 milliseconds. */
  readonly reconnectDelay?: Duration.Input | undefined
  /** How long subscribing tries to reach a broker before it fails. Default: 30 seconds. */
  readonly subscribeTimeout?: Duration.Input | undefined
}

/**
 * All that a publisher is told.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Publisher extends Connection, Publishing {}

/**
 * All that a consumer is told.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Consumer extends Connection, Consuming {}

// --- internal ---

const optional = <A>(config: Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config), Option.getOrUndefined)

const tlsConfig: Config.Config<boolean | Tls | undefined> = Config.map(
  Config.all({
    on: optional(Config.Boolean("tls")),
    ca: optional(Config.String("tlsCa")),
    certificate: optional(Config.String("tlsCertificate")),
    key: optional(Config.Redacted("tlsKey")),
    serverName: optional(Config.String("tlsServerName"))
  }),
  ({ on, ...details }) => on === false || Object.values(details).every((detail) => detail === undefined) ? on : details
)

const saslConfig: Config.Config<Sasl | undefined> = Config.flatMap(
  optional(Config.Literals(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], "saslMechanism")),
  (mechanism): Config.Config<Sasl | undefined> =>
    mechanism === undefined ? Config.succeed(undefined) : Config.all({
      mechanism: Config.succeed(mechanism),
      username: Config.String("saslUsername"),
      password: Config.Redacted("saslPassword")
    })
)

const connectionFields = {
  bootstrapServers: Config.Array(Schema.Trim, "bootstrapServers"),
  clientId: optional(Config.String("clientId")),
  tls: tlsConfig,
  sasl: saslConfig,
  connectTimeout: optional(Config.Duration("connectTimeout")),
  requestTimeout: optional(Config.Duration("requestTimeout")),
  metadataMaxAge: optional(Config.Duration("metadataMaxAge"))
}

// --- configuration, below what it is made of ---

/**
 * `Connection` from a `ConfigProvider`: `kafka.bootstrapServers` (a list
 * separated by commas), `kafka.clientId`, `kafka.tls` (a boolean),
 * `kafka.tlsCa`, `kafka.tlsCertificate`, `kafka.tlsKey`, `kafka.tlsServerName`,
 * `kafka.saslMechanism`, `kafka.saslUsername`, `kafka.saslPassword` and the
 * rest by the names of their fields. With `ConfigProvider.constantCase` they
 * are `KAFKA_BOOTSTRAP_SERVERS` and so on.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const connection: Config.Config<Connection> = Config.all(connectionFields).pipe(Config.nested("kafka"))

/**
 * `Publisher` from a `ConfigProvider`, as `connection`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const publisher: Config.Config<Publisher> = Config.all({
  ...connectionFields,
  linger: optional(Config.Duration("linger")),
  maxBatchMessages: optional(Config.Int("maxBatchMessages")),
  maxBatchBytes: optional(Config.Int("maxBatchBytes")),
  maxInFlight: optional(Config.Int("maxInFlight")),
  maxBufferedMessages: optional(Config.Int("maxBufferedMessages")),
  maxBufferedBytes: optional(Config.Int("maxBufferedBytes")),
  acks: optional(Config.Literals(["all", "leader"], "acks")),
  idempotent: optional(Config.Boolean("idempotent")),
  compression: optional(Config.Literals(["none", "gzip", "snappy", "lz4", "zstd"], "compression")),
  deliveryTimeout: optional(Config.Duration("deliveryTimeout")),
  retryDelay: optional(Config.Duration("retryDelay")),
  closeTimeout: optional(Config.Duration("closeTimeout")),
  createTopics: optional(Config.Boolean("createTopics"))
}).pipe(Config.nested("kafka"))

/**
 * `Consumer` from a `ConfigProvider`, as `connection`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const consumer: Config.Config<Consumer> = Config.all({
  ...connectionFields,
  startFrom: optional(Config.Literals(["earliest", "latest"], "startFrom")),
  sessionTimeout: optional(Config.Duration("sessionTimeout")),
  heartbeatInterval: optional(Config.Duration("heartbeatInterval")),
  rebalanceTimeout: optional(Config.Duration("rebalanceTimeout")),
  revokeTimeout: optional(Config.Duration("revokeTimeout")),
  closeTimeout: optional(Config.Duration("closeTimeout")),
  commitInterval: optional(Config.Duration("commitInterval")),
  commitCount: optional(Config.Int("commitCount")),
  maxBytesPerPartition: optional(Config.Int("maxBytesPerPartition")),
  maxBufferedPerPartition: optional(Config.Int("maxBufferedPerPartition")),
  maxUncommittedPerPartition: optional(Config.Int("maxUncommittedPerPartition")),
  fetchWait: optional(Config.Duration("fetchWait")),
  redeliveryDelay: optional(Config.Duration("redeliveryDelay")),
  reconnectDelay: optional(Config.Duration("reconnectDelay")),
  subscribeTimeout: optional(Config.Duration("subscribeTimeout"))
}).pipe(Config.nested("kafka"))
