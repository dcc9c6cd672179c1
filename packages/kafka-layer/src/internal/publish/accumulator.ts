/**
 * Messages between `publish` and the acknowledgement of the broker: which wait
 * where, and what may be sent. Pure bookkeeping: requests are made by
 * `sender.ts`. The callers' side is the `PublishBuffer`.
 */
import * as Broker from "@event-flow/core/Broker"
import * as KafkaError from "../errors.ts"
import type { PublisherSettings } from "../settings.ts"
import { PublishBuffer } from "./buffer.ts"
import type { Pending, Publish } from "./buffer.ts"
import type { Batch, PartitionQueue, Producer, ProducerIdentity } from "./partitionQueue.ts"
import { Topic } from "./topic.ts"

/** A request to one broker. */
export interface Request {
  readonly node: number
  readonly batches: Array<Batch>
  messages: number
}

export interface Options {
  readonly now: () => number
  /** Called when there may be something to do. */
  readonly wake: () => void
  /** Called when metadata have proved wrong. */
  readonly onStale: () => void
}

export class Accumulator implements Producer {
  readonly settings: PublisherSettings
  readonly buffer: PublishBuffer
  readonly #now: () => number
  readonly #wake: () => void
  readonly onStale: () => void
  readonly #topics = new Map<string, Topic>()
  /** Partitions with something to send, or in flight. */
  readonly #active = new Set<PartitionQueue>()
  /** How many requests are in flight to a broker. */
  readonly #inFlight = new Map<number, number>()
  identity: ProducerIdentity | undefined
  /** The latest failure that concerned no topic in particular. */
  failure: KafkaError.Failure | undefined

  constructor(settings: PublisherSettings, { now, onStale, wake }: Options) {
    this.settings = settings
    this.#now = now
    this.#wake = wake
    this.onStale = onStale
    this.buffer = new PublishBuffer({
      settings,
      now,
      wake,
      accept: (pending) => this.#accept(pending),
      whyExpired: (publish) => this.#whyExpired(publish)
    })
  }

  get hasWork(): boolean {
    return this.#active.size > 0
  }

