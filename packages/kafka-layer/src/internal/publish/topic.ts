/** A topic that is published to: what is known of it, and which partition a message goes to. */
import * as MutableList from "effect/MutableList"
import * as KafkaError from "../errors.ts"
import { peek, shift } from "../queue.ts"
import type { Pending } from "./buffer.ts"
import { partitionOf } from "./murmur2.ts"
import { PartitionQueue } from "./partitionQueue.ts"
import type { Owner, Producer } from "./partitionQueue.ts"

/** How long a topic may be unknown before publishing to it fails: a new topic is not known everywhere at once. */
const unknownTopicPatience = 1_000

export class Topic implements Owner {
  readonly name: string
  readonly #producer: Producer
  #partitions: Array<PartitionQueue> = []
  #leaders: ReadonlyArray<number> = []
  /** Messages that came before the number of partitions was known. */
  readonly #unassigned = MutableList.make<Pending>()
  isLoading = false
  isStale = true
  /** No metadata are asked for before this time. */
  notBefore = 0
  #loadedAt = 0
  #unknownSince: number | undefined
  failure: KafkaError.Failure | undefined
  /** The partition of messages without a key, until a batch of it leaves. */
  #sticky = 0

  constructor(name: string, producer: Producer) {
    this.name = name
    this.#producer = producer
  }

  get partitions(): ReadonlyArray<PartitionQueue> {
    return this.#partitions
  }

  get hasUnassigned(): boolean {
    return this.#unassigned.length > 0
  }

  /** When the oldest message came for which no partition is known. */
  get unassignedSince(): number | undefined {
    return peek(this.#unassigned)?.since
  }

  leaderOf(partition: number): number {
    return this.#leaders[partition] ?? -1
  }

  isOutdated(now: number): boolean {
    return this.isStale || this.#loadedAt + this.#producer.settings.metadataMaxAge < now
  }

  dropSettled(): void {
    this.#producer.buffer.dropSettled(this.#unassigned)
  }

  /** Gives the partition that got the message, unless the partitions are not known yet. */
  assign(pending: Pending): PartitionQueue | undefined {
    if (this.#partitions.length > 0 && !this.hasUnassigned) return this.#assignTo(pending)
    MutableList.append(this.#unassigned, pending)
    return undefined
  }

  onKeylessBatch(partition: number): void {
    if (this.#sticky % this.#partitions.length === partition) {
      this.#sticky = (partition + 1) % this.#partitions.length
    }
  }

  /** Gives the partitions that got messages, and those that are gone. */
  loaded(leaders: ReadonlyArray<number>, now: number): {
    readonly fed: ReadonlySet<PartitionQueue>
    readonly lost: ReadonlyArray<PartitionQueue>
  } {
    this.isLoading = false
    this.isStale = false
    this.#unknownSince = undefined
    this.failure = undefined
    this.#loadedAt = now
    this.#leaders = leaders
    const lost = this.#partitions.splice(leaders.length)
    for (const partition of this.#partitions) partition.awaitsLeader = false
    for (let i = this.#partitions.length; i < leaders.length; i++) {
      this.#partitions.push(new PartitionQueue(this, i, this.#producer))
    }
    const fed = new Set<PartitionQueue>()
    for (let pending = shift(this.#unassigned); pending !== undefined; pending = shift(this.#unassigned)) {
      fed.add(this.#assignTo(pending))
    }
    return { fed, lost }
  }

  /** Whether the failure is final: nothing of the topic can be published. */
  loadFailed(failure: KafkaError.Failure, now: number): boolean {
    this.isLoading = false
    this.failure = failure
    this.notBefore = now + this.#producer.settings.retryDelay
    let isFinal = !KafkaError.isRetryable(failure.kind)
    if (failure.kind === "unknownTopic") {
      this.#unknownSince ??= now
      this.isStale = true
      isFinal = now - this.#unknownSince >= unknownTopicPatience
    }
    if (isFinal) {
      this.isStale = true
      this.notBefore = 0
      this.#unknownSince = undefined
      this.#producer.buffer.fail(MutableList.takeAll(this.#unassigned), KafkaError.publishReason(failure))
    }
    return isFinal
  }

  #assignTo(pending: Pending): PartitionQueue {
    const { key } = pending.record
    const count = this.#partitions.length
    const partition = this.#partitions[key === undefined ? this.#sticky % count : partitionOf(key, count)]!
    partition.push(pending)
    return partition
  }
}
