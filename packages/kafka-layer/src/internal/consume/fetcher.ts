/**
 * Fetches for the partitions of one generation: at most one request in flight to
 * each broker, and only for partitions that have room.
 */
import type { ConnectionPool, Consumer } from "@platformatic/kafka"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import type { Answers } from "../answers.ts"
import { BrokerLog } from "../brokerLog.ts"
import { call, promise } from "../client.ts"
import type { ClusterMetadata } from "../client.ts"
import * as KafkaError from "../errors.ts"
import { onceATurn } from "../onceATurn.ts"
import type { ConsumerSettings } from "../settings.ts"
import type { AssignedPartition } from "./assignedPartition.ts"
import { appendFetched } from "./fetchResponse.ts"
import type { FetchResponse } from "./fetchResponse.ts"
import type { Intake } from "./intake.ts"
import * as Offsets from "./offsets.ts"

export interface Options {
  readonly settings: ConsumerSettings
  readonly topics: ReadonlyArray<string>
  readonly consumer: Consumer
  /** For fetches only: a broker answers the requests of a connection one after another, and a fetch may take long. */
  readonly pool: ConnectionPool
  readonly intake: Intake
  readonly clock: Clock.Clock
  readonly answers: Answers
  readonly onMetadata: (metadata: ClusterMetadata) => Effect.Effect<void>
}

/** How long a topic may be unknown before it counts as gone: a new topic is not known everywhere at once. */
export const unknownTopicPatience = 3_000

/** Fetches until it is interrupted; fails when a topic is gone or may not be read. */
export const run: (options: Options) => Effect.Effect<never, KafkaError.Failure> = Effect.fnUntraced(
  function*(options) {
    const fetcher = new Fetcher(options, yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>())
    options.intake.onRoom = onceATurn(yield* Scheduler.Scheduler, () => fetcher.latch.openUnsafe())
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        fetcher.isOver = true
        options.intake.onRoom = () => undefined
      })
    )
    return yield* Effect.raceFirst(
      Effect.forever(fetcher.step, { disableYield: true }),
      Deferred.await(fetcher.failed)
    )
  },
  Effect.scoped
)

// --- internal ---

/** How long a fetch waits for messages while another partition of its broker is full, in milliseconds. */
const fullWait = 20

/** The longest wait before a partition that failed is tried again, in milliseconds; as for Kafka's own clients. */
const maxDelay = 1_000

class Fetcher {
  readonly #options: Options
  readonly #fork: (effect: Effect.Effect<void>) => unknown
  readonly #busy = new Set<number>()
  /** Opened when there may be something to fetch. */
  readonly latch = Latch.makeUnsafe(false)
  readonly failed = Deferred.makeUnsafe<never, KafkaError.Failure>()
  isOver = false
  #metadata: ClusterMetadata | undefined
  #metadataAt = 0
  #isStale = true
  #isRefreshing = false
  #unknownSince: number | undefined
  readonly #log = new BrokerLog()

  constructor(options: Options, fork: (effect: Effect.Effect<void>) => unknown) {
    this.#options = options
    this.#fork = fork
  }

  /** Starts what can be started, then waits for a reason to look again. */
  readonly step: Effect.Effect<void, KafkaError.Failure> = Effect.suspend(() => {
    this.latch.closeUnsafe()
    const now = this.#now()
    const expiry = this.#metadataAt + this.#options.settings.metadataMaxAge
    const metadata = this.#metadata
    if (!this.#isRefreshing && (this.#isStale || metadata === undefined || expiry < now)) {
      this.#isRefreshing = true
      // Partitions whose leaders are not in doubt are fetched meanwhile
      this.#fork(this.#refresh)
    }
    const wake = metadata === undefined ? Number.POSITIVE_INFINITY : this.#start(metadata, now)
    const next = this.#isRefreshing ? wake : Math.min(wake, expiry)
    return next === Number.POSITIVE_INFINITY
      ? this.latch.await
      : Effect.asVoid(Effect.timeoutOption(this.latch.await, Math.max(1, next - now)))
  })

