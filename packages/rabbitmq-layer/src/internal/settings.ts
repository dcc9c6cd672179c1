/** Options with their defaults filled in, checked: what the rest of the package works with. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { ConnectionOptions as TlsOptions } from "node:tls"
import type * as RabbitConfig from "../RabbitConfig.ts"
import { RabbitConfigError } from "../RabbitConfig.ts"
import * as Names from "./names.ts"

/** Durations are milliseconds, here and below. */
export interface ConnectionSettings {
  readonly protocol: "amqp" | "amqps"
  readonly hostname: string
  readonly port: number
  readonly username: string
  readonly password: Redacted.Redacted
  readonly vhost: string
  readonly tls: TlsOptions
  readonly connectionName: string
  readonly heartbeat: number
  readonly connectTimeout: number
  readonly reconnectDelay: number
  readonly maxReconnectDelay: number
  readonly closeTimeout: number
  readonly exchange: string
  readonly route: (topic: string) => RabbitConfig.Route
  readonly declare: boolean
}

export interface PublisherSettings extends ConnectionSettings {
  readonly maxInFlight: number
  readonly channels: number
  readonly publishTimeout: number
  readonly mandatory: boolean
}

export interface ConsumerSettings extends ConnectionSettings {
  readonly queueType: "quorum" | "classic"
  readonly queueName: (group: string, topic: string) => string
  readonly prefetch: number | undefined
  readonly singleActiveConsumer: boolean
  readonly deadLetter: boolean
  readonly deliveryLimit: number | undefined
  readonly retryDelays: ReadonlyArray<number>
  readonly revokeTimeout: number
  readonly subscribeTimeout: number
}

export const publisherSettings = (
  options: RabbitConfig.Publisher
): Effect.Effect<PublisherSettings, RabbitConfigError> =>
  checked(() => {
    const maxInFlight = whole("maxInFlight", options.maxInFlight, 1_000)
    const channels = whole("channels", options.channels, 1, 100)
    if (channels > maxInFlight) fail("channels", `more than maxInFlight, ${maxInFlight}`)
    return {
      ...readConnection(options),
      maxInFlight,
      channels,
      publishTimeout: duration("publishTimeout", options.publishTimeout, 30_000, { infinite: true }),
      mandatory: oneOf("unroutable", options.unroutable ?? "fail", ["fail", "drop"]) === "fail"
    }
  })

export const consumerSettings = (
  options: RabbitConfig.Consumer
): Effect.Effect<ConsumerSettings, RabbitConfigError> =>
  checked(() => {
    const queueType = oneOf("queueType", options.queueType ?? "quorum", ["quorum", "classic"])
    const deliveryLimit = options.deliveryLimit === undefined
      ? undefined
      : whole("deliveryLimit", options.deliveryLimit, 0)
    if (deliveryLimit !== undefined && queueType === "classic") {
      fail("deliveryLimit", "classic queues count no redeliveries: use quorum queues")
    }
    const deadLetter = options.deadLetter ?? true
    if (!deadLetter && deliveryLimit !== undefined) {
      fail("deliveryLimit", "it would drop messages without deadLetter")
    }
    return {
      ...readConnection(options),
      queueType,
      queueName: options.queueName ?? Names.queueName,
      prefetch: options.prefetch === undefined ? undefined : whole("prefetch", options.prefetch, 0, 65_535),
      singleActiveConsumer: options.singleActiveConsumer ?? false,
      deadLetter,
      deliveryLimit,
      retryDelays: (options.retryDelays ?? []).map((delay, i) => duration(`retryDelays[${i}]`, delay, 0)),
      revokeTimeout: duration("revokeTimeout", options.revokeTimeout, 10_000),
      subscribeTimeout: duration("subscribeTimeout", options.subscribeTimeout, 30_000)
    }
  })

// --- internal ---

const fail = (field: string, detail: string): never => {
  throw new RabbitConfigError({ field, detail })
}

const checked = <A>(read: () => A): Effect.Effect<A, RabbitConfigError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(read())
    } catch (error) {
      return error instanceof RabbitConfigError ? Effect.fail(error) : Effect.die(error)
    }
  })

