/**
 * Messages of one partition: what waits, what is in flight, what is sent again,
 * and under which sequence numbers.
 *
 * Order per key: a partition has one batch in flight at most; a batch that failed
 * and may be repeated goes again, with the same sequence numbers, before anything
 * behind it.
 */
import * as MutableList from "effect/MutableList"
import * as KafkaError from "../errors.ts"
import { peek } from "../queue.ts"
import type { PublisherSettings } from "../settings.ts"
import type { Pending, PublishBuffer } from "./buffer.ts"
import { encodeBatch } from "./recordBatch.ts"

/** Identity under which the broker recognises repetitions. */
export interface ProducerIdentity {
  readonly id: bigint
  readonly epoch: number
}

/** Records of one partition that travel together. */
export interface Batch {
  readonly partition: PartitionQueue
  readonly pendings: ReadonlyArray<Pending>
  readonly bytes: Uint8Array
  readonly identity: ProducerIdentity | undefined
  readonly sequence: number
  attempts: number
  /** An attempt ended without an answer: the broker may have it. */
  isUncertain: boolean
  failure: KafkaError.Failure | undefined
}

/** What a partition knows of its topic. */
export interface Owner {
  readonly name: string
  /** The broker of a partition; negative while there is none. */
  readonly leaderOf: (partition: number) => number
  /** Whether the metadata are known to be wrong. */
  isStale: boolean
  /** No metadata are asked for before this time. */
  notBefore: number
  /** Told when a batch with messages without a key leaves the partition. */
  readonly onKeylessBatch: (partition: number) => void
}

/** What all partitions of a publisher share. */
export interface Producer {
  readonly settings: PublisherSettings
  readonly buffer: PublishBuffer
  /** Undefined while there is none to publish under. */
  identity: ProducerIdentity | undefined
  /** Called when metadata have proved wrong. */
  readonly onStale: () => void
}

/** How many attempts a batch has when the broker does not know its sequence numbers. */
const maxProducerStates = 5

export class PartitionQueue {
  readonly topic: Owner
  readonly index: number
  readonly #producer: Producer
  readonly #waiting = MutableList.make<Pending>()
  inFlight: Batch | undefined
  retry: Batch | undefined
  /** No attempt before this time. */
  notBefore = 0
  /** No attempt before its topic's metadata have come: its leader has failed. Other partitions go on. */
  awaitsLeader = false
  #identity: ProducerIdentity | undefined
  #sequence = 0
  /** How many messages a batch may have: halved when the broker finds one too large, to find the culprit. */
  #limit: number

  constructor(topic: Owner, index: number, producer: Producer) {
    this.topic = topic
    this.index = index
    this.#producer = producer
    this.#limit = producer.settings.maxBatchMessages
  }

  get hasWork(): boolean {
    return this.#waiting.length > 0 || this.retry !== undefined
  }

