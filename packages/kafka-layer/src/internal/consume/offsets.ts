/** Offsets of a group: reading them, and committing them under the generation in which messages were handled. */
import {
  offsetCommitV8,
  offsetCommitV9,
  offsetFetchV7,
  offsetFetchV8,
  offsetFetchV9,
  offsetForLeaderEpochV4
} from "@platformatic/kafka"
import type { Broker, Consumer } from "@platformatic/kafka"
import * as Effect from "effect/Effect"
import { call, promise } from "../client.ts"
import type { ClusterMetadata, Connection } from "../client.ts"
import type * as KafkaError from "../errors.ts"
import type { AssignedPartition, Start } from "./assignedPartition.ts"
import * as TopicHistory from "./topicHistory.ts"

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

/** Where the group begins with each assigned partition, by topic and partition: `orders/3`. */
export const starts = Effect.fnUntraced(function*(
  consumer: Consumer,
  { assignments, groupId, histories, startFrom, topics }: {
    readonly groupId: string
    /** Those that this member consumes when it is given partitions of them. */
    readonly topics: ReadonlyArray<string>
    readonly assignments: ReadonlyArray<Assignment>
    /** Are brought up to date, for all topics: the partitions of another member may come to this one. */
    readonly histories: TopicHistory.TopicHistories
    /** For a group that is new to the topic. */
    readonly startFrom: (topic: string) => Edge
  }
) {
  const result = new Map<string, Start>()
  const metadata = yield* promise(() => consumer.metadata({ topics: [...topics] }))
  const committed = yield* committedOffsets(consumer, groupId, metadata)
  for (const [topic, info] of metadata.topics) {
    const commits = committed.get(topic) ?? new Map<number, Committed>()
    const known = [histories.get(topic), ...Array.from(commits.values(), ({ history }) => history)].filter((history) =>
      history !== undefined
    )
    const history = TopicHistory.merge(info, known)
    histories.set(topic, history)
    if (known.some(({ topicId }) => topicId !== info.id)) {
      yield* Effect.logWarning(
        `Topic "${topic}" was deleted and created again: the group begins at the first message of the new one`
      )
    }
    const commitMetadata = TopicHistory.encode(history, metadata.id)
    const fresh = { earliest: [] as Array<number>, latest: [] as Array<number> }
    for (const partition of assignments.find((assignment) => assignment.topic === topic)?.partitions ?? []) {
      const commit = commits.get(partition)
      if (commit === undefined || commit.history !== undefined && commit.history.topicId !== info.id) {
        fresh[partition >= history.began ? "earliest" : startFrom(topic)].push(partition)
      } else {
        result.set(`${topic}/${partition}`, {
          position: commit.offset,
          committed: commit.offset,
          epoch: commit.history === undefined ? -1 : commit.leaderEpoch,
          topicId: info.id,
          commitMetadata
        })
      }
    }
    for (const which of ["earliest", "latest"] as const) {
      if (fresh[which].length === 0) continue
      for (const [partition, position] of yield* edge(consumer, topic, fresh[which], which)) {
        result.set(`${topic}/${partition}`, { position, committed: -1, epoch: -1, topicId: info.id, commitMetadata })
      }
    }
  }
  return result
})

export type Edge = "earliest" | "latest"

/** The first or the next offset of partitions. */
export const edge = (
  consumer: Consumer,
  topic: string,
  partitions: ReadonlyArray<number>,
  which: Edge
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

/**
 * The ends of what the logs of partitions have in common with those that were read
 * in earlier leaders' epochs. Without those of which the leader knows nothing so old.
 */
export const commonEnds = Effect.fnUntraced(function*(
  consumer: Consumer,
  leader: Broker | undefined,
  partitions: ReadonlyArray<AssignedPartition>
) {
  const ends = new Map<AssignedPartition, number>()
  const wanted = partitions.filter(({ readEpoch }) => readEpoch >= 0)
  if (wanted.length === 0 || (yield* maxVersion(consumer, "OffsetForLeaderEpoch")) < 4) return ends
  if (leader === undefined) return yield* Effect.fail(noBroker("the leader of a partition"))
  const connection = yield* call<Connection>((callback) => consumer.connections.get(leader, callback))
  const names = [...new Set(wanted.map(({ topic }) => topic))]
  const topics = names.map((name) => ({
    name,
    partitions: wanted.filter(({ topic }) => topic === name).map(({ index, readEpoch }) => ({
      partitionIndex: index,
      currentLeaderEpoch: -1,
      leaderEpoch: readEpoch
    }))
  }))
  const answer = yield* promise(() => offsetForLeaderEpochV4.api.async(connection, -1, topics))
  for (const { partitions: answered, topic } of answer.topics) {
    for (const { endOffset, partition: index } of answered) {
      const partition = wanted.find((partition) => partition.topic === topic && partition.index === index)
      if (partition !== undefined && endOffset >= 0n) ends.set(partition, Number(endOffset))
    }
  }
  return ends
})

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
  const connection = yield* coordinator(consumer)
  const topics = new Map<string, Parameters<typeof offsetCommitV9.createRequest>[4][number]>()
  for (const { offset, partition } of commits) {
    let topic = topics.get(partition.topic)
    if (topic === undefined) topics.set(partition.topic, topic = { name: partition.topic, partitions: [] })
    topic.partitions.push({
      partitionIndex: partition.index,
      committedOffset: BigInt(offset),
      committedLeaderEpoch: partition.readEpoch,
      committedMetadata: partition.commitMetadata
    })
  }
  const { generationId, groupId, memberId } = membership
  yield* promise(() => api.async(connection, groupId, generationId, memberId, null, [...topics.values()]))
})

