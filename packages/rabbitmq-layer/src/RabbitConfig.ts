/**
 * How to reach a RabbitMQ server, how topics map to exchanges and queues, how
 * to publish and how to consume. Every setting can be given in code, and all
 * but the functions read from a `ConfigProvider`; a wrong one fails when the
 * layer is built, with the name of the field.
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
export class RabbitConfigError
  extends Schema.TaggedError<RabbitConfigError>("@event-flow/rabbitmq-layer/RabbitConfig/RabbitConfigError")(
    "RabbitConfigError",
    { field: Schema.String, detail: Schema.String }
  )
{
  override get message(): string {
    return `RabbitMQ configuration: ${this.field}: ${this.detail}`
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
  /** The authority that signed the server's certificate. Default: those of the system. */
  readonly ca?: string | undefined
  /** This client's certificate, for mutual TLS. */
  readonly certificate?: string | undefined
  readonly key?: Redacted.Redacted | undefined
  /** The name that the server's certificate must bear. Default: the host connected to. */
  readonly serverName?: string | undefined
}

/**
 * How to reach the server, and the exchange that topics live in.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Connection {
  /** `amqp://user:password@host:port/vhost`, or `amqps:` for TLS. Parts are percent-encoded. */
  readonly url: string | Redacted.Redacted
  /** Instead of the one in the URL. */
  readonly username?: string | undefined
  /** Instead of the one in the URL. */
  readonly password?: Redacted.Redacted | undefined
  /** With an `amqps:` URL. */
  readonly tls?: Tls | undefined
  /** Names this program in the server's list of connections. Default: `"event-flow"`. */
  readonly connectionName?: string | undefined
  /** A connection that is silent for twice as long is taken for dead. At least a second. Default: 10 seconds. */
  readonly heartbeat?: Duration.Input | undefined
  /** How long connecting may take, and an answer to what the layer asks the server. Default: 10 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** The first wait before connecting again; it doubles, with jitter. Default: 100 milliseconds. */
  readonly reconnectDelay?: Duration.Input | undefined
  /** What that wait grows to. Default: 10 seconds. */
  readonly maxReconnectDelay?: Duration.Input | undefined
  /** How long each step of closing waits: for what is on its way, for the channel, for the connection. Default: 10 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
  /** The exchange of all topics: a durable topic exchange. Default: `"event-flow"`. */
  readonly exchange?: string | undefined
  /** Where a topic's messages go instead. Default: to `exchange`, with the topic as routing key. */
  readonly route?: ((topic: string) => Route) | undefined
  /**
   * Whether to declare exchanges, queues and bindings. Without it they must be
   * there, made as `RabbitTopology` says. Default: true.
   */
  readonly declare?: boolean | undefined
}

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

/**
 * How to publish.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Publishing {
  /** How many messages may be on their way, sent and not confirmed; more wait for room. Default: 1,000. */
  readonly maxInFlight?: number | undefined
  /**
   * Over how many channels they go. Messages of one key share a channel and keep
   * their order; with one channel, all messages do. Default: 1.
   */
  readonly channels?: number | undefined
  /** How long a publish may take, reconnecting included, before it fails. Default: 30 seconds. */
  readonly publishTimeout?: Duration.Input | undefined
  /**
   * A message that no queue is bound for: `"fail"` with `UnknownTopic`, or
   * `"drop"` it, as a broker of broadcasts would. Default: `"fail"`.
   */
  readonly unroutable?: "fail" | "drop" | undefined
}

