/**
 * A cluster of three Kafka nodes on loopback, each broker and controller: three replicas, two of which must be in
 * sync. Its nodes can be stopped, killed, frozen and moved to other ports. It takes Java and Kafka's jars.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { KafkaNode, newClusterId } from "./kafkaNode.ts"
import { freePort, freePorts } from "./process.ts"

export interface ClusterNode {
  readonly id: number
  /** `host:port`; another one after `move`. */
  readonly address: string
  /** Stops it in an orderly way: it hands its partitions over. */
  readonly stop: () => Promise<void>
  /** SIGKILL. */
  readonly kill: () => Promise<void>
  /** Starts it again, and waits until it accepts connections. */
  readonly start: () => Promise<void>
  /** The next start is on another port. */
  readonly move: () => Promise<void>
  /** SIGSTOP: its connections stay open, new ones are accepted, nothing is answered. */
  readonly freeze: () => void
  /** SIGCONT. */
  readonly thaw: () => void
}

export interface KafkaCluster {
  readonly nodes: readonly [ClusterNode, ClusterNode, ClusterNode]
  readonly bootstrapServers: ReadonlyArray<string>
  /** Ends it for good and removes its data. */
  readonly dispose: () => Promise<void>
}

export const startKafkaCluster = async (): Promise<KafkaCluster> => {
  const directory = mkdtempSync(join(tmpdir(), "event-flow-kafka-cluster-"))
  const nodes = [1, 2, 3].map((id) => new KafkaNode(join(directory, `node-${id}`), "256m"))
  const free = await freePorts(6)
  const ports = free.slice(0, 3)
  const voters = free.slice(3).map((port, i) => `${i + 1}@127.0.0.1:${port}`).join()
  const configure = (i: number) => nodes[i]!.configure(properties(i + 1, ports[i]!, free[i + 3]!, voters))
  nodes.forEach((_, i) => configure(i))
  nodes[0]!.format(newClusterId())
  // A Java machine for each would take its time
  for (const node of nodes.slice(1)) copyStorage(nodes[0]!, node, nodes.indexOf(node) + 1)
  await Promise.all(nodes.map((node, i) => node.start(ports[i]!)))
  const control = (i: number): ClusterNode => ({
    id: i + 1,
    get address() {
      return `127.0.0.1:${ports[i]}`
    },
    stop: () => nodes[i]!.end("SIGTERM"),
    kill: () => nodes[i]!.end("SIGKILL"),
    start: () => nodes[i]!.start(ports[i]!),
    move: async () => {
      ports[i] = await freePort()
      configure(i)
    },
    freeze: () => nodes[i]!.freeze(),
    thaw: () => nodes[i]!.thaw()
  })
  return {
    nodes: [control(0), control(1), control(2)],
    get bootstrapServers() {
      return ports.map((port) => `127.0.0.1:${port}`)
    },
    dispose: async () => {
      await Promise.all(nodes.map((node) => node.dispose()))
      rmSync(directory, { recursive: true, force: true })
    }
  }
}

// --- internal ---

const properties = (id: number, port: number, controller: number, voters: string): Record<string, string> => ({
  "process.roles": "broker,controller",
  "node.id": String(id),
  "controller.quorum.voters": voters,
  "listeners": `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`,
  "advertised.listeners": `PLAINTEXT://127.0.0.1:${port}`,
  "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
  "controller.listener.names": "CONTROLLER",
  "inter.broker.listener.name": "PLAINTEXT",
  "auto.create.topics.enable": "false",
  "num.partitions": "6",
  "default.replication.factor": "3",
  "min.insync.replicas": "2",
  "offsets.topic.num.partitions": "6",
  "offsets.topic.replication.factor": "3",
  "transaction.state.log.replication.factor": "3",
  "transaction.state.log.min.isr": "2",
  "group.initial.rebalance.delay.ms": "0",
  "group.min.session.timeout.ms": "1000",
  // A broker that is gone or frozen is out after 4 seconds and not after 9
  "broker.session.timeout.ms": "4000",
  "broker.heartbeat.interval.ms": "500",
  // Whoever should lead leads again soon, so that no test begins with what an earlier one left
  "leader.imbalance.check.interval.seconds": "1",
  "leader.imbalance.per.broker.percentage": "0",
  // Small machines
  "num.network.threads": "2",
  "num.io.threads": "4",
  "log.cleaner.enable": "false"
})

/** The formatted storage of one node as that of another. */
const copyStorage = (from: KafkaNode, to: KafkaNode, id: number): void => {
  cpSync(from.data, to.data, { recursive: true })
  const file = join(to.data, "meta.properties")
  const directoryId = newClusterId()
  const text = readFileSync(file, "utf8").replace(/^node\.id=.*$/m, `node.id=${id}`)
    .replace(/^directory\.id=.*$/m, `directory.id=${directoryId}`)
  writeFileSync(file, text)
}