export type CommitApi = typeof offsetCommitV9.api

/** The version of the commit request that the broker knows. */
export const commitApi = (consumer: Consumer): Effect.Effect<CommitApi, KafkaError.Failure> =>
  Effect.flatMap(maxVersion(consumer, "OffsetCommit"), (version) => {
    if (version >= 9) return Effect.succeed(offsetCommitV9.api)
    if (version === 8) return Effect.succeed(offsetCommitV8.api as CommitApi)
    return Effect.fail(tooOld)
  })

// --- internal ---

interface Committed {
  readonly offset: number
  readonly leaderEpoch: number
  readonly history: TopicHistory.TopicHistory | undefined
}

/**
 * What the group has committed of all partitions of topics. The raw request and not
 * `Consumer#listCommittedOffsets`, which leaves the metadata out, and names the
 * member: a group that has members of the new protocol refuses that of one of the
 * classic protocol.
 */
const committedOffsets = Effect.fnUntraced(function*(
  consumer: Consumer,
  groupId: string,
  metadata: ClusterMetadata
) {
  const version = yield* maxVersion(consumer, "OffsetFetch")
  if (version < 7) return yield* Effect.fail(tooOld)
  const connection = yield* coordinator(consumer)
  const topics = Array.from(metadata.topics, ([name, { partitionsCount }]) => ({
    name,
    partitionIndexes: Array.from({ length: partitionsCount }, (_, i) => i)
  }))
  const groups = [{ groupId, memberId: null, memberEpoch: -1, topics }]
  // Offsets that an open transaction is about to change are waited for
  const requireStable = true
  const answered = yield* promise(async () => {
    if (version === 7) return (await offsetFetchV7.api.async(connection, groups, requireStable)).topics
    const { api } = version === 8 ? offsetFetchV8 : offsetFetchV9
    return (await api.async(connection, groups, requireStable)).groups.flatMap(({ topics }) => topics)
  })
  const result = new Map<string, ReadonlyMap<number, Committed>>()
  for (const { name, partitions } of answered) {
    const commits = new Map<number, Committed>()
    for (const { committedLeaderEpoch, committedOffset, metadata: written, partitionIndex } of partitions) {
      if (committedOffset < 0n) continue
      commits.set(partitionIndex, {
        offset: Number(committedOffset),
        leaderEpoch: committedLeaderEpoch,
        history: TopicHistory.decode(written ?? null, metadata.id)
      })
    }
    result.set(name, commits)
  }
  return result
})

/** A connection to the coordinator of the group. */
const coordinator = Effect.fnUntraced(function*(consumer: Consumer) {
  const node = yield* promise(() => consumer.findGroupCoordinator())
  const metadata = yield* promise(() => consumer.metadata({ topics: [] }))
  const address = metadata.brokers.get(node)
  if (address === undefined) return yield* Effect.fail(noBroker("the coordinator"))
  return yield* call<Connection>((callback) => consumer.connections.get(address, callback))
})

const noBroker = (what: string): KafkaError.Failure => ({
  kind: "stale",
  detail: `${what} is unknown`,
  cause: undefined
})

const maxVersion = (consumer: Consumer, request: string): Effect.Effect<number, KafkaError.Failure> =>
  Effect.map(promise(() => consumer.listApis()), (apis) => apis.find(({ name }) => name === request)?.maxVersion ?? 0)

const tooOld: KafkaError.Failure = { kind: "other", detail: "the broker is older than Kafka 2.8", cause: undefined }