  /** Fails calls whose time is over, and lets others in. */
  expire(): void {
    this.buffer.expire()
    for (const partition of this.#active) {
      partition.dropSettled()
      this.#rest(partition)
    }
    for (const topic of this.#topics.values()) topic.dropSettled()
    this.buffer.admitWaiting()
  }

  /** How long to wait before looking again, in milliseconds; undefined: until something happens. */
  nextWake(): number | undefined {
    let next = this.buffer.nextDeadline
    const consider = (time: number | undefined) => {
      if (time !== undefined && (next === undefined || time < next)) next = time
    }
    for (const topic of this.#topics.values()) {
      if (topic.isStale && !topic.isLoading && topic.notBefore > 0) consider(topic.notBefore)
    }
    for (const partition of this.#active) consider(partition.nextAttempt)
    return next === undefined ? undefined : Math.max(0, next - this.#now())
  }

  /** Which messages the brokers leave without an acknowledgement for too long; undefined: none. */
  trouble(): string | undefined {
    const { publishTimeout, requestTimeout } = this.settings
    // Before they fail and are no more
    const since = this.#now() - Math.min(requestTimeout, publishTimeout / 2)
    const describe = (where: string, failure: KafkaError.Failure | undefined) =>
      failure === undefined ? `no broker answers for ${where}` : `no broker answers for ${where}: ${failure.detail}`
    for (const topic of this.#topics.values()) {
      if ((topic.unassignedSince ?? since) < since) return describe(topic.name, topic.failure)
    }
    for (const partition of this.#active) {
      const { oldest, topic } = partition
      if (oldest !== undefined && oldest.since < since) {
        return describe(`${topic.name}/${partition.index}`, oldest.failure)
      }
    }
    return undefined
  }

  // --- metadata ---

  /** Topics whose metadata are wanted now. */
  *topicsToLoad(): IterableIterator<Topic> {
    const now = this.#now()
    for (const topic of this.#topics.values()) {
      if (topic.isLoading || topic.notBefore > now || !topic.isOutdated(now)) continue
      if (topic.hasUnassigned || topic.partitions.some((partition) => this.#active.has(partition))) yield topic
    }
  }

  loaded(topic: Topic, leaders: ReadonlyArray<number>): void {
    const { fed, lost } = topic.loaded(leaders, this.#now())
    for (const partition of fed) this.#active.add(partition)
    const detail = `topic "${topic.name}" has fewer partitions than before`
    for (const partition of lost) this.#failAll(partition, { kind: "unknownTopic", detail, cause: undefined })
    this.#wake()
  }

  loadFailed(topic: Topic, failure: KafkaError.Failure): void {
    if (topic.loadFailed(failure, this.#now())) {
      for (const partition of topic.partitions) this.#failAll(partition, failure)
    }
    this.#wake()
  }

  // --- requests ---

  /** What may be sent now, as requests; it is in flight from here on. */
  collect(): ReadonlyArray<Request> {
    const requests: Array<Request> = []
    const open = new Map<number, Request>()
    const now = this.#now()
    for (const partition of this.#active) {
      if (partition.inFlight !== undefined || partition.notBefore > now || partition.awaitsLeader) continue
      const node = partition.topic.leaderOf(partition.index)
      if (node < 0) {
        // The partition has no leader yet: ask again in a moment
        partition.awaitsLeader = true
        partition.topic.isStale = true
        partition.topic.notBefore = now + this.settings.retryDelay
        this.#wake()
        continue
      }
      let request = open.get(node)
      if (request !== undefined && request.messages >= this.settings.maxBatchMessages) request = undefined
      if (request === undefined && (this.#inFlight.get(node) ?? 0) >= this.settings.maxInFlight) continue
      const batch = partition.take(this.settings.maxBatchMessages - (request?.messages ?? 0), now)
      if (batch === undefined) {
        if (!partition.hasWork) this.#active.delete(partition)
        continue
      }
      if (request === undefined) {
        request = { node, batches: [], messages: 0 }
        open.set(node, request)
        requests.push(request)
        this.#inFlight.set(node, (this.#inFlight.get(node) ?? 0) + 1)
      }
      request.batches.push(batch)
      request.messages += batch.pendings.length
    }
    // Partitions that were served go behind the others
    for (const request of requests) {
      for (const { partition } of request.batches) {
        this.#active.delete(partition)
        this.#active.add(partition)
      }
    }
    return requests
  }

  requestEnded(request: Request): void {
    this.#inFlight.set(request.node, (this.#inFlight.get(request.node) ?? 1) - 1)
    this.#wake()
  }

  succeeded(batch: Batch): void {
    batch.partition.succeeded(batch)
    this.#rest(batch.partition)
  }

  /** The broker has answered that it failed. */
  refused(batch: Batch, failure: KafkaError.Failure): void {
    this.failed(batch, failure, KafkaError.mayBeWritten(failure.kind))
  }

  /** `isUncertain`: there was no answer, and the broker may have it. */
  failed(batch: Batch, failure: KafkaError.Failure, isUncertain: boolean): void {
    batch.partition.failed(batch, failure, isUncertain, this.#now())
    this.#rest(batch.partition)
    this.#wake()
  }

  // --- internal ---

  #accept(pending: Pending): void {
    const name = pending.message.topic
    let topic = this.#topics.get(name)
    if (topic === undefined) this.#topics.set(name, topic = new Topic(name, this))
    const partition = topic.assign(pending)
    if (partition !== undefined) this.#active.add(partition)
  }

  #rest(partition: PartitionQueue): void {
    if (partition.inFlight === undefined && !partition.hasWork) this.#active.delete(partition)
  }

  #failAll(partition: PartitionQueue, failure: KafkaError.Failure): void {
    partition.failAll(failure)
    this.#rest(partition)
  }

  #whyExpired(publish: Publish): Broker.PublishReason {
    const after = `not acknowledged within ${this.settings.publishTimeout} ms`
    const batches = this.#batchesOf(publish)
    const failure = batches.find(({ failure }) => failure !== undefined)?.failure ??
      this.#topics.get(publish.messages[0]!.topic)?.failure ?? this.failure
    // Said of all its messages
    const isUnsent = publish.remaining === publish.messages.length &&
      batches.every((batch) => !batch.isUncertain && batch.partition.inFlight !== batch)
    return isUnsent && failure !== undefined && KafkaError.isRetryable(failure.kind)
      ? new Broker.Unreachable({ detail: `${after}: ${failure.detail}`, cause: failure.cause })
      : new Broker.Timeout({
        detail: failure === undefined ? after : `${after}: ${failure.detail}`,
        ...(failure?.cause === undefined ? undefined : { cause: failure.cause })
      })
  }

  #batchesOf(publish: Publish): ReadonlyArray<Batch> {
    const batches: Array<Batch> = []
    for (const partition of this.#active) {
      for (const batch of [partition.inFlight, partition.retry]) {
        if (batch?.pendings.some((pending) => pending.publish === publish)) batches.push(batch)
      }
    }
    return batches
  }
}
