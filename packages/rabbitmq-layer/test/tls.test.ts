/** TLS against a real server, with an authority of its own that signs both sides. */
import { assert, it } from "@effect/vitest"
import * as Broker from "@event-flow/core/Broker"
import * as Subscriber from "@event-flow/core/Subscriber"
import type { RabbitConfig } from "@event-flow/rabbitmq-layer"
import { find, type RabbitServer, start } from "@event-flow/test-support/rabbitServer"
import { unless } from "@event-flow/test-support/sharedServer"
import { Effect, Redacted } from "effect"
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll } from "vitest"
import { layers, numbers, publish, textOf, unique, withOwnServer } from "./support/rabbit.ts"

interface Pair {
  readonly certificate: string
  readonly key: string
}

/** An authority, a server's certificate for 127.0.0.1 and `broker.test`, and a client's. */
const makeCertificates = (): { readonly ca: string; readonly server: Pair; readonly client: Pair } => {
  const directory = mkdtempSync(join(tmpdir(), "event-flow-tls-"))
  const openssl = (command: string) => execFileSync("openssl", command.split(" "), { cwd: directory, stdio: "ignore" })
  const read = (file: string) => readFileSync(join(directory, file), "utf8")
  const signed = (name: string, names: string): Pair => {
    writeFileSync(join(directory, `${name}.ext`), `subjectAltName=${names}`)
    openssl(`req -newkey rsa:2048 -nodes -subj /CN=${name} -keyout ${name}.key -out ${name}.csr`)
    openssl(
      `x509 -req -in ${name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ${name}.ext -out ${name}.pem`
    )
    return { certificate: read(`${name}.pem`), key: read(`${name}.key`) }
  }
  try {
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem")
    return {
      ca: read("ca.pem"),
      server: signed("server", "IP:127.0.0.1,DNS:broker.test"),
      client: signed("client", "DNS:client")
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const found = await find()
const withTls = spawnSync("openssl", ["version"], { stdio: "ignore" }).status !== 0
  ? unless("no openssl: install it")
  : found._tag === "Docker"
  ? unless("the server in docker has no TLS: install rabbitmq-server")
  : withOwnServer

withTls("TLS", () => {
  let server: RabbitServer
  let certificates: ReturnType<typeof makeCertificates>
  beforeAll(async () => {
    certificates = makeCertificates()
    if (found._tag === "None") throw new Error(found.reason)
    server = await start(found, { tls: { ca: certificates.ca, ...certificates.server } })
  })
  afterAll(() => server?.dispose())

  const client = (): RabbitConfig.Tls => ({
    ca: certificates.ca,
    certificate: certificates.client.certificate,
    key: Redacted.make(certificates.client.key)
  })
  const over = (tls: RabbitConfig.Tls, host = "127.0.0.1") =>
    layers({ url: `amqps://guest:guest@${host}:${server.tlsPort}`, tls, publishTimeout: "1 second" })

  const roundTrip = (tls: RabbitConfig.Tls, host?: string) =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const { subscribe } = yield* Subscriber.Subscriber
      const subscription = yield* subscribe({ topics: [topic], group: "group", maxInFlight: 100 })
      yield* publish(topic, numbers(100))
      const texts: Array<string> = []
      while (texts.length < 100) {
        for (const delivery of yield* subscription.take) {
          texts.push(textOf(delivery.message))
          yield* delivery.ack
        }
      }
      assert.deepStrictEqual(texts, [...numbers(100)])
    }).pipe(Effect.scoped, Effect.provide(over(tls, host)))

  const failure = (tls: RabbitConfig.Tls, host?: string) =>
    Broker.Broker.pipe(
      Effect.flatMap(() => Effect.flip(publish("topic", ["x"]))),
      Effect.map((error) => error.message),
      Effect.provide(over(tls, host))
    )

  it.live("publishes and consumes, each side with a certificate of the authority", () =>
    Effect.suspend(() => roundTrip(client())))

  it.live("checks the server's certificate by the name that is given", () =>
    Effect.suspend(() => roundTrip({ ...client(), serverName: "broker.test" })))

  it.live("refuses a server of an unknown authority, and one of another name", () =>
    Effect.gen(function*() {
      const { ca: _, ...stranger } = client()
      assert.match(yield* failure(stranger), /Unreachable: .*self-signed certificate in certificate chain/)
      assert.match(
        yield* failure({ ...client(), serverName: "other.test" }),
        /Unreachable: .*Hostname\/IP does not match certificate's altnames/
      )
    }))

  it.live("is refused by the server without a certificate, and the error says so", () =>
    Effect.suspend(() => failure({ ca: certificates.ca })).pipe(
      Effect.map((message) => assert.match(message, /Unreachable: .*certificate required/i))
    ))
})
