/** Options with their defaults filled in, checked: what the rest of the package works with. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { ConnectionOptions as TlsOptions } from "node:tls"
import type * as KafkaConfig from "../KafkaConfig.ts"
import { KafkaConfigError } from "../KafkaConfig.ts"

/** What every client of the cluster is made with; durations are milliseconds, here and below. */
export interface ConnectionSettings {
  readonly bootstrapServers: ReadonlyArray<string>
  readonly clientId: string
  readonly tls: TlsOptions | undefined
  readonly sasl: { readonly mechanism: KafkaConfig.Sasl["mechanism"]; username: string; password: string } | undefined
  readonly connectTimeout: number
  readonly requestTimeout: number
  readonly metadataMaxAge: number
}

export interface PublisherSettings extends ConnectionSettings {
  readonly linger: number
  readonly maxBatchMessages: number
  readonly maxBatchBytes: number
  readonly maxInFlight: number
  readonly maxBufferedMessages: number
  readonly maxBufferedBytes: number
  readonly acks: number
  readonly idempotent: boolean
  readonly compression: NonNullable<KafkaConfig.Publishing["compression"]>
  readonly deliveryTimeout: number
  readonly retryDelay: number
  readonly closeTimeout: number
  readonly createTopics: boolean
}

export interface ConsumerSettings extends ConnectionSettings {
  readonly startFrom: "earliest" | "latest"
  readonly sessionTimeout: number
  readonly heartbeatInterval: number
  readonly rebalanceTimeout: number
  readonly revokeTimeout: number
  readonly closeTimeout: number
  readonly commitInterval: number
  readonly commitCount: number
  readonly maxBytesPerPartition: number
  readonly maxBufferedPerPartition: number
  readonly maxUncommittedPerPartition: number
  readonly fetchWait: number
  readonly redeliveryDelay: number
  readonly reconnectDelay: number
  readonly subscribeTimeout: number
}

export const connectionSettings = (
  options: KafkaConfig.Connection
): Effect.Effect<ConnectionSettings, KafkaConfigError> => checked(() => readConnection(options))

export const publisherSettings = (
  options: KafkaConfig.Publisher
): Effect.Effect<PublisherSettings, KafkaConfigError> =>
  checked(() => {
    const acks = oneOf("acks", options.acks ?? "all", ["all", "leader"])
    const idempotent = options.idempotent ?? acks === "all"
    if (idempotent && acks !== "all") fail("idempotent", `it needs acks "all", not "${acks}"`)
    return {
      ...readConnection(options),
      linger: duration("linger", options.linger, 0, { zero: true }),
      maxBatchMessages: whole("maxBatchMessages", options.maxBatchMessages, 500),
      maxBatchBytes: whole("maxBatchBytes", options.maxBatchBytes, 512 * 1024),
      maxInFlight: whole("maxInFlight", options.maxInFlight, 5),
      maxBufferedMessages: whole("maxBufferedMessages", options.maxBufferedMessages, 10_000),
      maxBufferedBytes: whole("maxBufferedBytes", options.maxBufferedBytes, 32 * 1024 * 1024),
      acks: acks === "all" ? -1 : 1,
      idempotent,
      compression: oneOf("compression", options.compression ?? "none", ["none", "gzip", "snappy", "lz4", "zstd"]),
      deliveryTimeout: duration("deliveryTimeout", options.deliveryTimeout, 30_000),
      retryDelay: duration("retryDelay", options.retryDelay, 100),
      closeTimeout: duration("closeTimeout", options.closeTimeout, 10_000, { zero: true }),
      createTopics: options.createTopics ?? false
    }
  })

export const consumerSettings = (
  options: KafkaConfig.Consumer
): Effect.Effect<ConsumerSettings, KafkaConfigError> =>
  checked(() => {
    const settings: ConsumerSettings = {
      ...readConnection(options),
      startFrom: oneOf("startFrom", options.startFrom ?? "earliest", ["earliest", "latest"]),
      sessionTimeout: duration("sessionTimeout", options.sessionTimeout, 30_000),
      heartbeatInterval: duration("heartbeatInterval", options.heartbeatInterval, 3_000),
      rebalanceTimeout: duration("rebalanceTimeout", options.rebalanceTimeout, 60_000),
      revokeTimeout: duration("revokeTimeout", options.revokeTimeout, 10_000, { zero: true }),
      closeTimeout: duration("closeTimeout", options.closeTimeout, 10_000, { zero: true }),
      commitInterval: duration("commitInterval", options.commitInterval, 1_000),
      commitCount: whole("commitCount", options.commitCount, 5_000),
      maxBytesPerPartition: whole("maxBytesPerPartition", options.maxBytesPerPartition, 256 * 1024),
      maxBufferedPerPartition: whole("maxBufferedPerPartition", options.maxBufferedPerPartition, 500),
      maxUncommittedPerPartition: whole("maxUncommittedPerPartition", options.maxUncommittedPerPartition, 10_000),
      fetchWait: duration("fetchWait", options.fetchWait, 500),
      redeliveryDelay: duration("redeliveryDelay", options.redeliveryDelay, 100, { zero: true }),
      reconnectDelay: duration("reconnectDelay", options.reconnectDelay, 250),
      subscribeTimeout: duration("subscribeTimeout", options.subscribeTimeout, 30_000)
    }
    if (settings.heartbeatInterval >= settings.sessionTimeout) {
      fail("heartbeatInterval", `it must be shorter than sessionTimeout (${settings.sessionTimeout} ms)`)
    }
    if (settings.rebalanceTimeout < settings.sessionTimeout) {
      fail("rebalanceTimeout", `it must be at least sessionTimeout (${settings.sessionTimeout} ms)`)
    }
    if (options.revokeTimeout === undefined) {
      // The client sends no heartbeats while handlers end
      return { ...settings, revokeTimeout: Math.min(settings.revokeTimeout, settings.sessionTimeout / 2) }
    }
    if (settings.revokeTimeout >= settings.sessionTimeout) {
      fail("revokeTimeout", `it must be shorter than sessionTimeout (${settings.sessionTimeout} ms)`)
    }
    return settings
  })

