/**
 * How to reach a Kafka cluster, how to publish and how to consume. Settings are
 * given in code or read from the environment; a wrong one fails with
 * `Settings.InvalidSetting` when the layer is built, with the name of the field.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Settings from "@event-flow/core/Settings"
import * as Schema from "effect/Schema"

const tlsFields = {
  /** PEM text of the authority that signed the brokers' certificates. Default: those of the system. */
  ca: Schema.optional(Schema.String),
  /** PEM text of this client's certificate, for mutual TLS. Needs `key`. */
  certificate: Schema.optional(Schema.String),
  /** PEM text of the key of `certificate`. */
  key: Schema.optional(Schema.Redacted(Schema.String)),
  /** The name that the broker's certificate must bear. Default: the host that is connected to. */
  serverName: Schema.optional(Schema.String)
}

const saslFields = {
  /** How to prove who this client is. */
  mechanism: Schema.Literals(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
  /** The name of the user. */
  username: Schema.String.check(Schema.isNonEmpty({ expected: "a name" })),
  /** The password of the user. */
  password: Schema.Redacted(Schema.String)
}

const isHostAndPort = (server: string): boolean => {
  const port = Number(/^(?:[^:\s]+|\[[0-9a-fA-F:.]+\]):(\d+)$/.exec(server)?.[1])
  return port > 0 && port < 65_536
}

const connectionFields = {
  /** `host:port` of one or more brokers; the client learns the others from them. */
  bootstrapServers: Schema.Array(Schema.Trim.check(Schema.makeFilter(isHostAndPort, { expected: "host:port" })))
    .check(Schema.isNonEmpty({ expected: "at least one host:port" })),
  /** Names this program in the brokers' logs and quotas. Default: "event-flow". */
  clientId: Settings.withDefault(
    Schema.String.check(Schema.isPattern(/^\S+$/, { expected: "a name without white space" })),
    "event-flow"
  ),
  /** TLS: true for the certificates of the system, or details. Default: none. */
  tls: Schema.optional(Schema.Union([
    Schema.Boolean,
    Schema.Struct(tlsFields).check(
      Schema.makeFilter(({ certificate, key }) =>
        (certificate === undefined) === (key === undefined)
          ? undefined
          : { path: [key === undefined ? "key" : "certificate"], issue: "certificate and key belong together" }
      )
    )
  ])),
  /** SASL credentials. Default: none. */
  sasl: Schema.optional(Schema.Struct(saslFields)),
  /** How long connecting to a broker may take. Default: 5 seconds. */
  connectTimeout: Settings.withDefault(Settings.duration(), "5 seconds"),
  /** How long a broker may take to answer one request. Default: 10 seconds. */
  requestTimeout: Settings.withDefault(Settings.duration(), "10 seconds"),
  /** How old the knowledge of topics and leaders may become while nothing contradicts it. Default: 1 minute. */
  metadataMaxAge: Settings.withDefault(Settings.duration(), "1 minute")
}

const publishingFields = {
  /**
   * How long a message waits for others to share its request while no request of
   * its partition is in flight. With 0 it waits for what is published in the same
   * turn of the event loop. Behind a request in flight, messages gather anyway.
   * Default: 0.
   */
  linger: Settings.withDefault(Settings.duration({ minimum: 0 }), 0),
  /** The most messages in one request. Default: 500. */
  maxBatchMessages: Settings.withDefault(Settings.wholeNumber(), 500),
  /** The most bytes of one partition in one request; below the broker's `message.max.bytes`. Default: 524288. */
  maxBatchBytes: Settings.withDefault(Settings.wholeNumber(), 512 * 1024),
  /** The most requests in flight to one broker; never two of one partition. Default: 5. */
  maxInFlight: Settings.withDefault(Settings.wholeNumber(), 5),
  /** How many messages may wait for their acknowledgement; further publishes wait for room. Default: 10000. */
  maxBufferedMessages: Settings.withDefault(Settings.wholeNumber(), 10_000),
  /** How many bytes may wait for their acknowledgement. Default: 33554432. */
  maxBufferedBytes: Settings.withDefault(Settings.wholeNumber(), 32 * 1024 * 1024),
  /**
   * `"all"`: a publish succeeds when the in-sync replicas have the message.
   * `"leader"`: when the leader has it; it is lost if the leader dies before the
   * others copied it. Default: "all".
   */
  acks: Settings.withDefault(Schema.Literals(["all", "leader"]), "all"),
  /** The broker drops repetitions that a retry made. Needs `acks: "all"`. Default: true with `acks: "all"`. */
  idempotent: Schema.optional(Schema.Boolean),
  /** How requests are compressed. Default: "none". */
  compression: Settings.withDefault(Schema.Literals(["none", "gzip", "snappy", "lz4", "zstd"]), "none"),
  /**
   * How long a publish may take, retries included, before it fails: the
   * `delivery.timeout.ms` of Kafka's own clients. Default: 30 seconds.
   */
  publishTimeout: Settings.withDefault(Settings.duration(), "30 seconds"),
  /** The wait before the first retry of a request; it doubles up to 1 second. Default: 100 millis. */
  retryDelay: Settings.withDefault(Settings.duration(), "100 millis"),
  /** How long closing waits for messages that are not acknowledged. Default: 10 seconds. */
  drainTimeout: Settings.withDefault(Settings.duration({ minimum: 0 }), "10 seconds"),
  /** Let the broker create topics that do not exist, where it is willing to. Default: false. */
  createTopics: Settings.withDefault(Schema.Boolean, false)
}

const consumingFields = {
  /**
   * Where a group begins that is new to a topic. `"earliest"` skips nothing. Where it
   * begins is committed at once. A partition that is added later, and a topic that is
   * created again, begin at their first message in any case. Default: "earliest".
   */
  startFrom: Settings.withDefault(Schema.Literals(["earliest", "latest"]), "earliest"),
  /**
   * Where a group goes on when the offset at which it continues is no longer there, as
   * when retention deleted messages before it handled them. `"nearest"`: at the first
   * message; where the log was cut off below the offset, at the end of what is left of
   * it, and at the first message if that is not known. `"earliest"`: at the first
   * message. `"latest"`: at the end. `"fail"`: the subscription ends with `Rejected`.
   * All but `"fail"` are logged at level Error. Default: "nearest".
   */
  outOfRange: Settings.withDefault(Schema.Literals(["nearest", "earliest", "latest", "fail"]), "nearest"),
  /** A consumer without a heartbeat for so long counts as dead. Default: 30 seconds. */
  sessionTimeout: Settings.withDefault(Settings.duration(), "30 seconds"),
  /** The time between two heartbeats. Shorter than `sessionTimeout`. Default: 3 seconds. */
  heartbeatInterval: Settings.withDefault(Settings.duration(), "3 seconds"),
  /** How long the members of the group may take to join again. At least `sessionTimeout`. Default: 60 seconds. */
  rebalanceTimeout: Settings.withDefault(Settings.duration(), "60 seconds"),
  /**
   * How long running handlers may go on when partitions are taken away, before
   * they are interrupted. Shorter than `sessionTimeout`. Default: 10 seconds, or
   * half of `sessionTimeout` where that is less.
   */
  revokeTimeout: Schema.optional(Settings.duration({ minimum: 0 })),
  /**
   * How long closing a subscription waits until it has left its group. What is
   * acknowledged is committed before. Default: 10 seconds.
   */
  drainTimeout: Settings.withDefault(Settings.duration({ minimum: 0 }), "10 seconds"),
  /** The longest time between two commits while there is something to commit. Default: 1 second. */
  commitInterval: Settings.withDefault(Settings.duration(), "1 second"),
  /** Commit after so many acknowledgements as well. Default: 5000. */
  commitCount: Settings.withDefault(Settings.wholeNumber(), 5_000),
  /** The most bytes fetched of one partition at once. Default: 262144. */
  maxBytesPerPartition: Settings.withDefault(Settings.wholeNumber(), 256 * 1024),
  /** How many messages of a partition may wait in memory before no more of it is fetched. Default: 500. */
  maxBufferedPerPartition: Settings.withDefault(Settings.wholeNumber(), 500),
  /**
   * How many messages the oldest unacknowledged message of a partition may lie
   * behind the newest acknowledged one. Default: 10000.
   */
  maxUncommittedPerPartition: Settings.withDefault(Settings.wholeNumber(), 10_000),
  /** How long a broker may hold back an answer while it has no messages. Default: 500 millis. */
  fetchWait: Settings.withDefault(Settings.duration(), "500 millis"),
  /** The wait before a message that was given back is delivered again. Default: 100 millis. */
  redeliveryDelay: Settings.withDefault(Settings.duration({ minimum: 0 }), "100 millis"),
  /** The wait before the first attempt to connect again; it doubles up to 10 seconds. Default: 250 millis. */
  reconnectDelay: Settings.withDefault(Settings.duration(), "250 millis"),
  /** How long subscribing tries to reach a broker before it fails. Default: 30 seconds. */
  subscribeTimeout: Settings.withDefault(Settings.duration(), "30 seconds")
}

/**
 * TLS. All certificates are PEM text.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Tls extends Schema.Struct.Encoded<typeof tlsFields> {}

/**
 * SASL credentials.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Sasl extends Schema.Struct.Encoded<typeof saslFields> {}

/**
 * How to reach the cluster: the options of `KafkaTopics`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Connection extends Schema.Struct.Encoded<typeof connectionFields> {}

/**
 * How to publish.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Publishing extends Schema.Struct.Encoded<typeof publishingFields> {}

/**
 * How to consume.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Consuming extends Schema.Struct.Encoded<typeof consumingFields> {}

/**
 * Options of `KafkaBroker`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Publisher extends Connection, Publishing {}

/**
 * Options of `KafkaSubscriber`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Consumer extends Connection, Consuming {}

/**
 * The settings of `Connection`. `connection.config` reads `KAFKA_BOOTSTRAP_SERVERS`
 * (a list separated by commas), `KAFKA_TLS` (a boolean), `KAFKA_TLS_CA`,
 * `KAFKA_SASL_MECHANISM`, `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD` and so on.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const connection = Settings.make("KafkaTopics", { prefix: "KAFKA", schema: Schema.Struct(connectionFields) })

/**
 * The settings of `Publisher`, with the names of `connection` and those of the
 * other fields, such as `KAFKA_MAX_BATCH_MESSAGES`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const publisher = Settings.make("KafkaBroker", {
  prefix: "KAFKA",
  schema: Schema.Struct({ ...connectionFields, ...publishingFields }).check(
    Schema.makeFilter(({ acks, idempotent }) =>
      idempotent === true && acks !== "all"
        ? { path: ["idempotent"], issue: `it needs acks "all", not "${acks}"` }
        : undefined
    )
  )
})

/**
 * The settings of `Consumer`, with the names of `connection` and those of the
 * other fields, such as `KAFKA_SESSION_TIMEOUT`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const consumer = Settings.make("KafkaSubscriber", {
  prefix: "KAFKA",
  schema: Schema.Struct({ ...connectionFields, ...consumingFields }).check(
    Schema.makeFilter(({ heartbeatInterval, rebalanceTimeout, revokeTimeout, sessionTimeout }) => {
      const session = `sessionTimeout (${sessionTimeout} ms)`
      if (heartbeatInterval >= sessionTimeout) {
        return { path: ["heartbeatInterval"], issue: `it must be shorter than ${session}` }
      }
      if (rebalanceTimeout < sessionTimeout) {
        return { path: ["rebalanceTimeout"], issue: `it must be at least ${session}` }
      }
      return revokeTimeout !== undefined && revokeTimeout >= sessionTimeout
        ? { path: ["revokeTimeout"], issue: `it must be shorter than ${session}` }
        : undefined
    })
  )
})
