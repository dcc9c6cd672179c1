/** A cluster under load: publishing at a pace and consuming, with counts, while its nodes are frozen and killed. */
import { Broker } from "@event-flow/core"
import type { Subscriber } from "@event-flow/core"
import { type Background, inBackground } from "@event-flow/test-support/background"
import type { KafkaCluster } from "@event-flow/test-support/kafkaCluster"
import { Admin, alterPartitionReassignmentsV0, FindCoordinatorKeyTypes } from "@platformatic/kafka"
import { Effect } from "effect"
import type { Scope } from "effect"
import { assert } from "vitest"
import { Answers, watch } from "../../src/internal/answers.ts"
import { partitionOf } from "../../src/internal/publish/murmur2.ts"
import { consume, numbered, numberOf, Tally } from "./consumer.ts"
import { eventually, unique } from "./kafka.ts"

/** Asks whichever node answers. */
export const admin = <A>({ bootstrapServers }: KafkaCluster, use: (admin: Admin) => Promise<A>): Effect.Effect<A> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const timeouts = { connectTimeout: 1_000, requestTimeout: 5_000 }
      const admin = new Admin({ clientId: "test", bootstrapBrokers: [...bootstrapServers], retries: 8, ...timeouts })
      watch(admin.connections, new Answers(), timeouts)
      return admin
    }),
    (admin) => Effect.promise(() => use(admin)),
    (admin) => Effect.promise(() => admin.close())
  )

/** A topic with these replicas for each partition, of which the first one leads. */
export const topicOn = (
  cluster: KafkaCluster,
  name: string,
  replicas: ReadonlyArray<ReadonlyArray<number>>,
  settings: Readonly<Record<string, string>> = {}
): Effect.Effect<string> =>
  Effect.gen(function*() {
    const topic = unique(name)
    yield* admin(cluster, (admin) =>
      admin.createTopics({
        topics: [{
          topic,
          assignments: replicas.map((brokers, partition) => ({ partition, brokers: [...brokers] }))
        }],
        configs: Object.entries(settings).map(([name, value]) => ({ name, value }))
      }))
    yield* leads(cluster, topic, replicas.map(([leader]) => leader!))
    return topic
  })

/** Six partitions with three replicas; each node leads two of them. */
export const spread: ReadonlyArray<ReadonlyArray<number>> = [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 3, 2], [2, 1, 3], [
  3,
  2,
  1
]]

const partitions = (cluster: KafkaCluster, topic: string) =>
  Effect.map(
    admin(cluster, (admin) => admin.metadata({ topics: [topic], forceUpdate: true })),
    (metadata) => metadata.topics.get(topic)?.partitions ?? []
  )

/** Waits until these nodes lead the partitions of a topic. */
export const leads = (cluster: KafkaCluster, topic: string, leaders: ReadonlyArray<number>): Effect.Effect<void> =>
  eventually(
    `${topic} is led by ${leaders.join()}`,
    Effect.map(
      partitions(cluster, topic),
      (partitions) => partitions.map(({ leader }) => leader).join() === leaders.join()
    )
  )

/** Waits until all replicas are in sync. */
export const inSync = (cluster: KafkaCluster, topic: string): Effect.Effect<void> =>
  eventually(
    `the replicas of ${topic} are in sync`,
    Effect.map(partitions(cluster, topic), (partitions) =>
      partitions.length > 0 && partitions.every(({ isr, replicas }) => isr.length === replicas.length))
  )

/** Gives partitions other replicas; the first of each leads soon. */
export const reassign = (
  cluster: KafkaCluster,
  topic: string,
  replicas: ReadonlyArray<ReadonlyArray<number>>
): Effect.Effect<void> =>
  Effect.andThen(
    admin(cluster, async (admin) => {
      const metadata = await admin.metadata({ topics: [], forceUpdate: true })
      const connection = await admin.connections.get(metadata.brokers.get(1)!)
      await alterPartitionReassignmentsV0.api.async(connection, 10_000, true, [{
        name: topic,
        partitions: replicas.map((nodes, partitionIndex) => ({ partitionIndex, replicas: [...nodes] }))
      }])
    }),
    leads(cluster, topic, replicas.map(([leader]) => leader!))
  )