// Thrown by the readers below, caught by `checked` alone
class Invalid {
  readonly field: string
  readonly detail: string
  constructor(field: string, detail: string) {
    this.field = field
    this.detail = detail
  }
}

const fail = (field: string, detail: string): never => {
  throw new Invalid(field, detail)
}

const checked = <A>(read: () => A): Effect.Effect<A, KafkaConfigError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(read())
    } catch (error) {
      if (error instanceof Invalid) {
        return Effect.fail(new KafkaConfigError({ field: error.field, detail: error.detail }))
      }
      throw error
    }
  })

const readConnection = (options: KafkaConfig.Connection): ConnectionSettings => {
  const servers = options.bootstrapServers.map((server) => server.trim())
  if (servers.length === 0) fail("bootstrapServers", "at least one host:port is needed")
  for (const server of servers) {
    const port = Number(/^(?:[^:\s]+|\[[0-9a-fA-F:.]+\]):(\d+)$/.exec(server)?.[1])
    if (!(port > 0 && port < 65_536)) fail("bootstrapServers", `"${server}" is not host:port`)
  }
  const clientId = options.clientId ?? "event-flow"
  if (!/^\S+$/.test(clientId)) fail("clientId", "it is empty or has white space in it")
  return {
    bootstrapServers: servers,
    clientId,
    tls: readTls(options.tls),
    sasl: readSasl(options.sasl),
    connectTimeout: duration("connectTimeout", options.connectTimeout, 5_000),
    requestTimeout: duration("requestTimeout", options.requestTimeout, 10_000),
    metadataMaxAge: duration("metadataMaxAge", options.metadataMaxAge, 60_000)
  }
}

const readTls = (tls: KafkaConfig.Connection["tls"]): TlsOptions | undefined => {
  if (tls === undefined || tls === false) return undefined
  if (tls === true) return {}
  if ((tls.certificate === undefined) !== (tls.key === undefined)) {
    fail("tls", "certificate and key are needed together")
  }
  return {
    ...(tls.ca === undefined ? undefined : { ca: tls.ca }),
    ...(tls.certificate === undefined ? undefined : { cert: tls.certificate }),
    ...(tls.key === undefined ? undefined : { key: Redacted.value(tls.key) }),
    ...(tls.serverName === undefined ? undefined : { servername: tls.serverName })
  }
}

const readSasl = (sasl: KafkaConfig.Sasl | undefined): ConnectionSettings["sasl"] => {
  if (sasl === undefined) return undefined
  if (sasl.username.length === 0) fail("sasl.username", "it is empty")
  return {
    mechanism: oneOf("sasl.mechanism", sasl.mechanism, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
    username: sasl.username,
    password: Redacted.value(sasl.password)
  }
}

const duration = (
  field: string,
  input: Duration.Input | undefined,
  otherwise: number,
  options?: { readonly zero: boolean }
): number => {
  if (input === undefined) return otherwise
  const millis = Option.getOrUndefined(Duration.fromInput(input))
  const value = millis === undefined ? Number.NaN : Duration.toMillis(millis)
  // Longer than a timer can run: an unbounded wait by mistake
  if (!(value > 0 || options?.zero === true && value === 0) || value > 2 ** 31 - 1) {
    return fail(field, `${String(input)} is not a duration ${options?.zero === true ? "from" : "above"} 0 that ends`)
  }
  return value
}

const whole = (field: string, input: number | undefined, otherwise: number): number => {
  const value = input ?? otherwise
  return Number.isSafeInteger(value) && value > 0 ? value : fail(field, `${value} is not a whole number above 0`)
}

const oneOf = <const A extends string>(field: string, value: string, allowed: ReadonlyArray<A>): A =>
  allowed.find((a) => a === value) ?? fail(field, `"${value}" is none of ${allowed.join(", ")}`)
