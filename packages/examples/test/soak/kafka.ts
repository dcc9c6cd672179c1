/** Kafka, for a soak: one listener for each process, each told to clients by the port of a proxy. */
import { findOwnSource, startKafka } from "@event-flow/test-support/kafkaServer"
import { type Proxy, startProxy } from "@event-flow/test-support/proxy"
import { Admin, Consumer, MessagesStreamModes } from "@platformatic/kafka"
import type { Process } from "./schedule.ts"
import { type BrokerStage, ofBroker, onDisk, type Published, smallDisk } from "./stage.ts"

const listener = (process: Process) => process.toUpperCase().replace("-", "_")

export const start = async (): Promise<BrokerStage> => {
  const source = findOwnSource()
  if (source.kind !== "java") throw new Error("the soak needs Java and Maven for a Kafka of its own")
  const proxies = new Map<Process, Proxy>()
  for (const process of ofBroker) proxies.set(process, await startProxy())
  const disk = await smallDisk(300)
  const dispose = async () => {
    for (const proxy of proxies.values()) await proxy.close()
    await disk?.dispose()
  }
  const server = await onDisk(disk, () =>
    startKafka(source, {
      listeners: ofBroker.map((process) => ({
        name: listener(process),
        protocol: "PLAINTEXT",
        advertisedPort: proxies.get(process)!.port
      }))
    })).catch(async (error) => {
      await dispose()
      throw error
    })
  for (const process of ofBroker) proxies.get(process)!.target = server.ports[listener(process)]!
  const bootstrapBrokers = [...server.bootstrapServers]
  const withAdmin = async <A>(use: (admin: Admin) => Promise<A>): Promise<A> => {
    const admin = new Admin({ clientId: "soak", bootstrapBrokers, retries: 20, retryDelay: 500 })
    try {
      return await use(admin)
    } finally {
      await admin.close()
    }
  }
  /** With one replica, two that must be in sync refuse every write that all replicas are to have. */
  const setMinInSync = (topic: string, replicas: number) =>
    withAdmin((admin) =>
      admin.incrementalAlterConfigs({
        resources: [{
          resourceType: 2,
          resourceName: topic,
          configs: [{ name: "min.insync.replicas", configOperation: 0, value: String(replicas) }]
        }]
      })
    )
  return {
    environment: (process) => ({
      KAFKA_BOOTSTRAP_SERVERS: `127.0.0.1:${proxies.get(process)!.port}`,
      // How soon the group takes a member for dead, and a client an unanswered request for lost
      KAFKA_SESSION_TIMEOUT: "6 seconds",
      KAFKA_HEARTBEAT_INTERVAL: "1 second",
      KAFKA_REVOKE_TIMEOUT: "3 seconds",
      KAFKA_REQUEST_TIMEOUT: "5 seconds"
    }),
    proxies,
    prepare: async () => {},
    kill: server.kill,
    stop: server.stop,
    start: server.start,
    refuse: async ({ topic }) => {
      await setMinInSync(topic, 2)
      return () => setMinInSync(topic, 1)
    },
    fill: disk && (async () => {
      const free = disk.fill()
      return async () => {
        await free()
        // A broker without a disk that works ends by itself, or has given up on its disk
        await server.kill()
        await server.start()
      }
    }),
    published: ({ topic }) => readAll(bootstrapBrokers, topic),
    // The totals have no dead letters
    deadLetters: async () => 0,
    dispose: async () => {
      await server.dispose()
      await dispose()
    }
  }
}

/** The log of the topic from its first to its last message. */
const readAll = async (bootstrapBrokers: Array<string>, topic: string): Promise<ReadonlyArray<Published>> => {
  const consumer = new Consumer({ clientId: "soak", groupId: `soak-${topic}`, bootstrapBrokers, retries: 20 })
  try {
    const offsets = async (timestamp: bigint) =>
      (await consumer.listOffsets({ topics: [topic], timestamp })).get(topic)!.map(Number)
    const [first, end] = [await offsets(-2n), await offsets(-1n)]
    const count = end.reduce((sum, offset, partition) => sum + offset - first[partition]!, 0)
    const published: Array<Published> = []
    if (count === 0) return published
    const stream = await consumer.consume({ topics: [topic], autocommit: false, mode: MessagesStreamModes.EARLIEST })
    for await (const { key, value } of stream) {
      const { number } = JSON.parse(value!.toString()) as { number: number }
      published.push({ key: key!.toString(), number })
      if (published.length === count) break
    }
    return published
  } finally {
    await consumer.close(true)
  }
}
