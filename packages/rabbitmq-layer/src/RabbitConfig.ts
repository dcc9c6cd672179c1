/**
 * How to reach a RabbitMQ server, how topics map to exchanges and queues, how
 * to publish and how to consume. Settings are given in code or read from the
 * environment; a wrong one fails with `Settings.InvalidSetting` when the layer is
 * built, with the name of the field.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Settings from "@event-flow/core/Settings"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { fits } from "./internal/names.ts"
import * as Url from "./internal/url.ts"

/**
 * Where the messages of a topic go.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Route {
  readonly exchange: string
  readonly routingKey: string
}

const tlsFields = {
  /** PEM text of the authority that signed the server's certificate. Default: those of the system. */
  ca: Schema.optional(Schema.String),
  /** PEM text of this client's certificate, for mutual TLS. Needs `key`. */
  certificate: Schema.optional(Schema.String),
  /** PEM text of the key of `certificate`. */
  key: Schema.optional(Schema.Redacted(Schema.String)),
  /** The name that the server's certificate must bear. Default: the host that is connected to. */
  serverName: Schema.optional(Schema.String)
}

const connectionFields = {
  /** `amqp://user:password@host:port/vhost`, or `amqps:` for TLS. The parts are percent-encoded. */
  url: Schema.Union([Schema.Redacted(Schema.String), Schema.String]),
  /** The name of the user. Default: the one of the URL. */
  username: Schema.optional(Schema.String),
  /** The password of the user. Default: the one of the URL. */
  password: Schema.optional(Schema.Redacted(Schema.String)),
  /** Details of TLS, with an `amqps:` URL. Default: the certificates of the system. */
  tls: Schema.optional(
    Schema.Struct(tlsFields).check(
      Schema.makeFilter(({ certificate, key }) =>
        (certificate === undefined) === (key === undefined)
          ? undefined
          : { path: [key === undefined ? "key" : "certificate"], issue: "certificate and key belong together" }
      )
    )
  ),
  /** Names this program in the server's list of connections. Default: "event-flow". */
  connectionName: Settings.withDefault(Schema.String, "event-flow"),
  /** A connection that is silent for twice as long counts as lost. At least a second. Default: 10 seconds. */
  heartbeat: Settings.withDefault(Settings.duration({ minimum: "1 second" }), "10 seconds"),
  /** How long connecting may take. Default: 10 seconds. */
  connectTimeout: Settings.withDefault(Settings.duration(), "10 seconds"),
  /** The wait before the first attempt to connect again; it doubles, with jitter. Default: 100 millis. */
  reconnectDelay: Settings.withDefault(Settings.duration(), "100 millis"),
  /** The longest wait before an attempt to connect again. Default: 10 seconds. */
  maxReconnectDelay: Settings.withDefault(Settings.duration(), "10 seconds"),
  /**
   * How long each step of closing waits: for messages that are not confirmed, for
   * the channel, for the connection. Default: 10 seconds.
   */
  drainTimeout: Settings.withDefault(Settings.duration({ minimum: 0 }), "10 seconds"),
  /** The exchange of all topics: a durable topic exchange. Default: "event-flow". */
  exchange: Settings.withDefault(
    Schema.String.check(
      Schema.makeFilter((name) => name !== "" && fits(name), { expected: "a name of 1 to 255 bytes" })
    ),
    "event-flow"
  ),
  /** Where a topic's messages go. Default: to `exchange`, with the topic as routing key. */
  route: Schema.optional(Settings.code<(topic: string) => Route>()),
  /** Declare exchanges, queues and bindings. With false, `RabbitTopology` or somebody else does. Default: true. */
  declare: Settings.withDefault(Schema.Boolean, true)
}

const publishingFields = {
  /** How many messages may be sent and not confirmed; more wait for room. Default: 1000. */
  maxInFlight: Settings.withDefault(Settings.wholeNumber(), 1_000),
  /**
   * The number of channels that messages are spread over. Messages of one key
   * share a channel and keep their order; with one channel, all messages do.
   * Default: 1.
   */
  channels: Settings.withDefault(Settings.wholeNumber({ maximum: 100 }), 1),
  /** How long a publish may take, reconnecting included, before it fails. Default: 30 seconds. */
  publishTimeout: Settings.withDefault(Settings.duration({ infinite: true }), "30 seconds"),
  /**
   * What becomes of a message that no queue is bound for: `"fail"` with
   * `UnknownTopic`, or `"drop"` it, as a broadcast to whoever listens. Default: "fail".
   */
  unroutable: Settings.withDefault(Schema.Literals(["fail", "drop"]), "fail")
}

