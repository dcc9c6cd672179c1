/** Checked settings in the form in which the rest of the package works with them; durations are milliseconds. */
import type * as Settings from "@event-flow/core/Settings"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { ConnectionOptions as TlsOptions } from "node:tls"
import * as KafkaConfig from "../KafkaConfig.ts"

type Connection = typeof KafkaConfig.connection.schema.Type
type Publisher = typeof KafkaConfig.publisher.schema.Type
type Consumer = typeof KafkaConfig.consumer.schema.Type

/** What every client of the cluster is made with. */
export interface ConnectionSettings extends Omit<Connection, "tls" | "sasl"> {
  readonly tls: TlsOptions | undefined
  readonly sasl: { readonly mechanism: KafkaConfig.Sasl["mechanism"]; username: string; password: string } | undefined
}

export interface PublisherSettings
  extends ConnectionSettings, Omit<Publisher, keyof Connection | "acks" | "idempotent">
{
  /** As the protocol has it. */
  readonly acks: number
  readonly idempotent: boolean
}

export interface ConsumerSettings extends ConnectionSettings, Omit<Consumer, keyof Connection | "revokeTimeout"> {
  readonly revokeTimeout: number
}

export const connectionSettings = (
  options: KafkaConfig.Connection
): Effect.Effect<ConnectionSettings, Settings.InvalidSetting> =>
  Effect.map(KafkaConfig.connection.check(options), (checked) => ({ ...checked, ...security(checked) }))

export const publisherSettings = (
  options: KafkaConfig.Publisher
): Effect.Effect<PublisherSettings, Settings.InvalidSetting> =>
  Effect.map(KafkaConfig.publisher.check(options), (checked) => ({
    ...checked,
    ...security(checked),
    acks: checked.acks === "all" ? -1 : 1,
    idempotent: checked.idempotent ?? checked.acks === "all"
  }))

export const consumerSettings = (
  options: KafkaConfig.Consumer
): Effect.Effect<ConsumerSettings, Settings.InvalidSetting> =>
  Effect.map(KafkaConfig.consumer.check(options), (checked) => ({
    ...checked,
    ...security(checked),
    // The client sends no heartbeats while handlers end
    revokeTimeout: checked.revokeTimeout ?? Math.min(10_000, checked.sessionTimeout / 2)
  }))

// --- internal ---

const security = ({ sasl, tls }: Connection): Pick<ConnectionSettings, "sasl" | "tls"> => ({
  tls: tls === undefined || tls === false ? undefined : tls === true ? {} : {
    ...(tls.ca === undefined ? undefined : { ca: tls.ca }),
    ...(tls.certificate === undefined ? undefined : { cert: tls.certificate }),
    ...(tls.key === undefined ? undefined : { key: Redacted.value(tls.key) }),
    ...(tls.serverName === undefined ? undefined : { servername: tls.serverName })
  },
  sasl: sasl === undefined ? undefined : { ...sasl, password: Redacted.value(sasl.password) }
})
