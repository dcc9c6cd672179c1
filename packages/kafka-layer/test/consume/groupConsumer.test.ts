/** Without a broker: which brokers the client turns to. */
import { assert, describe, it } from "@effect/vitest"
import { kMetadata, kPerformWithRetry, NetworkError } from "@platformatic/kafka"
import type {
  Broker,
  Callback,
  ClusterMetadata,
  Connection,
  ConnectionPool,
  MetadataOptions
} from "@platformatic/kafka"
import { GroupConsumer } from "../../src/internal/consume/groupConsumer.ts"

const options = { clientId: "test", groupId: "g", bootstrapBrokers: ["h:1"], retries: 2, retryDelay: 1 }

const findCoordinator = 10
const apiVersions = 18

/** The coordinator was node 1, which is gone, and is node 2. */
class Moved extends GroupConsumer {
  readonly coordinators = [1, 2]
  readonly asked: Array<number> = []

  constructor() {
    super(options)
    const get = (broker: Broker | undefined, callback: Callback<Connection>) =>
      broker === undefined
        // As the client's own pool says it
        ? callback(new NetworkError("not in the metadata", { hasStaleMetadata: true }))
        : callback(null, this.#connection(broker.port))
    this.connections.get = get as ConnectionPool["get"]
    this.connections.getFirstAvailable =
      ((brokers: Array<Broker>, callback: Callback<Connection>) => get(brokers[0], callback)) as ConnectionPool[
        "getFirstAvailable"
      ]
  }

  override [kMetadata](_options: MetadataOptions, callback: Callback<ClusterMetadata>): void {
    const brokers = new Map([[2, { host: "h", port: 2, rack: null }]])
    callback(null, { id: "c", brokers, topics: new Map(), lastUpdate: 0, controllerId: 2 })
  }

  #connection(port: number): Connection {
    const send = (apiKey: number, ...rest: ReadonlyArray<unknown>) => {
      const callback = rest.at(-1) as Callback<unknown>
      if (apiKey === apiVersions) {
        const names = ["FindCoordinator", "OffsetFetch"]
        return callback(null, { apiKeys: names.map((name) => ({ name, minVersion: 0, maxVersion: 8 })) })
      }
      if (apiKey === findCoordinator) {
        return callback(null, { coordinators: [{ key: "g", nodeId: this.coordinators.shift() }] })
      }
      this.asked.push(port)
      return callback(null, { groups: [] })
    }
    return { send } as unknown as Connection
  }
}

describe("the client's consumer", () => {
  it("asks the leaders of partitions once, the coordinator as often as it is told", async () => {
    const consumer = new GroupConsumer(options)
    for (const [operation, expected] of [["fetch", 1], ["listOffsets", 1], ["heartbeat", 3]] as const) {
      let attempts = 0
      const ask = (callback: Callback<void>) => {
        attempts++
        callback(new Error("no"))
      }
      await new Promise<void>((resolve) => void consumer[kPerformWithRetry](operation, ask, () => resolve()))
      assert.strictEqual(attempts, expected, operation)
    }
    await consumer.close()
  })

  it("looks for another coordinator when the one that it knows is gone", async () => {
    const consumer = new Moved()
    await consumer.listCommittedOffsets({ topics: [{ topic: "t", partitions: [0] }] })
    assert.deepStrictEqual(consumer.asked, [2])
    await consumer.close()
  })
})
