/** What the types of the layers and their settings promise. Checked by `tsc`, never run. */
import type { Broker, Settings } from "@event-flow/core"
import type { KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { KafkaBroker, type KafkaConfig } from "@event-flow/kafka-layer"
import { Config, type Duration, type Redacted, Schema } from "effect"
import { check, type Equals, type ErrorOf, type ProvidedBy } from "../../core/typetest/support.ts"

const servers = ["127.0.0.1:9092"]

// --- three forms, one error of settings ---

const layer = KafkaBroker.layer({ bootstrapServers: servers, linger: "5 millis", acks: undefined })
check<Equals<ProvidedBy<typeof layer>, Broker.Broker>>()
check<Equals<ErrorOf<typeof layer>, Settings.InvalidSetting>>()

const configured = KafkaBroker.layerConfig({
  bootstrapServers: Config.Array(Schema.String, "SERVERS"),
  linger: Config.Duration("LINGER"),
  acks: Config.Literals(["all", "leader"], "ACKS"),
  sasl: {
    mechanism: Config.succeed("PLAIN"),
    username: Config.String("USER"),
    password: Config.Redacted("PASSWORD")
  }
})
check<Equals<typeof configured, typeof KafkaBroker.layerFromEnv>>()
check<Equals<ErrorOf<typeof KafkaSubscriber.layerFromEnv>, Settings.InvalidSetting | Config.ConfigError>>()
check<Equals<ProvidedBy<typeof KafkaTopics.layerFromEnv>, KafkaTopics.KafkaTopics>>()

// --- options ---

check<Equals<KafkaConfig.Publisher["bootstrapServers"], ReadonlyArray<string>>>()
check<Equals<KafkaConfig.Publisher["publishTimeout"], Duration.Input | undefined>>()
check<Equals<KafkaConfig.Publisher["maxInFlight"], number | undefined>>()
check<Equals<KafkaConfig.Sasl["password"], Redacted.Redacted<string>>>()
check<
  Equals<KafkaConfig.Connection["tls"], boolean | { [K in keyof KafkaConfig.Tls]: KafkaConfig.Tls[K] } | undefined>
>()

// @ts-expect-error: where is the cluster?
KafkaBroker.layer({})
// @ts-expect-error: no duration
KafkaBroker.layer({ bootstrapServers: servers, linger: "soon" })
// @ts-expect-error: none of them
KafkaBroker.layer({ bootstrapServers: servers, acks: "none" })
// @ts-expect-error: mechanism, username and password belong together
KafkaBroker.layer({ bootstrapServers: servers, sasl: { mechanism: "PLAIN" } })
// @ts-expect-error: a secret must be redacted
KafkaBroker.layer({ bootstrapServers: servers, sasl: { mechanism: "PLAIN", username: "a", password: "b" } })
// @ts-expect-error: a setting of consumers
KafkaBroker.layer({ bootstrapServers: servers, startFrom: "latest" })
// @ts-expect-error: the number of messages is no text
KafkaBroker.layerConfig({ bootstrapServers: Config.succeed(servers), maxInFlight: Config.String("MAX") })