  /** When the oldest message came that is not acknowledged, and why it is not, where that is known. */
  get oldest(): { readonly since: number; readonly failure: KafkaError.Failure | undefined } | undefined {
    const batch = this.inFlight ?? this.retry
    const pending = batch?.pendings[0] ?? peek(this.#waiting)
    return pending === undefined ? undefined : { since: pending.since, failure: batch?.failure }
  }

  push(pending: Pending): void {
    MutableList.append(this.#waiting, pending)
  }

  /** Drops messages whose calls are over, also of a batch that waits to go again. */
  dropSettled(): void {
    if (this.retry !== undefined && !isAlive(this.retry)) this.#takeRetry()
    this.#producer.buffer.dropSettled(this.#waiting)
  }

  /** When to look for something to send; undefined: not before something happens. */
  get nextAttempt(): number | undefined {
    if (this.inFlight !== undefined || this.awaitsLeader) return undefined
    if (this.retry !== undefined) return this.notBefore
    const { linger } = this.#producer.settings
    const head = peek(this.#waiting)
    return head === undefined || linger === 0 ? undefined : head.since + linger
  }

  /** Takes what may be sent now, of at most `max` messages; it is in flight from here on. */
  take(max: number, now: number): Batch | undefined {
    return this.inFlight = this.#takeRetry() ?? this.#takeWaiting(max, now)
  }

  succeeded(batch: Batch): void {
    const { buffer, settings } = this.#producer
    this.inFlight = undefined
    this.#limit = Math.min(settings.maxBatchMessages, this.#limit * 2)
    buffer.succeed(batch.pendings)
  }

  failed(batch: Batch, failure: KafkaError.Failure, isUncertain: boolean, now: number): void {
    this.inFlight = undefined
    batch.failure = failure
    batch.attempts++
    batch.isUncertain ||= isUncertain
    const { kind } = failure
    if (kind === "duplicate") return this.succeeded(batch)
    // A leader that does not answer may have been replaced as well
    if (kind === "stale" || kind === "unreachable" || kind === "timeout" || kind === "unknownTopic") {
      this.awaitsLeader = true
      this.topic.isStale = true
      this.#producer.onStale()
    }
    if (kind === "producerState" && batch.attempts < maxProducerStates) {
      this.#forget(batch)
      return this.#requeue(batch)
    }
    if ((kind === "tooLarge" || kind === "invalidRecord") && batch.pendings.length > 1) {
      this.#limit = Math.ceil(batch.pendings.length / 2)
      this.#sequence = batch.sequence
      return this.#requeue(batch)
    }
    if (isAlive(batch) && (KafkaError.isRetryable(kind) || kind === "unknownTopic")) {
      this.retry = batch
      this.notBefore = now + this.#backoff(batch.attempts)
      return
    }
    this.#withdraw(batch, batch.isUncertain || kind === "other")
    this.#producer.buffer.fail(batch.pendings, KafkaError.publishReason(failure))
  }

  /** Fails all that is not in flight. */
  failAll(failure: KafkaError.Failure): void {
    const { buffer } = this.#producer
    const reason = KafkaError.publishReason(failure)
    const { retry } = this
    this.retry = undefined
    if (retry !== undefined) {
      this.#withdraw(retry)
      buffer.fail(retry.pendings, reason)
    }
    buffer.fail(MutableList.takeAll(this.#waiting), reason)
  }

  // --- internal ---

  #takeRetry(): Batch | undefined {
    const { retry } = this
    this.retry = undefined
    // A batch that may have arrived is repeated as it was. Else messages whose calls are over are left out
    if (retry === undefined || (retry.isUncertain ? isAlive(retry) : isWhole(retry))) return retry
    this.#withdraw(retry)
    this.#requeue(retry)
    return undefined
  }

  #takeWaiting(max: number, now: number): Batch | undefined {
    const { buffer, identity, settings } = this.#producer
    this.dropSettled()
    const head = peek(this.#waiting)
    if (head === undefined || settings.idempotent && identity === undefined) return undefined
    const limit = Math.min(max, this.#limit)
    const isFull = this.#waiting.length >= limit
    if (!isFull && !buffer.isClosed && head.since + settings.linger > now) return undefined
    return this.#batchOf(this.#takePendings(limit))
  }

  #takePendings(limit: number): Array<Pending> {
    const { buffer, settings } = this.#producer
    const pendings: Array<Pending> = []
    let bytes = 0
    let hasKeyless = false
    while (pendings.length < limit) {
      const next = peek(this.#waiting)
      if (next === undefined || pendings.length > 0 && bytes + next.record.size > settings.maxBatchBytes) break
      MutableList.take(this.#waiting)
      if (next.publish.isSettled) {
        buffer.release([next])
        continue
      }
      hasKeyless ||= next.record.key === undefined
      pendings.push(next)
      bytes += next.record.size
    }
    if (hasKeyless) this.topic.onKeylessBatch(this.index)
    return pendings
  }

  #batchOf(pendings: ReadonlyArray<Pending>): Batch {
    const { identity, settings } = this.#producer
    if (this.#identity !== identity) {
      this.#identity = identity
      this.#sequence = 0
    }
    const sequence = this.#sequence
    this.#sequence = (sequence + pendings.length) % 2 ** 31
    return {
      partition: this,
      pendings,
      bytes: encodeBatch(pendings.map(({ record }) => record), {
        compression: settings.compression,
        producerId: identity?.id ?? -1n,
        producerEpoch: identity?.epoch ?? -1,
        firstSequence: identity === undefined ? -1 : sequence
      }),
      identity,
      sequence,
      attempts: 0,
      isUncertain: false,
      failure: undefined
    }
  }

  #requeue(batch: Batch): void {
    MutableList.prependAllUnsafe(this.#waiting, batch.pendings)
  }

  /** A batch is not sent again. Its sequence numbers are free, unless the broker may have used them. */
  #withdraw(batch: Batch, isUsed = batch.isUncertain): void {
    if (isUsed) this.#forget(batch)
    else this.#sequence = batch.sequence
  }

  /** A new identity for what follows: batches in flight keep theirs. */
  #forget(batch: Batch): void {
    if (this.#producer.identity === batch.identity) this.#producer.identity = undefined
  }

  #backoff(attempts: number): number {
    return Math.min(1_000, this.#producer.settings.retryDelay * 2 ** Math.min(attempts - 1, 4))
  }
}

/** Whether a call waits for any of its messages. */
const isAlive = (batch: Batch): boolean => batch.pendings.some(({ publish }) => !publish.isSettled)

/** Whether calls wait for all of its messages. */
const isWhole = (batch: Batch): boolean => batch.pendings.every(({ publish }) => !publish.isSettled)
