/** Checked settings in the form in which the rest of the package works with them; durations are milliseconds. */
import type * as Settings from "@event-flow/core/Settings"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { ConnectionOptions as TlsOptions } from "node:tls"
import * as RabbitConfig from "../RabbitConfig.ts"
import * as Names from "./names.ts"
import * as Url from "./url.ts"

type Connection = typeof RabbitConfig.connection.schema.Type
type Publisher = typeof RabbitConfig.publisher.schema.Type
type Topology = typeof RabbitConfig.topology.schema.Type
type Consumer = typeof RabbitConfig.consumer.schema.Type

/** What every connection is made with, and where messages go. */
export interface ConnectionSettings
  extends Url.Address, Omit<Connection, "url" | "username" | "password" | "tls" | "route" | "heartbeat">
{
  readonly tls: TlsOptions
  /** In seconds, as the protocol has it. */
  readonly heartbeat: number
  readonly route: (topic: string) => RabbitConfig.Route
  /** Why a topic cannot be routed. A route of the user's own is trusted. */
  readonly refusedTopic: (topic: string) => string | undefined
}

export interface PublisherSettings extends ConnectionSettings, Omit<Publisher, keyof Connection | "unroutable"> {
  readonly mandatory: boolean
}

export interface TopologySettings extends ConnectionSettings, Omit<Topology, keyof Connection | "queueName"> {
  readonly queueName: (group: string, topic: string) => string
}

export interface ConsumerSettings extends TopologySettings, Omit<Consumer, keyof Topology> {}

export const publisherSettings = (
  options: RabbitConfig.Publisher
): Effect.Effect<PublisherSettings, Settings.InvalidSetting> =>
  Effect.map(RabbitConfig.publisher.check(options), (checked) => ({
    ...checked,
    ...connectionOf(checked),
    mandatory: checked.unroutable === "fail"
  }))

export const topologySettings = (
  options: RabbitConfig.Topology
): Effect.Effect<TopologySettings, Settings.InvalidSetting> =>
  Effect.map(RabbitConfig.topology.check(options), (checked) => ({
    ...checked,
    ...connectionOf(checked),
    queueName: checked.queueName ?? Names.queueName
  }))

export const consumerSettings = (
  options: RabbitConfig.Consumer
): Effect.Effect<ConsumerSettings, Settings.InvalidSetting> =>
  Effect.map(RabbitConfig.consumer.check(options), (checked) => ({
    ...checked,
    ...connectionOf(checked),
    queueName: checked.queueName ?? Names.queueName
  }))

// --- internal ---

const connectionOf = (
  { exchange, heartbeat, password, route, tls = {}, url, username }: Connection
): Url.Address & Pick<ConnectionSettings, "tls" | "heartbeat" | "route" | "refusedTopic"> => {
  const address = Url.parse(Redacted.isRedacted(url) ? Redacted.value(url) : url)
  // The settings have checked it
  if (typeof address === "string") throw new Error(address)
  return {
    ...address,
    username: username ?? address.username,
    password: password ?? address.password,
    tls: {
      ...(tls.ca === undefined ? undefined : { ca: tls.ca }),
      ...(tls.certificate === undefined ? undefined : { cert: tls.certificate }),
      ...(tls.key === undefined ? undefined : { key: Redacted.value(tls.key) }),
      ...(tls.serverName === undefined ? undefined : { servername: tls.serverName })
    },
    heartbeat: Math.max(1, Math.round(heartbeat / 1_000)),
    route: route ?? ((topic) => ({ exchange, routingKey: topic })),
    refusedTopic: route === undefined ? Names.wildcardIn : () => undefined
  }
}