const readConnection = (options: RabbitConfig.Connection): ConnectionSettings => {
  const url = readUrl(Redacted.isRedacted(options.url) ? Redacted.value(options.url) : options.url)
  const exchange = name("exchange", options.exchange ?? "event-flow")
  const tls = options.tls
  if (tls !== undefined && url.protocol !== "amqps") fail("tls", "the url must begin with amqps:")
  if ((tls?.certificate === undefined) !== (tls?.key === undefined)) {
    fail(tls?.key === undefined ? "tls.key" : "tls.certificate", "certificate and key belong together")
  }
  return {
    ...url,
    username: options.username ?? url.username,
    password: options.password ?? url.password,
    tls: {
      ...(tls?.ca !== undefined && { ca: tls.ca }),
      ...(tls?.certificate !== undefined && { cert: tls.certificate }),
      ...(tls?.key !== undefined && { key: Redacted.value(tls.key) }),
      ...(tls?.serverName !== undefined && { servername: tls.serverName })
    },
    connectionName: options.connectionName ?? "event-flow",
    // The protocol counts in seconds
    heartbeat: Math.max(1, Math.round(duration("heartbeat", options.heartbeat, 10_000, { least: 1_000 }) / 1_000)),
    connectTimeout: duration("connectTimeout", options.connectTimeout, 10_000),
    reconnectDelay: duration("reconnectDelay", options.reconnectDelay, 100),
    maxReconnectDelay: duration("maxReconnectDelay", options.maxReconnectDelay, 10_000),
    closeTimeout: duration("closeTimeout", options.closeTimeout, 10_000, { least: 0 }),
    exchange,
    route: options.route ?? ((topic) => ({ exchange, routingKey: topic })),
    declare: options.declare ?? true
  }
}

const readUrl = (text: string) => {
  // The text is a secret: it must not show in the error
  const url = URL.canParse(text) ? new URL(text) : fail("url", "it is no URL: amqp://user:password@host:port/vhost")
  const protocol = url.protocol.slice(0, -1)
  if (protocol !== "amqp" && protocol !== "amqps") {
    return fail("url", `it must begin with amqp: or amqps:, not ${url.protocol}`)
  }
  if (url.hostname === "") fail("url", "it names no host")
  const isAnonymous = url.username === "" && url.password === ""
  return {
    protocol: protocol as "amqp" | "amqps",
    hostname: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? (protocol === "amqp" ? 5672 : 5671) : Number(url.port),
    username: isAnonymous ? "guest" : decoded(url.username),
    password: Redacted.make(isAnonymous ? "guest" : decoded(url.password)),
    // No path is the default virtual host, an empty one ("/") has an empty name by the URI scheme; nobody means that
    vhost: url.pathname === "" || url.pathname === "/" ? "/" : decoded(url.pathname.slice(1))
  }
}

const decoded = (part: string): string => {
  try {
    return decodeURIComponent(part)
  } catch {
    return fail("url", "a part of it is not percent-encoded")
  }
}

const name = (field: string, value: string): string => {
  if (value === "") fail(field, "it must not be empty")
  if (!Names.fits(value)) fail(field, "longer than 255 bytes")
  return value
}

const whole = (field: string, value: number | undefined, byDefault: number, most = Number.MAX_SAFE_INTEGER): number => {
  const number = value ?? byDefault
  if (!Number.isSafeInteger(number) || number < 1 || number > most) {
    fail(field, `must be a whole number from 1${most < Number.MAX_SAFE_INTEGER ? ` to ${most}` : ""}, not ${number}`)
  }
  return number
}

const duration = (
  field: string,
  value: Duration.Input | undefined,
  byDefault: number,
  { infinite = false, least = 1 }: { readonly infinite?: boolean; readonly least?: number } = {}
): number => {
  const parsed = Duration.fromInput(value ?? byDefault)
  if (Option.isNone(parsed)) return fail(field, `not a duration: ${String(value)}`)
  const millis = Duration.toMillis(parsed.value)
  if (infinite && millis === Infinity) return millis
  // Beyond 2^31 milliseconds timers fire at once
  if (!(millis >= least && millis < 2 ** 31)) {
    return fail(field, `must be at least ${least} ms, and finite: ${millis} ms`)
  }
  return millis
}

const oneOf = <const A extends string>(field: string, value: A, allowed: ReadonlyArray<A>): A =>
  allowed.includes(value) ? value : fail(field, `must be one of ${allowed.join(", ")}, not ${value}`)
