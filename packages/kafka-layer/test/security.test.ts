/** TLS, SASL and what a broker says to those who may not. */
import { assert } from "@effect/vitest"
import { Broker, Subscriber } from "@event-flow/core"
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import type { KafkaConfig } from "@event-flow/kafka-layer"
import { findOwnSource, startKafka } from "@event-flow/test-support/kafkaServer"
import type { KafkaServer } from "@event-flow/test-support/kafkaServer"
import { unless } from "@event-flow/test-support/sharedServer"
import { Effect, Redacted } from "effect"
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll } from "vitest"
import {
  consume,
  consuming,
  createTopic,
  live,
  numbered,
  publishNumbered,
  Tally,
  unique,
  withOwnServer
} from "./support/kafka.ts"

const noOpenssl = spawnSync("openssl", ["version"], { stdio: "ignore" }).status !== 0
let server: KafkaServer
let directory: string
let certificate: string

const jaas = {
  plain: `org.apache.kafka.common.security.plain.PlainLoginModule required user_admin="admin-secret";`,
  scram: "org.apache.kafka.common.security.scram.ScramLoginModule required;"
}

const at = (
  listener: "SASL" | "TLS"
): KafkaConfig.Connection["bootstrapServers"] => [`127.0.0.1:${server.ports[listener]}`]

const admin = (mechanism: KafkaConfig.Sasl["mechanism"], password = "admin-secret"): KafkaConfig.Connection => ({
  bootstrapServers: at("SASL"),
  sasl: { mechanism, username: "admin", password: Redacted.make(password) }
})

/** May connect and nothing else. */
const alice = (): KafkaConfig.Connection => ({
  bootstrapServers: at("SASL"),
  sasl: { mechanism: "SCRAM-SHA-256", username: "alice", password: Redacted.make("alice-secret") }
})

const reasonOfPublish = (topic: string, connection: KafkaConfig.Connection) =>
  Broker.Broker.use((broker) => Effect.flip(broker.publish([numbered(topic, 1)]))).pipe(
    Effect.map((error) => error._tag === "PublishError" ? error.reason._tag : error._tag),
    Effect.provide(KafkaBroker.layer({ ...connection, publishTimeout: "3 seconds" }))
  )

const security = noOpenssl ? unless("no openssl: install it") : withOwnServer

security("security", () => {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "event-flow-tls-"))
    const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")]
    const request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=broker -addext subjectAltName=IP:127.0.0.1"
    execFileSync("openssl", [...request.split(" "), "-keyout", key, "-out", cert], { stdio: "ignore" })
    certificate = readFileSync(cert, "utf8")
    writeFileSync(join(directory, "store.pem"), readFileSync(key, "utf8") + certificate)
    server = await startKafka(findOwnSource(), {
      listeners: [{ name: "SASL", protocol: "SASL_PLAINTEXT" }, { name: "TLS", protocol: "SSL" }],
      scram: ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((mechanism) => [
        `${mechanism}=[name=admin,password=admin-secret]`,
        `${mechanism}=[name=alice,password=alice-secret]`
      ]),
      properties: {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl.plain.sasl.jaas.config": jaas.plain,
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": jaas.scram,
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": jaas.scram,
        "listener.name.tls.ssl.keystore.type": "PEM",
        "listener.name.tls.ssl.keystore.location": join(directory, "store.pem"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:admin"
      }
    })
  })
  afterAll(async () => {
    rmSync(directory, { recursive: true, force: true })
    await server.dispose()
  })

  const roundTrip = (connection: KafkaConfig.Connection) =>
    Effect.gen(function*() {
      const topic = yield* createTopic("secure", 2, server.bootstrapServers)
      const tally = new Tally()
      yield* consume({ topics: [topic], group: unique("secure") }, (delivery) => Effect.sync(() => tally.add(delivery)))
      yield* publishNumbered(topic, 100, { keys: 10 })
      yield* tally.reached(100)
    }).pipe(
      Effect.scoped,
      Effect.provide([KafkaBroker.layer(connection), KafkaSubscriber.layer({ ...connection, ...consuming })])
    )

  for (const mechanism of ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] as const) {
    live(`SASL ${mechanism}`, () => Effect.suspend(() => roundTrip(admin(mechanism))))
  }

  live("TLS, with the broker's certificate checked", () =>
    Effect.gen(function*() {
      yield* roundTrip({ bootstrapServers: at("TLS"), tls: { ca: certificate } })
      // Without its authority
      assert.strictEqual(yield* reasonOfPublish("t", { bootstrapServers: at("TLS"), tls: true }), "Unreachable")
    }))

  live("a wrong password is NotAuthorised", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* reasonOfPublish("t", admin("PLAIN", "wrong")), "NotAuthorised")
      assert.strictEqual(yield* reasonOfPublish("t", admin("SCRAM-SHA-256", "wrong")), "NotAuthorised")
      const error = yield* Subscriber.Subscriber.use((subscriber) =>
        Effect.flip(subscriber.subscribe({ topics: ["t"], group: "g", maxInFlight: 1 }))
      ).pipe(Effect.scoped, Effect.provide(KafkaSubscriber.layer({ ...admin("PLAIN", "wrong"), ...consuming })))
      assert.strictEqual(error.reason._tag, "NotAuthorised")
    }))

  live("one who may not publish, consume or create is told so", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("forbidden", 1, server.bootstrapServers)
      assert.strictEqual(yield* reasonOfPublish(topic, alice()), "NotAuthorised")
      const error = yield* Subscriber.Subscriber.use((subscriber) =>
        Effect.flip(subscriber.subscribe({ topics: [topic], group: "g", maxInFlight: 1 }))
      ).pipe(Effect.scoped, Effect.provide(KafkaSubscriber.layer({ ...alice(), ...consuming })))
      assert.strictEqual(error.reason._tag, "NotAuthorised")
      const topics = yield* KafkaTopics.KafkaTopics.use((topics) =>
        Effect.flip(topics.ensure([{ topic: unique("forbidden"), partitions: 1 }]))
      ).pipe(Effect.provide(KafkaTopics.layer(alice())))
      assert.strictEqual(topics.reason._tag, "NotAuthorised")
    }))
})