/**
 * How to consume.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Consuming {
  /** Quorum queues are replicated and count redeliveries; classic ones are neither. Default: `"quorum"`. */
  readonly queueType?: "quorum" | "classic" | undefined
  /** The name of a group's queue for a topic. Default: `RabbitTopology.queueName`. */
  readonly queueName?: ((group: string, topic: string) => string) | undefined
  /**
   * How many unacknowledged messages of one queue the server sends ahead.
   * Default: the `maxInFlight` of the subscription.
   */
  readonly prefetch?: number | undefined
  /**
   * One consumer of the group at a time reads a queue, the others stand by.
   * It keeps the order of keys over several consumers. Default: false.
   */
  readonly singleActiveConsumer?: boolean | undefined
  /**
   * Declare a dead-letter queue for each topic, `<topic>.dead-letter`, for the
   * dead letters of an `EventConsumer` and for those of the server. Default: true.
   */
  readonly deadLetter?: boolean | undefined
  /** After how many redeliveries the server dead-letters a message. Quorum queues only. Default: never. */
  readonly deliveryLimit?: number | undefined
  /**
   * Declare queues in which messages wait for so long before they come again:
   * for `RabbitRetry.policy`. Default: none.
   */
  readonly retryDelays?: ReadonlyArray<Duration.Input> | undefined
  /** How long the listeners of lost deliveries may take before the layer consumes again. Default: 10 seconds. */
  readonly revokeTimeout?: Duration.Input | undefined
  /** How long subscribing tries to reach the server before it fails. Default: 30 seconds. */
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

const tlsConfig: Config.Config<Tls | undefined> = Config.map(
  Config.all({
    ca: optional(Config.String("tlsCa")),
    certificate: optional(Config.String("tlsCertificate")),
    key: optional(Config.Redacted("tlsKey")),
    serverName: optional(Config.String("tlsServerName"))
  }),
  (details) => Object.values(details).every((detail) => detail === undefined) ? undefined : details
)

const connectionFields = {
  url: Config.Redacted("url"),
  username: optional(Config.String("username")),
  password: optional(Config.Redacted("password")),
  tls: tlsConfig,
  connectionName: optional(Config.String("connectionName")),
  heartbeat: optional(Config.Duration("heartbeat")),
  connectTimeout: optional(Config.Duration("connectTimeout")),
  reconnectDelay: optional(Config.Duration("reconnectDelay")),
  maxReconnectDelay: optional(Config.Duration("maxReconnectDelay")),
  closeTimeout: optional(Config.Duration("closeTimeout")),
  exchange: optional(Config.String("exchange")),
  declare: optional(Config.Boolean("declare"))
}

// --- configuration, below what it is made of ---

/**
 * `Publisher` from a `ConfigProvider`: `rabbitmq.url`, `rabbitmq.username`,
 * `rabbitmq.password`, `rabbitmq.tlsCa`, `rabbitmq.tlsCertificate`,
 * `rabbitmq.tlsKey`, `rabbitmq.tlsServerName` and the rest by the names of
 * their fields. With `ConfigProvider.constantCase` they are `RABBITMQ_URL` and
 * so on.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const publisher: Config.Config<Publisher> = Config.all({
  ...connectionFields,
  maxInFlight: optional(Config.Int("maxInFlight")),
  channels: optional(Config.Int("channels")),
  publishTimeout: optional(Config.Duration("publishTimeout")),
  unroutable: optional(Config.Literals(["fail", "drop"], "unroutable"))
}).pipe(Config.nested("rabbitmq"))

/**
 * `Consumer` from a `ConfigProvider`, as `publisher`; `rabbitmq.retryDelays` is
 * a list separated by commas.
 *
 * @stability unstable
 * @category configuration
 * @since 0.1.0
 */
export const consumer: Config.Config<Consumer> = Config.all({
  ...connectionFields,
  queueType: optional(Config.Literals(["quorum", "classic"], "queueType")),
  prefetch: optional(Config.Int("prefetch")),
  singleActiveConsumer: optional(Config.Boolean("singleActiveConsumer")),
  deadLetter: optional(Config.Boolean("deadLetter")),
  deliveryLimit: optional(Config.Int("deliveryLimit")),
  retryDelays: optional(Config.Array(Schema.DurationFromString, "retryDelays")),
  revokeTimeout: optional(Config.Duration("revokeTimeout")),
  subscribeTimeout: optional(Config.Duration("subscribeTimeout"))
}).pipe(Config.nested("rabbitmq"))
