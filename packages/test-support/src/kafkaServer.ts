/**
 * A real Apache Kafka for tests and developers: one KRaft node on free loopback ports, from Maven
 * Central's jars. It can be stopped, killed and started again on the same ports and data.
 */
import { spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { accepts, jarsAreThere, KafkaNode, kafkaVersion, newClusterId } from "./kafkaNode.ts"
import { freePort, until } from "./process.ts"

/** Where a broker comes from, in the order in which they are tried. */
export type Source =
  | { readonly kind: "environment"; readonly bootstrapServers: ReadonlyArray<string> }
  | { readonly kind: "java" }
  | { readonly kind: "docker" }
  | { readonly kind: "none"; readonly reason: string }

const works = (command: string, ...args: ReadonlyArray<string>): boolean =>
  spawnSync(command, args, { stdio: "ignore", timeout: 30_000 }).status === 0

/** A broker of one's own, to restart and kill. */
export const findOwnSource = (): Source => findSource({})

export const findSource = (environment: NodeJS.ProcessEnv = process.env): Source => {
  const servers = (environment["KAFKA_BOOTSTRAP_SERVERS"] ?? "").split(",").map((s) => s.trim()).filter((s) => s !== "")
  if (servers.length > 0) return { kind: "environment", bootstrapServers: servers }
  const java = works("java", "-version")
  if (java && (jarsAreThere() || works("mvn", "-v"))) return { kind: "java" }
  if (works("docker", "info")) return { kind: "docker" }
  return {
    kind: "none",
    reason: `no Kafka: set KAFKA_BOOTSTRAP_SERVERS, install ${
      java ? "Maven (it fetches Kafka's jars)" : "Java and Maven"
    }, or start docker`
  }
}

/** A listener beside the plain one. */
export interface ExtraListener {
  readonly name: string
  readonly protocol: "PLAINTEXT" | "SASL_PLAINTEXT" | "SSL"
  /** The port that clients are told, where something stands in between. Default: its own. */
  readonly advertisedPort?: number
}

export interface Options {
  /** Added to the broker's configuration. */
  readonly properties?: Readonly<Record<string, string>>
  readonly listeners?: ReadonlyArray<ExtraListener>
  /** SCRAM users: `SCRAM-SHA-256=[name=alice,password=secret]`. */
  readonly scram?: ReadonlyArray<string>
}

export interface KafkaServer {
  readonly bootstrapServers: ReadonlyArray<string>
  /** The ports of the extra listeners, by name. */
  readonly ports: Readonly<Record<string, number>>
  /** False for a broker that somebody else runs: it cannot be restarted or killed. */
  readonly isOwned: boolean
  /** Stops it in an orderly way, keeps its data. */
  readonly stop: () => Promise<void>
  /** SIGKILL, keeps its data. */
  readonly kill: () => Promise<void>
  /** Starts it again on the same port and data, and waits until it answers. */
  readonly start: () => Promise<void>
  /** Ends it for good and removes its data. */
  readonly dispose: () => Promise<void>
}

export const startKafka = async (source: Source, options: Options = {}): Promise<KafkaServer> => {
  switch (source.kind) {
    case "environment": {
      const no = () => Promise.reject(new Error("this broker belongs to somebody else"))
      return {
        bootstrapServers: source.bootstrapServers,
        ports: {},
        isOwned: false,
        stop: no,
        kill: no,
        start: no,
        dispose: () => Promise.resolve()
      }
    }
    case "java":
      return startJava(options)
    case "docker":
      return startDocker(options.properties ?? {})
    case "none":
      throw new Error(source.reason)
  }
}

// --- internal ---

/** The settings of a broker that is alone, and whose groups may lose a member within a second. */
const singleBroker = {
  "auto.create.topics.enable": "false",
  "offsets.topic.num.partitions": "5",
  "offsets.topic.replication.factor": "1",
  "transaction.state.log.replication.factor": "1",
  "transaction.state.log.min.isr": "1",
  "share.coordinator.state.topic.replication.factor": "1",
  "share.coordinator.state.topic.min.isr": "1",
  "group.initial.rebalance.delay.ms": "0",
  "group.min.session.timeout.ms": "1000",
  "group.consumer.min.session.timeout.ms": "1000",
  "group.consumer.session.timeout.ms": "6000",
  "group.consumer.min.heartbeat.interval.ms": "500",
  "group.consumer.heartbeat.interval.ms": "500"
}

const startJava = async (options: Options): Promise<KafkaServer> => {
  const node = new KafkaNode(mkdtempSync(join(tmpdir(), "event-flow-kafka-")), "512m")
  const port = await freePort()
  const controllerPort = await freePort()
  const extra: Array<ExtraListener & { readonly port: number }> = []
  for (const listener of options.listeners ?? []) extra.push({ ...listener, port: await freePort() })
  node.configure({
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@127.0.0.1:${controllerPort}`,
    "listeners": [
      `PLAINTEXT://127.0.0.1:${port}`,
      `CONTROLLER://127.0.0.1:${controllerPort}`,
      ...extra.map(({ name, port }) => `${name}://127.0.0.1:${port}`)
    ].join(),
    "advertised.listeners": [
      `PLAINTEXT://127.0.0.1:${port}`,
      ...extra.map(({ advertisedPort, name, port }) => `${name}://127.0.0.1:${advertisedPort ?? port}`)
    ].join(),
    "listener.security.protocol.map": [
      "CONTROLLER:PLAINTEXT",
      "PLAINTEXT:PLAINTEXT",
      ...extra.map(({ name, protocol }) => `${name}:${protocol}`)
    ].join(),
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "num.partitions": "1",
    ...singleBroker,
    ...options.properties
  })
  node.format(newClusterId(), ...(options.scram ?? []).flatMap((user) => ["--add-scram", user]))
  await node.start(port)
  return {
    bootstrapServers: [`127.0.0.1:${port}`],
    ports: Object.fromEntries(extra.map(({ name, port }) => [name, port])),
    isOwned: true,
    stop: () => node.end("SIGTERM"),
    kill: () => node.end("SIGKILL"),
    start: () => node.start(port),
    dispose: () => node.dispose()
  }
}