/** The node that coordinates a group. */
export const coordinatorOf = (cluster: KafkaCluster, group: string): Effect.Effect<number> =>
  Effect.map(
    admin(cluster, (admin) => admin.findCoordinator({ keyType: FindCoordinatorKeyTypes.GROUP, keys: [group] })),
    ([coordinator]) => coordinator!.nodeId
  )

/** A group that this node coordinates. */
export const groupOn = (cluster: KafkaCluster, node: number): Effect.Effect<string> =>
  Effect.suspend(() => {
    const group = unique("group")
    return Effect.flatMap(
      coordinatorOf(cluster, group),
      (coordinator) => coordinator === node ? Effect.succeed(group) : groupOn(cluster, node)
    )
  })

/** The members of a group, as its coordinator knows them. */
export const membersOf = (cluster: KafkaCluster, group: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(
    admin(cluster, (admin) => admin.describeGroups({ groups: [group] })),
    (groups) => [...groups.get(group)?.members.keys() ?? []]
  )

/** Publishes some 80 messages a second, and consumes them. */
export class Load {
  readonly topic: string
  readonly group: string
  readonly tally = new Tally()
  readonly acknowledged = new Set<number>()
  /** The messages whose publish failed, with its reason. */
  readonly failed = new Map<number, string>()
  readonly #partitions: number
  readonly #cluster: KafkaCluster
  /** The highest number of each partition that was acknowledged, and that was handled. */
  readonly #acknowledgedOf = new Map<number, number>()
  readonly #handledOf = new Map<number, number>()
  #sent = 0
  #isStopped = false
  #open = 0

  private constructor(cluster: KafkaCluster, topic: string, group: string, partitions: number) {
    this.#cluster = cluster
    this.topic = topic
    this.group = group
    this.#partitions = partitions
  }

  /** Begins; succeeds when every partition has had its first message. */
  static readonly start = (
    cluster: KafkaCluster,
    options: { readonly topic: string; readonly group: string; readonly partitions: number }
  ): Effect.Effect<
    Load,
    Subscriber.SubscribeError,
    Broker.Broker | Subscriber.Subscriber | Background | Scope.Scope
  > =>
    Effect.gen(function*() {
      const load = new Load(cluster, options.topic, options.group, options.partitions)
      yield* consume({ topics: [load.topic], group: load.group }, (delivery) =>
        Effect.sync(() => {
          load.tally.add(delivery)
          load.#note(load.#handledOf, numberOf(delivery.message))
        }))
      yield* inBackground(load.#publish)
      yield* load.goesOn()
      return load
    })

  /** Waits until messages that are published from now on were acknowledged and handled in each partition. */
  goesOn(in_: ReadonlyArray<number> = Array.from({ length: this.#partitions }, (_, i) => i)): Effect.Effect<void> {
    return Effect.suspend(() => {
      const from = this.#sent
      return eventually(
        `partitions ${in_.join()} go on`,
        () =>
          in_.every((partition) =>
            (this.#acknowledgedOf.get(partition) ?? -1) >= from && (this.#handledOf.get(partition) ?? -1) >= from
          )
      )
    })
  }

  /** Waits until what is handled now is committed in each partition. */
  readonly commits: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    const ends = yield* endsOf(this.#cluster, this.topic, this.#partitions)
    yield* this.#committed(ends)
  })

  /**
   * Ends, waits until everything that is in the log was handled and committed, and balances the books. Nothing
   * acknowledged is lost, nothing is in the log twice, keys keep their order, and what is `Unreachable` is not there.
   */
  readonly end = (fault: string): Effect.Effect<Books> =>
    Effect.gen({ self: this }, function*() {
      this.#isStopped = true
      yield* eventually("every publish is over", () => this.#open === 0)
      let ends: ReadonlyMap<number, number> = new Map()
      let logged = 0
      // A node that was frozen takes itself for the leader for a moment
      yield* eventually(
        "what is acknowledged is in the log",
        Effect.map(endsOf(this.#cluster, this.topic, this.#partitions), (found) => {
          ends = found
          logged = [...ends.values()].reduce((sum, end) => sum + end, 0)
          return logged >= this.acknowledged.size
        })
      )
      yield* this.#committed(ends)
      const { tally } = this
      const failedWith = (reason: string) => [...this.failed].filter(([, failed]) => failed === reason)
      const books = {
        fault,
        sent: this.#sent,
        acknowledged: this.acknowledged.size,
        failed: this.failed.size,
        unreachableInLog: failedWith("Unreachable").filter(([number]) => tally.counts.has(number)).length,
        handledTwice: tally.handled - logged,
        lost: [...this.acknowledged].filter((number) => !tally.counts.has(number)).length
      }
      process.stdout.write(`cluster: ${JSON.stringify(books)}\n`)
      assert.deepStrictEqual(
        {
          lost: books.lost,
          unreachableInLog: books.unreachableInLog,
          duplicatesInLog: logged - tally.distinct,
          outOfOrder: tally.outOfOrder
        },
        { lost: 0, unreachableInLog: 0, duplicatesInLog: 0, outOfOrder: 0 }
      )
      return books
    })

  // --- internal ---

  readonly #publish: Effect.Effect<void, never, Broker.Broker | Scope.Scope> = Effect.gen({ self: this }, function*() {
    const broker = yield* Broker.Broker
    const one = (number: number) =>
      Effect.matchEffect(broker.publish([numbered(this.topic, number, keyOf(number))]), {
        onSuccess: () =>
          Effect.sync(() => {
            this.#open--
            this.acknowledged.add(number)
            this.#note(this.#acknowledgedOf, number)
          }),
        onFailure: (error) =>
          Effect.sync(() => {
            this.#open--
            this.failed.set(number, error._tag === "PublishError" ? error.reason._tag : error._tag)
          })
      })
    while (!this.#isStopped) {
      for (let i = 0; i < 2; i++) {
        this.#open++
        yield* Effect.forkScoped(one(this.#sent++))
      }
      yield* Effect.sleep(25)
    }
  })

  #committed(ends: ReadonlyMap<number, number>): Effect.Effect<void> {
    return eventually(
      "everything is committed",
      Effect.map(
        admin(this.#cluster, (admin) => admin.listConsumerGroupOffsets({ groups: [this.group] })),
        (groups) => {
          const partitions = groups[0]?.topics.find(({ name }) => name === this.topic)?.partitions ?? []
          const committed = new Map(partitions.map((it) => [it.partitionIndex, Number(it.committedOffset)]))
          return [...ends].every(([partition, end]) => (committed.get(partition) ?? 0) >= end)
        }
      )
    )
  }

  #note(highest: Map<number, number>, number: number): void {
    const partition = partitionOf(new TextEncoder().encode(keyOf(number)), this.#partitions)
    highest.set(partition, Math.max(highest.get(partition) ?? -1, number))
  }
}

export interface Books {
  readonly fault: string
  readonly sent: number
  readonly acknowledged: number
  readonly failed: number
  /** Failed as `Unreachable` and in the log all the same. */
  readonly unreachableInLog: number
  /** Deliveries beyond the first. */
  readonly handledTwice: number
  readonly lost: number
}

const keyOf = (number: number): string => `key-${number % 60}`

/** Where the partitions of a topic end. */
const endsOf = (cluster: KafkaCluster, topic: string, partitions: number): Effect.Effect<ReadonlyMap<number, number>> =>
  Effect.map(
    admin(cluster, (admin) =>
      admin.listOffsets({
        topics: [{
          name: topic,
          partitions: Array.from({ length: partitions }, (_, partitionIndex) => ({ partitionIndex, timestamp: -1n }))
        }]
      })),
    ([found]) => new Map(found!.partitions.map(({ offset, partitionIndex }) => [partitionIndex, Number(offset)]))
  )
