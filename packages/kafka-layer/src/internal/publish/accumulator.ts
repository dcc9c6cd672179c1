/**
 * Messages between `publish` and the acknowledgement of the broker: which wait
 * where, what may be sent, and whose call is over. Pure bookkeeping: requests
 * are made by `sender.ts`.
 *
 * Order per key: a partition has one batch on its way at most; a batch that
 * failed and may be repeated goes again, with the same sequence numbers, before
 * anything behind it.
 */
import * as Broker from "@event-flow/core/Broker"
import type * as Message from "@event-flow/core/Message"
import * as Effect from "effect/Effect"
import { Deque } from "../deque.ts"
import * as KafkaError from "../errors.ts"
import type { PublisherSettings } from "../settings.ts"
import { partitionOf } from "./murmur2.ts"
import { encodeBatch, encodeRecord } from "./recordBatch.ts"
import type { EncodedRecord } from "./recordBatch.ts"

/** One call of `publish`. */
export interface Publish {
  readonly messages: ReadonlyArray<Message.Message>
  readonly deadline: number
  readonly resume: (result: Effect.Effect<void, Broker.PublishError>) => void
  /** Messages that are not acknowledged. */
  remaining: number
  isSettled: boolean
  /** Messages and bytes that are held by the buffer; none while it waits to be let in. */
  isAdmitted: boolean
}

interface Pending {
  readonly publish: Publish
  readonly message: Message.Message
  readonly record: EncodedRecord
  readonly since: number
}

/** Identity under which the broker recognises repetitions. */
export interface ProducerIdentity {
  readonly id: bigint
  readonly epoch: number
}

/** Records of one partition that travel together. */
export interface Batch {
  readonly partition: Partition
  readonly pendings: ReadonlyArray<Pending>
  readonly bytes: Uint8Array
  readonly identity: ProducerIdentity | undefined
  readonly sequence: number
  attempts: number
  /** An attempt ended without an answer: the broker may have it. */
  isUncertain: boolean
  failure: KafkaError.Failure | undefined
}

/** A request to one broker. */
export interface Request {
  readonly node: number
  readonly batches: Array<Batch>
  messages: number
}

export class Partition {
  readonly topic: Topic
  readonly index: number
  readonly waiting: Deque<Pending> = new Deque()
  inFlight: Batch | undefined
  retry: Batch | undefined
  /** No attempt before this time. */
  notBefore = 0
  identity: ProducerIdentity | undefined
  sequence = 0
  /** How many messages a batch may have: halved when the broker finds one too large, to find the culprit. */
  limit: number
  constructor(topic: Topic, index: number, limit: number) {
    this.topic = topic
    this.index = index
    this.limit = limit
  }
}

export class Topic {
  readonly name: string
  partitions: Array<Partition> = []
  leaders: Array<number> = []
  /** Arrived before the number of partitions was known. */
  readonly unassigned: Deque<Pending> = new Deque()
  isLoading = false
  isStale = true
  loadedAt = 0
  notBefore = 0
  unknownSince: number | undefined
  failure: KafkaError.Failure | undefined
  /** The partition of messages without a key, until a batch of it leaves. */
  sticky = 0
  constructor(name: string) {
    this.name = name
  }
}

/** How long a topic that the broker does not know may take to appear: news of a creation travels. */
const unknownTopicPatience = 1_000

export class Accumulator {
  readonly #settings: PublisherSettings
  readonly #now: () => number
  readonly #wake: () => void
  readonly #topics = new Map<string, Topic>()
  /** Partitions with something to send. */
  readonly #active = new Set<Partition>()
  /** Calls that are not over, in the order of their deadlines. */
  readonly #calls = new Set<Publish>()
  /** Calls that wait for room. */
  readonly #outside: Deque<Publish> = new Deque()
  readonly #inFlight = new Map<number, number>()
  readonly #idle = new Set<() => void>()
  #messages = 0
  #bytes = 0
  #isClosed = false
  identity: ProducerIdentity | undefined
  /** The latest failure that was nobody's in particular. */
  failure: KafkaError.Failure | undefined