  #now(): number {
    return this.#options.clock.currentTimeMillisUnsafe()
  }

  /** Starts fetches; gives the time when a partition that waits may be tried again. */
  #start(metadata: ClusterMetadata, now: number): number {
    const { intake, settings } = this.#options
    const byNode = new Map<number, Array<AssignedPartition>>()
    const byNewLeader = new Map<number, Array<AssignedPartition>>()
    const full = new Set<number>()
    let wake = Number.POSITIVE_INFINITY
    for (const partition of intake.partitions) {
      if (partition.isFetching || partition.isRevoked || partition.awaitsLeader) continue
      if (partition.notBefore > now) {
        wake = Math.min(wake, partition.notBefore)
        continue
      }
      const topic = metadata.topics.get(partition.topic)
      // Its position says nothing about another topic of this name
      if (topic !== undefined && topic.id !== partition.topicId) continue
      const info = topic?.partitions[partition.index]
      if (info === undefined || info.leader < 0) {
        this.#isStale = true
        partition.unansweredSince ??= now
        wake = Math.min(wake, this.#delay(partition))
        continue
      }
      if (partition.readEpoch >= 0 && info.leaderEpoch > partition.readEpoch) {
        addTo(byNewLeader, info.leader, partition)
        continue
      }
      partition.leaderEpoch = info.leaderEpoch
      if (!partition.hasRoom) {
        // A partition whose messages are not due gets no room before they are
        const until = partition.hold?.until
        if (until === undefined || until <= now + settings.fetchWait) full.add(info.leader)
      } else if (!this.#busy.has(info.leader)) {
        addTo(byNode, info.leader, partition)
      }
    }
    for (const [node, partitions] of byNode) {
      this.#busy.add(node)
      for (const partition of partitions) {
        partition.isFetching = true
        partition.unansweredSince ??= now
      }
      // A partition that gets room meanwhile must not wait until the others have messages
      const maxWait = full.has(node) ? Math.min(fullWait, settings.fetchWait) : settings.fetchWait
      this.#fork(this.#fetch(node, partitions, maxWait, metadata))
    }
    for (const [node, partitions] of byNewLeader) {
      for (const partition of partitions) {
        partition.isFetching = true
        partition.unansweredSince ??= now
      }
      this.#fork(this.#compareLogs(node, partitions, metadata))
    }
    return wake
  }

  /** Before a new leader is read: it may have less than the one before, where it was not in sync when it was elected. */
  #compareLogs(
    node: number,
    partitions: ReadonlyArray<AssignedPartition>,
    metadata: ClusterMetadata
  ): Effect.Effect<void> {
    return Offsets.commonEnds(this.#options.consumer, metadata.brokers.get(node), partitions).pipe(
      Effect.matchEffect({
        onSuccess: (ends) =>
          Effect.forEach(partitions, (partition) => {
            const { index, position, topic } = partition
            const end = ends.get(partition)
            partition.readEpoch = metadata.topics.get(topic)!.partitions[index]!.leaderEpoch
            return this.isOver || partition.isRevoked || end === undefined || end >= position ?
              Effect.void :
              this.#goOn(
                partition,
                end,
                `The log of partition ${topic}/${index} was cut off at ${end}, before offset ${position} at which this ` +
                  "group continues: a broker leads it that was not in sync"
              )
          }, { discard: true }),
        onFailure: (failure) => {
          if (this.isOver) return Effect.void
          for (const partition of partitions) this.#leaderFailed(partition)
          return this.#log.note(node, failure)
        }
      }),
      Effect.ensuring(Effect.sync(() => {
        for (const partition of partitions) partition.isFetching = false
        this.latch.openUnsafe()
      }))
    )
  }

  #fetch(
    node: number,
    partitions: ReadonlyArray<AssignedPartition>,
    maxWaitTime: number,
    metadata: ClusterMetadata
  ): Effect.Effect<void> {
    const { consumer, intake, pool, settings } = this.#options
    return call<FetchResponse>((callback) =>
      consumer.fetch({
        node,
        maxWaitTime,
        minBytes: 1,
        maxBytes: settings.maxBytesPerPartition * partitions.length,
        topics: fetchTopics(partitions, metadata, settings.maxBytesPerPartition),
        connectionPool: pool
      }, (error, response) => {
        // Where some partitions fail, the answer for the others is in the error
        const partial = (error as { readonly response?: FetchResponse } | null)?.response
        const isPartial = partial?.responses !== undefined && partial.errorCode === 0
        // `FetchConnections` have read it
        callback(isPartial ? null : error, response as FetchResponse | undefined ?? partial)
      })
    ).pipe(
      Effect.matchEffect({
        onSuccess: (response) => {
          if (this.isOver) return Effect.void
          const failures = this.#settle(partitions, metadata, response)
          intake.wake()
          const note = this.#log.note(node, undefined)
          return failures.length === 0 ? note : Effect.andThen(note, Effect.all(failures, { discard: true }))
        },
        onFailure: (failure) => {
          if (this.isOver) return Effect.void
          if (failure.kind !== "session") {
            for (const partition of partitions) this.#leaderFailed(partition)
          }
          return this.#log.note(node, failure)
        }
      }),
      Effect.ensuring(Effect.sync(() => {
        this.#busy.delete(node)
        for (const partition of partitions) partition.isFetching = false
        this.latch.openUnsafe()
      }))
    )
  }

  /** Hands records to their partitions; gives what is to be done about those that failed. */
  #settle(
    partitions: ReadonlyArray<AssignedPartition>,
    metadata: ClusterMetadata,
    response: FetchResponse
  ): ReadonlyArray<Effect.Effect<void>> {
    const failures: Array<Effect.Effect<void>> = []
    // What has not changed is not in the answer
    const answered = new Set(partitions)
    const names = new Map(Array.from(metadata.topics, ([name, { id }]) => [id, name]))
    for (const topic of response.responses) {
      const name = names.get(topic.topicId)
      for (const answer of topic.partitions) {
        const partition = partitions.find((p) => p.topic === name && p.index === answer.partitionIndex)
        if (partition === undefined || partition.isRevoked) continue
        if (answer.errorCode === 0) {
          partition.readEpoch = partition.leaderEpoch
          appendFetched(partition, answer)
        } else {
          answered.delete(partition)
          failures.push(this.#partitionFailed(partition, answer.errorCode))
        }
      }
    }
    for (const partition of answered) {
      partition.failures = 0
      partition.unansweredSince = undefined
    }
    return failures
  }

  #partitionFailed(partition: AssignedPartition, code: number): Effect.Effect<void> {
    this.#delay(partition)
    switch (KafkaError.kindOfCode(code)) {
      case "outOfRange":
        return this.#outOfRange(partition)
      case "unauthorised":
        return Effect.sync(() =>
          this.#fail({ kind: "unauthorised", detail: `topic "${partition.topic}" may not be read`, cause: undefined })
        )
      default:
        this.#leaderFailed(partition)
        return Effect.void
    }
  }

  /** Another broker may lead it. */
  #leaderFailed(partition: AssignedPartition): void {
    this.#delay(partition)
    partition.awaitsLeader = true
    this.#isStale = true
    this.#options.answers.doubtMetadata()
  }

  /** Goes on at an offset that exists. */
  readonly #outOfRange = Effect.fnUntraced({ self: this }, function*(partition: AssignedPartition) {
    const { consumer, settings } = this.#options
    const { hold, index, position, topic } = partition
    const offsets = Effect.gen({ self: this }, function*() {
      const first = (yield* Offsets.edge(consumer, topic, [index], "earliest")).get(index)!
      const end = (yield* Offsets.edge(consumer, topic, [index], "latest")).get(index)!
      const leader = this.#metadata?.brokers.get(leaderOf(this.#metadata, partition) ?? -1)
      const common = position > end
        ? (yield* Offsets.commonEnds(consumer, leader, [partition])).get(partition)
        : undefined
      return { first, end, common }
    })
    const found = yield* Effect.result(offsets)
    if (Result.isFailure(found)) {
      return yield* Effect.logWarning(`Could not look up offsets of ${topic}/${index}`, found.failure.detail)
    }
    const { common, end, first } = found.success
    if (this.isOver || partition.isRevoked || position >= first && position <= end) return
    // A message that waits for a retry must not be skipped
    const outOfRange = hold === undefined ? settings.outOfRange : "nearest"
    const nearest = Math.max(first, Math.min(common ?? first, end))
    yield* this.#goOn(
      partition,
      outOfRange === "latest" ? end : outOfRange === "earliest" ? first : nearest,
      position < first
        ? `Partition ${topic}/${index} begins at ${first}: offsets ${position} to ${first - 1} were deleted before ` +
          "this group handled them"
        : `Partition ${topic}/${index} ends at ${end}, before offset ${position} at which this group continues: its ` +
          "log was cut off or made anew"
    )
  })

  #goOn(partition: AssignedPartition, position: number, why: string): Effect.Effect<void> {
    if (this.#options.settings.outOfRange === "fail" && partition.hold === undefined) {
      return Effect.sync(() => this.#fail({ kind: "outOfRange", detail: why, cause: undefined }))
    }
    partition.moveTo(position)
    return Effect.logError(`${why}. Going on from ${position}`)
  }

  readonly #refresh: Effect.Effect<void> = Effect.suspend(() =>
    promise(() => this.#options.consumer.metadata({ topics: [...this.#options.topics], forceUpdate: true, retries: 0 }))
  ).pipe(
    Effect.matchEffect({
      onSuccess: (metadata) => {
        for (const partition of this.#options.intake.partitions) {
          partition.awaitsLeader = false
          if (leaderOf(metadata, partition) === leaderOf(this.#metadata, partition)) continue
          // The failures were those of another broker
          partition.notBefore = 0
          partition.failures = 0
        }
        this.#metadata = metadata
        this.#metadataAt = this.#now()
        this.#isStale = false
        this.#unknownSince = undefined
        return Effect.andThen(this.#log.note(undefined, undefined), this.#options.onMetadata(metadata))
      },
      onFailure: (failure) => {
        if (failure.kind === "unauthorised") this.#fail(failure)
        if (failure.kind === "unknownTopic") {
          this.#unknownSince ??= this.#now()
          if (this.#now() - this.#unknownSince > unknownTopicPatience) this.#fail(failure)
        }
        return Effect.andThen(this.#log.note(undefined, failure), Effect.sleep(this.#options.settings.reconnectDelay))
      }
    }),
    Effect.ensuring(Effect.sync(() => {
      this.#isRefreshing = false
      this.latch.openUnsafe()
    }))
  )

  #delay(partition: AssignedPartition): number {
    partition.failures++
    const delay = this.#options.settings.reconnectDelay * 2 ** Math.min(partition.failures - 1, 5)
    return partition.notBefore = this.#now() + Math.min(maxDelay, delay)
  }

  #fail(failure: KafkaError.Failure): void {
    Deferred.doneUnsafe(this.failed, Exit.fail(failure))
  }
}

const leaderOf = (metadata: ClusterMetadata | undefined, { index, topic }: AssignedPartition): number | undefined =>
  metadata?.topics.get(topic)?.partitions[index]?.leader

const addTo = (
  byNode: Map<number, Array<AssignedPartition>>,
  node: number,
  partition: AssignedPartition
): void => {
  const partitions = byNode.get(node)
  if (partitions === undefined) byNode.set(node, [partition])
  else partitions.push(partition)
}

const fetchTopics = (
  partitions: ReadonlyArray<AssignedPartition>,
  metadata: ClusterMetadata,
  partitionMaxBytes: number
): Parameters<Consumer["fetch"]>[0]["topics"] => {
  const topics = new Map<string, Parameters<Consumer["fetch"]>[0]["topics"][number]>()
  for (const partition of partitions) {
    let topic = topics.get(partition.topic)
    if (topic === undefined) {
      topics.set(partition.topic, topic = { topicId: metadata.topics.get(partition.topic)!.id, partitions: [] })
    }
    topic.partitions.push({
      partition: partition.index,
      currentLeaderEpoch: partition.leaderEpoch,
      fetchOffset: BigInt(partition.position),
      lastFetchedEpoch: -1,
      partitionMaxBytes
    })
  }
  return [...topics.values()]
}