const queueFields = {
  /** Quorum queues are replicated and count redeliveries; classic ones do neither. Default: "quorum". */
  queueType: Settings.withDefault(Schema.Literals(["quorum", "classic"]), "quorum"),
  /** The name of a group's queue for a topic. Default: `RabbitTopology.queueName`. */
  queueName: Schema.optional(Settings.code<(group: string, topic: string) => string>()),
  /**
   * One consumer of the group at a time reads a queue, the others stand by. This
   * keeps the order of keys over several consumers. Default: false.
   */
  singleActiveConsumer: Settings.withDefault(Schema.Boolean, false),
  /**
   * Declare a dead-letter queue for each topic, `<topic>.dead-letter`, for the dead
   * letters of an `EventConsumer` and those of the server. Default: true.
   */
  deadLetter: Settings.withDefault(Schema.Boolean, true),
  /**
   * After how many redeliveries the server dead-letters a message. Quorum queues
   * only. Default: never on RabbitMQ 3, after 20 on RabbitMQ 4.
   */
  deliveryLimit: Schema.optional(Settings.wholeNumber())
}

const consumingFields = {
  /**
   * How many unacknowledged messages of one queue the server sends ahead. When the
   * consumer ends, the server counts a delivery of each of them. Default: twice the
   * consumer's `concurrency`, with a `deliveryLimit` its `concurrency`.
   */
  prefetch: Schema.optional(Settings.wholeNumber({ maximum: 65_535 })),
  /** How long the handlers of lost deliveries may take to end before the layer consumes again. Default: 10 seconds. */
  revokeTimeout: Settings.withDefault(Settings.duration(), "10 seconds"),
  /** How long subscribing tries to reach the server before it fails. Default: 30 seconds. */
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
 * How to reach the server, and the exchange that topics live in.
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
 * The queues of consumer groups.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Queues extends Schema.Struct.Encoded<typeof queueFields> {}

/**
 * How to consume.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Consuming extends Schema.Struct.Encoded<typeof consumingFields> {}

/**
 * Options of `RabbitBroker`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Publisher extends Connection, Publishing {}

/**
 * Options of `RabbitTopology`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Topology extends Connection, Queues {}

/**
 * Options of `RabbitSubscriber`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Consumer extends Topology, Consuming {}

// --- checks of several fields ---

const checkConnection = ({ tls, url }: Pick<Connection, "tls" | "url">) => {
  const parsed = Url.parse(Redacted.isRedacted(url) ? Redacted.value(url) : url)
  if (typeof parsed === "string") return { path: ["url"], issue: parsed }
  return tls !== undefined && parsed.protocol !== "amqps"
    ? { path: ["tls"], issue: "it needs a url that begins with amqps:" }
    : undefined
}

const checkQueues = ({ deadLetter, deliveryLimit, queueType }: Queues) => {
  if (deliveryLimit === undefined) return undefined
  if (queueType === "classic") {
    return { path: ["deliveryLimit"], issue: "it needs quorum queues: classic ones count no redeliveries" }
  }
  return deadLetter === false
    ? { path: ["deliveryLimit"], issue: "it needs deadLetter: without dead letters the server would drop messages" }
    : undefined
}

// --- settings ---

/**
 * The settings of `Connection`, for a client of your own. `connection.config`
 * reads `RABBITMQ_URL`, `RABBITMQ_USERNAME`, `RABBITMQ_PASSWORD`, `RABBITMQ_TLS_CA`
 * and so on.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const connection = Settings.make("RabbitMQ", {
  prefix: "RABBITMQ",
  schema: Schema.Struct(connectionFields).check(Schema.makeFilter(checkConnection))
})

/**
 * The settings of `Publisher`, with the names of `connection` and those of the
 * other fields, such as `RABBITMQ_MAX_IN_FLIGHT`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const publisher = Settings.make("RabbitBroker", {
  prefix: "RABBITMQ",
  schema: Schema.Struct({ ...connectionFields, ...publishingFields }).check(
    Schema.makeFilter(checkConnection),
    Schema.makeFilter(({ channels, maxInFlight }) =>
      channels > maxInFlight ? { path: ["channels"], issue: `more than maxInFlight (${maxInFlight})` } : undefined
    )
  )
})

/**
 * The settings of `Topology`, with the names of `connection` and those of the
 * other fields, such as `RABBITMQ_QUEUE_TYPE`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const topology = Settings.make("RabbitTopology", {
  prefix: "RABBITMQ",
  schema: Schema.Struct({ ...connectionFields, ...queueFields }).check(
    Schema.makeFilter(checkConnection),
    Schema.makeFilter(checkQueues)
  )
})

/**
 * The settings of `Consumer`, with the names of `topology` and those of the
 * other fields, such as `RABBITMQ_PREFETCH`.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const consumer = Settings.make("RabbitSubscriber", {
  prefix: "RABBITMQ",
  schema: Schema.Struct({ ...connectionFields, ...queueFields, ...consumingFields }).check(
    Schema.makeFilter(checkConnection),
    Schema.makeFilter(checkQueues)
  )
})