  constructor(settings: PublisherSettings, now: () => number, wake: () => void) {
    this.#settings = settings
    this.#now = now
    this.#wake = wake
  }

  get isIdle(): boolean {
    return this.#messages === 0 && this.#outside.length === 0
  }

  // --- callers ---

  offer(messages: ReadonlyArray<Message.Message>, resume: Publish["resume"]): Publish | undefined {
    if (this.#isClosed) {
      resume(Effect.fail(Broker.publishError(messages[0]!, new Broker.Closed({ detail: "the layer is closing" }))))
      return undefined
    }
    const publish: Publish = {
      messages,
      deadline: this.#now() + this.#settings.publishTimeout,
      resume,
      remaining: messages.length,
      isSettled: false,
      isAdmitted: false
    }
    this.#calls.add(publish)
    if (this.#outside.length > 0 || !this.#hasRoom()) this.#outside.push(publish)
    else this.#admit(publish)
    return publish
  }

  /** The caller was interrupted: what has not left is not sent. */
  cancel(publish: Publish): void {
    publish.isSettled = true
    this.#calls.delete(publish)
    this.#wake()
  }

  /** Refuses new calls and stops waiting for company. */
  close(): void {
    this.#isClosed = true
    this.#wake()
  }

  /** Fails what is left. */
  abort(): void {
    for (const publish of this.#calls) {
      this.#settle(publish, publish.messages[0]!, new Broker.Closed({ detail: "the layer closed before it was sent" }))
    }
  }

  onIdle(listener: () => void): () => void {
    this.#idle.add(listener)
    return () => this.#idle.delete(listener)
  }

  // --- the sender ---

  /** Fails calls whose time is over. */
  expire(): void {
    const now = this.#now()
    for (const publish of this.#calls) {
      if (publish.deadline > now) break
      this.#settle(publish, publish.messages[0]!, this.#expired(publish))
    }
    for (const partition of this.#active) this.#dropSettled(partition.waiting)
    for (const topic of this.#topics.values()) this.#dropSettled(topic.unassigned)
    this.#admitWaiting()
  }

  /** Topics whose metadata are wanted now. */
  *topicsToLoad(): IterableIterator<Topic> {
    const now = this.#now()
    for (const topic of this.#topics.values()) {
      if (topic.isLoading || topic.notBefore > now) continue
      const isWanted = topic.unassigned.length > 0 || topic.partitions.some((partition) => this.#active.has(partition))
      if (isWanted && (topic.isStale || topic.loadedAt + this.#settings.metadataMaxAge < now)) yield topic
    }
  }

  get hasWork(): boolean {
    return this.#active.size > 0
  }

  /** What may be sent now, as requests; it is in flight from here on. */
  collect(): ReadonlyArray<Request> {
    const requests: Array<Request> = []
    const open = new Map<number, Request>()
    const now = this.#now()
    for (const partition of this.#active) {
      if (partition.inFlight !== undefined || partition.notBefore > now || partition.topic.isStale) continue
      const node = partition.topic.leaders[partition.index] ?? -1
      if (node < 0) {
        // An election: ask again in a moment
        partition.topic.isStale = true
        partition.topic.notBefore = now + this.#settings.retryDelay
        this.#wake()
        continue
      }
      let request = open.get(node)
      if (request !== undefined && request.messages >= this.#settings.maxBatchMessages) request = undefined
      if (request === undefined && (this.#inFlight.get(node) ?? 0) >= this.#settings.maxInFlight) continue
      const batch = this.#take(partition, this.#settings.maxBatchMessages - (request?.messages ?? 0), now)
      if (batch === undefined) continue
      if (request === undefined) {
        request = { node, batches: [], messages: 0 }
        open.set(node, request)
        requests.push(request)
        this.#inFlight.set(node, (this.#inFlight.get(node) ?? 0) + 1)
      }
      partition.inFlight = batch
      request.batches.push(batch)
      request.messages += batch.pendings.length
    }
    // Those that were served queue up behind the others
    for (const request of requests) {
      for (const { partition } of request.batches) {
        this.#active.delete(partition)
        this.#active.add(partition)
      }
    }
    return requests
  }

  /** When to look again though nobody calls; undefined: when something happens. */
  nextWake(): number | undefined {
    let next: number | undefined
    for (const { deadline } of this.#calls) {
      next = deadline
      break
    }
    const consider = (time: number) => {
      if (next === undefined || time < next) next = time
    }
    for (const topic of this.#topics.values()) {
      if (topic.isStale && !topic.isLoading && topic.notBefore > 0) consider(topic.notBefore)
    }
    for (const partition of this.#active) {
      if (partition.inFlight !== undefined) continue
      if (partition.retry !== undefined) consider(partition.notBefore)
      else {
        const head = partition.waiting.peek()
        if (head !== undefined && this.#settings.linger > 0) consider(head.since + this.#settings.linger)
      }
    }
    return next === undefined ? undefined : Math.max(0, next - this.#now())
  }

  requestEnded(request: Request): void {
    this.#inFlight.set(request.node, (this.#inFlight.get(request.node) ?? 1) - 1)
    this.#wake()
  }

  succeeded(batch: Batch): void {
    const { partition } = batch
    partition.inFlight = undefined
    partition.limit = Math.min(this.#settings.maxBatchMessages, partition.limit * 2)
    this.#release(batch.pendings)
    for (const { publish } of batch.pendings) {
      if (--publish.remaining === 0 && !publish.isSettled) {
        publish.isSettled = true
        this.#calls.delete(publish)
        publish.resume(Effect.void)
      }
    }
    this.#rest(partition)
  }

  failed(batch: Batch, failure: KafkaError.Failure, isUncertain: boolean): void {
    const { partition } = batch
    partition.inFlight = undefined
    batch.failure = failure
    batch.attempts++
    batch.isUncertain ||= isUncertain
    if (failure.kind === "duplicate") return this.succeeded(batch)
    if (failure.kind === "stale" || failure.kind === "unreachable" || failure.kind === "unknownTopic") {
      partition.topic.isStale = true
    }
    if (failure.kind === "producerState" && batch.attempts < 5) {
      this.#forget(batch)
      return this.#requeue(batch)
    }
    if ((failure.kind === "tooLarge" || failure.kind === "invalidRecord") && batch.pendings.length > 1) {
      partition.limit = Math.ceil(batch.pendings.length / 2)
      partition.sequence = batch.sequence
      return this.#requeue(batch)
    }
    const isAlive = batch.pendings.some(({ publish }) => !publish.isSettled)
    if (isAlive && (KafkaError.isRetryable(failure.kind) || failure.kind === "unknownTopic")) {
      partition.retry = batch
      partition.notBefore = this.#now() + this.#backoff(batch.attempts)
      return
    }
    // Nobody knows whether these sequence numbers were used
    if (batch.isUncertain || failure.kind === "other") this.#forget(batch)
    else partition.sequence = batch.sequence
    this.#fail(batch.pendings, failure)
    this.#rest(partition)
  }

  loaded(topic: Topic, leaders: ReadonlyArray<number>): void {
    topic.isLoading = false
    topic.isStale = false
    topic.unknownSince = undefined
    topic.failure = undefined
    topic.loadedAt = this.#now()
    topic.leaders = [...leaders]
    for (const lost of topic.partitions.splice(leaders.length)) {
      this.#failPartition(lost, {
        kind: "unknownTopic",
        detail: `topic "${topic.name}" has fewer partitions than before`,
        cause: undefined
      })
    }
    for (let i = topic.partitions.length; i < leaders.length; i++) {
      topic.partitions.push(new Partition(topic, i, this.#settings.maxBatchMessages))
    }
    for (let pending = topic.unassigned.shift(); pending !== undefined; pending = topic.unassigned.shift()) {
      this.#assign(topic, pending)
    }
    this.#wake()
  }

  loadFailed(topic: Topic, failure: KafkaError.Failure): void {
    const now = this.#now()
    topic.isLoading = false
    topic.failure = failure
    topic.notBefore = now + this.#settings.retryDelay
    let isFinal = !KafkaError.isRetryable(failure.kind)
    if (failure.kind === "unknownTopic") {
      topic.unknownSince ??= now
      isFinal = now - topic.unknownSince >= unknownTopicPatience
    }
    if (isFinal) {
      topic.isStale = true
      topic.notBefore = 0
      topic.unknownSince = undefined
      const waiting = [...topic.unassigned]
      topic.unassigned.clear()
      this.#fail(waiting, failure)
      for (const partition of topic.partitions) this.#failPartition(partition, failure)
    } else {
      topic.isStale = topic.isStale || failure.kind === "unknownTopic"
    }
    this.#wake()
  }

  // --- internal ---

  #hasRoom(): boolean {
    return this.#messages < this.#settings.maxBufferedMessages && this.#bytes < this.#settings.maxBufferedBytes
  }

  #admitWaiting(): void {
    while (this.#outside.length > 0 && (this.#outside.peek()!.isSettled || this.#hasRoom())) {
      const publish = this.#outside.shift()!
      if (!publish.isSettled) this.#admit(publish)
    }
    this.#checkIdle()
  }

  #admit(publish: Publish): void {
    publish.isAdmitted = true
    const since = this.#now()
    for (const message of publish.messages) {
      const record = encodeRecord(message, since)
      const pending: Pending = { publish, message, record, since }
      this.#messages++
      this.#bytes += record.size
      const topic = this.#topic(message.topic)
      if (topic.partitions.length === 0 || topic.unassigned.length > 0) topic.unassigned.push(pending)
      else this.#assign(topic, pending)
    }
    this.#wake()
  }

  #topic(name: string): Topic {
    let topic = this.#topics.get(name)
    if (topic === undefined) this.#topics.set(name, topic = new Topic(name))
    return topic
  }

  #assign(topic: Topic, pending: Pending): void {
    const { key } = pending.record
    const index = key === undefined
      ? topic.sticky % topic.partitions.length
      : partitionOf(key, topic.partitions.length)
    const partition = topic.partitions[index]!
    partition.waiting.push(pending)
    this.#active.add(partition)
  }

  #take(partition: Partition, max: number, now: number): Batch | undefined {
    const retry = partition.retry
    if (retry !== undefined) {
      partition.retry = undefined
      if (retry.pendings.some(({ publish }) => !publish.isSettled)) return retry
      if (retry.isUncertain) this.#forget(retry)
      else partition.sequence = retry.sequence
      this.#release(retry.pendings)
    }
    const { waiting } = partition
    this.#dropSettled(waiting)
    const head = waiting.peek()
    if (head === undefined) {
      this.#active.delete(partition)
      return undefined
    }
    if (this.#settings.idempotent && this.identity === undefined) return undefined
    const limit = Math.min(max, partition.limit)
    const isFull = waiting.length >= limit
    if (!isFull && !this.#isClosed && head.since + this.#settings.linger > now) return undefined
    const pendings: Array<Pending> = []
    const records: Array<EncodedRecord> = []
    let bytes = 0
    while (pendings.length < limit) {
      const next = waiting.peek()
      if (next === undefined || pendings.length > 0 && bytes + next.record.size > this.#settings.maxBatchBytes) break
      waiting.shift()
      if (next.publish.isSettled) {
        this.#release([next])
        continue
      }
      if (
        next.record.key === undefined && partition.topic.sticky % partition.topic.partitions.length === partition.index
      ) {
        partition.topic.sticky = (partition.index + 1) % partition.topic.partitions.length
      }
      pendings.push(next)
      records.push(next.record)
      bytes += next.record.size
    }
    if (partition.identity !== this.identity) {
      partition.identity = this.identity
      partition.sequence = 0
    }
    const sequence = partition.sequence
    partition.sequence = (sequence + records.length) % 2 ** 31
    return {
      partition,
      pendings,
      bytes: encodeBatch(records, {
        compression: this.#settings.compression,
        producerId: this.identity?.id ?? -1n,
        producerEpoch: this.identity?.epoch ?? -1,
        firstSequence: this.identity === undefined ? -1 : sequence
      }),
      identity: this.identity,
      sequence,
      attempts: 0,
      isUncertain: false,
      failure: undefined
    }
  }

  /** A new identity for what follows: batches on their way keep theirs. */
  #forget(batch: Batch): void {
    if (this.identity === batch.identity) this.identity = undefined
  }

  #requeue(batch: Batch): void {
    batch.partition.waiting.unshift(batch.pendings)
    this.#active.add(batch.partition)
    this.#wake()
  }

  #backoff(attempts: number): number {
    return Math.min(1_000, this.#settings.retryDelay * 2 ** Math.min(attempts - 1, 4))
  }

  #rest(partition: Partition): void {
    if (partition.waiting.length === 0 && partition.retry === undefined) this.#active.delete(partition)
    this.#admitWaiting()
  }

  #failPartition(partition: Partition, failure: KafkaError.Failure): void {
    const { retry } = partition
    partition.retry = undefined
    if (retry !== undefined) {
      if (retry.isUncertain) this.#forget(retry)
      this.#fail(retry.pendings, failure)
    }
    const waiting = [...partition.waiting]
    partition.waiting.clear()
    this.#fail(waiting, failure)
    if (partition.inFlight === undefined) this.#active.delete(partition)
  }

  #fail(pendings: ReadonlyArray<Pending>, failure: KafkaError.Failure): void {
    this.#release(pendings)
    for (const { message, publish } of pendings) this.#settle(publish, message, KafkaError.publishReason(failure))
    this.#admitWaiting()
  }

  #settle(publish: Publish, message: Message.Message, reason: Broker.PublishReason): void {
    if (publish.isSettled) return
    publish.isSettled = true
    this.#calls.delete(publish)
    publish.resume(Effect.fail(Broker.publishError(message, reason)))
  }

  #expired(publish: Publish): Broker.PublishReason {
    const after = `not acknowledged within ${this.#settings.publishTimeout} ms`
    if (!publish.isAdmitted) return new Broker.Timeout({ detail: `${after}: the buffer was full all the time` })
    const batch = this.#batchOf(publish)
    const failure = batch?.failure ?? this.#topics.get(publish.messages[0]!.topic)?.failure ?? this.failure
    const isUnsent = batch === undefined || !batch.isUncertain && batch.partition.inFlight !== batch
    return isUnsent && failure !== undefined && KafkaError.isRetryable(failure.kind)
      ? new Broker.Unreachable({ detail: `${after}: ${failure.detail}`, cause: failure.cause })
      : new Broker.Timeout({
        detail: failure === undefined ? after : `${after}: ${failure.detail}`,
        ...(failure?.cause === undefined ? undefined : { cause: failure.cause })
      })
  }

  #batchOf(publish: Publish): Batch | undefined {
    for (const partition of this.#active) {
      for (const batch of [partition.inFlight, partition.retry]) {
        if (batch?.pendings.some((pending) => pending.publish === publish)) return batch
      }
    }
    return undefined
  }

  #dropSettled(queue: Deque<Pending>): void {
    for (let head = queue.peek(); head?.publish.isSettled === true; head = queue.peek()) {
      queue.shift()
      this.#release([head])
    }
  }

  #release(pendings: ReadonlyArray<Pending>): void {
    this.#messages -= pendings.length
    for (const { record } of pendings) this.#bytes -= record.size
  }

  #checkIdle(): void {
    if (this.isIdle) { for (const listener of this.#idle) listener() }
  }
}
