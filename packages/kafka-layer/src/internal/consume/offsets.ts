/** Offsets of a group: reading them, and committing them under the generation in which messages were handled. */
import { offsetCommitV8, offsetCommitV9 } from "@platformatic/kafka"
import type { Consumer } from "@platformatic/kafka"
import * as Effect from "effect/Effect"
import { call, promise } from "../client.ts"
import type { Connection } from "../client.ts"
import type * as KafkaError from "../errors.ts"
import type { AssignedPartition } from "./assignedPartition.ts"

/** A membership in one generation of a group. */
export interface Membership {
  readonly groupId: string
  readonly generationId: number
  readonly memberId: string
}

export interface Assignment {
  readonly topic: string
  readonly partitions: ReadonlyArray<number>
}

/** Where a partition begins for the group; `committed` is -1 when it never committed there. */
export interface Start {
  readonly position: number
  readonly committed: number
}

export const starts = Effect.fnUntraced(function*(
  consumer: Consumer,
  assignments: ReadonlyArray<Assignment>,
  startFrom: (topic: string) => "earliest" | "latest"
) {
  const result = new Map<string, Start>()
  const wanted = assignments.filter(({ partitions }) => partitions.length > 0)
  if (wanted.length === 0) return result
  const committed = yield* promise(() =>
    consumer.listCommittedOffsets({
      topics: wanted.map(({ partitions, topic }) => ({ topic, partitions: [...partitions] }))
    })
  )
  for (const { partitions, topic } of wanted) {
    const fresh = partitions.filter((partition) => (committed.get(topic)?.[partition] ?? -1n) < 0n)
    const fallback = fresh.length === 0 ? undefined : yield* edge(consumer, topic, fresh, startFrom(topic))
    for (const partition of partitions) {
      const offset = Number(committed.get(topic)?.[partition] ?? -1n)
      result.set(
        `${topic}/${partition}`,
        offset >= 0
          ? { position: offset, committed: offset }
          : { position: fallback!.get(partition)!, committed: -1 }
      )
    }
  }
  return result
})

/** The first or the next offset of partitions. */
export const edge = (
  consumer: Consumer,
  topic: string,
  partitions: ReadonlyArray<number>,
  which: "earliest" | "latest"
): Effect.Effect<ReadonlyMap<number, number>, KafkaError.Failure> =>
  Effect.map(
    promise(() =>
      consumer.listOffsets({
        topics: [topic],
        partitions: { [topic]: [...partitions] },
        timestamp: which === "earliest" ? -2n : -1n
      })
    ),
    (offsets) => new Map(partitions.map((partition) => [partition, Number(offsets.get(topic)?.[partition] ?? 0n)]))
  )

export interface Commit {
  readonly partition: AssignedPartition
  readonly offset: number
}

/**
 * The raw request and not `Consumer#commit`: when its generation is over, that
 * one joins again and sends the old offsets in the new generation, which moves
 * the group back.
 */
export const commit = Effect.fnUntraced(function*(
  consumer: Consumer,
  api: CommitApi,
  membership: Membership,
  commits: ReadonlyArray<Commit>
) {
  const coordinator = yield* promise(() => consumer.findGroupCoordinator())
  const metadata = yield* promise(() => consumer.metadata({ topics: [] }))
  const address = metadata.brokers.get(coordinator)
  if (address === undefined) {
    return yield* Effect.fail<KafkaError.Failure>({
      kind: "stale",
      detail: "the coordinator is unknown",
      cause: undefined
    })
  }
  const connection = yield* call<Connection>((callback) => consumer.connections.get(address, callback))
  const topics = new Map<string, Parameters<typeof offsetCommitV9.createRequest>[4][number]>()
  for (const { offset, partition } of commits) {
    let topic = topics.get(partition.topic)
    if (topic === undefined) topics.set(partition.topic, topic = { name: partition.topic, partitions: [] })
    topic.partitions.push({
      partitionIndex: partition.index,
      committedOffset: BigInt(offset),
      committedLeaderEpoch: partition.leaderEpoch,
      committedMetadata: null
    })
  }
  const { generationId, groupId, memberId } = membership
  yield* promise(() => api.async(connection, groupId, generationId, memberId, null, [...topics.values()]))
})

export type CommitApi = typeof offsetCommitV9.api

/** The version of the commit request that the broker knows. */
export const commitApi = (consumer: Consumer): Effect.Effect<CommitApi, KafkaError.Failure> =>
  Effect.flatMap(promise(() => consumer.listApis()), (apis) => {
    const maxVersion = apis.find(({ name }) => name === "OffsetCommit")?.maxVersion ?? 0
    if (maxVersion >= 9) return Effect.succeed(offsetCommitV9.api)
    if (maxVersion === 8) return Effect.succeed(offsetCommitV8.api as CommitApi)
    return Effect.fail<KafkaError.Failure>({
      kind: "other",
      detail: "the broker is older than Kafka 2.8",
      cause: undefined
    })
  })