const startDocker = async (properties: Readonly<Record<string, string>>): Promise<KafkaServer> => {
  const port = await freePort()
  const name = `event-flow-kafka-${randomBytes(4).toString("hex")}`
  const settings: Record<string, string> = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "listeners": `PLAINTEXT://:${port},CONTROLLER://:29093`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${port}`,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "controller.quorum.voters": "1@localhost:29093",
    ...singleBroker,
    ...properties
  }
  const docker = (...args: ReadonlyArray<string>) => {
    const result = spawnSync("docker", args, { encoding: "utf8", timeout: 300_000 })
    if (result.status !== 0) throw new Error(`docker ${args[0]}: ${result.stderr}`)
  }
  const environment = Object.entries(settings).flatMap(([key, value]) => [
    "-e",
    `KAFKA_${key.toUpperCase().replaceAll(".", "_")}=${value}`
  ])
  docker("run", "-d", "--name", name, "-p", `127.0.0.1:${port}:${port}`, ...environment, `apache/kafka:${kafkaVersion}`)
  // Docker's proxy accepts before the broker does: only an answer of the broker counts
  const ready = () =>
    until(
      "Kafka in docker answers",
      () => spawnSync("docker", ["logs", name], { encoding: "utf8" }).stdout.includes("Kafka Server started")
    )
  await ready()
  return {
    bootstrapServers: [`127.0.0.1:${port}`],
    ports: {},
    isOwned: true,
    stop: () => Promise.resolve(docker("stop", name)),
    kill: () => Promise.resolve(docker("kill", name)),
    start: async () => {
      docker("start", name)
      await until("Kafka in docker accepts connections", () => accepts(port))
    },
    dispose: () => Promise.resolve(docker("rm", "-f", name))
  }
}
