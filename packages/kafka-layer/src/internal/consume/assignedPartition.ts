/**
 * One partition of a consumer, from its assignment to its revocation: what was
 * fetched, what was delivered, what is done. Pure bookkeeping.
 *
 * Offsets have gaps (compaction, control records), so positions are compared and
 * never counted. They are numbers here: exact up to 2^53.
 */
import type * as Message from "@event-flow/core/Message"
import type * as Subscriber from "@event-flow/core/Subscriber"
import * as Effect from "effect/Effect"
import * as MutableList from "effect/MutableList"
import { KafkaMessage } from "../message.ts"
import { peek, shift } from "../queue.ts"
import type { Hold } from "../retry/hold.ts"
import { latin1 } from "../text.ts"
import type { FetchedRecord } from "./recordReader.ts"

/** A record and its place in the partition. */
export class Slot {
  readonly partition: AssignedPartition
  readonly offset: number
  record: FetchedRecord | undefined
  attempt = 0
  isDone = false
  /** Its place in the log is gone: it is not delivered again. */
  isGone = false
  /** The delivery that counts; acknowledgements of earlier ones are ignored. */
  current: Delivery | undefined = undefined

  constructor(partition: AssignedPartition, offset: number, record: FetchedRecord) {
    this.partition = partition
    this.offset = offset
    this.record = record
  }

  /** Only while it is not done. */
  get lane(): string | undefined {
    return laneOf(this.partition, this.record!)
  }
}

export class Delivery implements Subscriber.Delivery {
  readonly #slot: Slot
  /** Kept here because the slot forgets it when it is done. */
  readonly #record: FetchedRecord
  readonly message: Message.Message
  readonly attempt: number
  /** Where a message of a retry topic came from. */
  readonly #origin: Readonly<Record<string, string>> | undefined

  constructor(slot: Slot, record: FetchedRecord) {
    this.#slot = slot
    this.#record = record
    this.attempt = slot.attempt
    const { hold, topic } = slot.partition
    if (hold === undefined) {
      this.message = new KafkaMessage(topic, record)
    } else {
      const restored = hold.restore(record, placeOf(slot))
      this.message = restored.message
      this.#origin = restored.origin
    }
  }

  get origin(): Readonly<Record<string, string>> {
    return this.#origin ?? placeOf(this.#slot)
  }

  get lane(): string | undefined {
    return laneOf(this.#slot.partition, this.#record)
  }

  get ack(): Effect.Effect<void> {
    return Effect.sync(() => this.#slot.partition.settle(this.#slot, this))
  }

  get nack(): Effect.Effect<void> {
    return Effect.sync(() => this.#slot.partition.giveBack(this.#slot, this))
  }

  isRevoked(): boolean {
    return this.#slot.current !== this || this.#slot.partition.isTaken(this.#slot)
  }
}

const placeOf = ({ offset, partition }: Slot): Readonly<Record<string, string>> => ({
  topic: partition.topic,
  partition: String(partition.index),
  offset: String(offset)
})

/** With the bytes of the key, each as a character. */
const laneOf = ({ lanePrefix }: AssignedPartition, record: FetchedRecord): string | undefined => {
  const { buffer, keyEnd, keyStart } = record
  return keyEnd < 0 ? undefined : lanePrefix + latin1(buffer, keyStart, keyEnd)
}

/** The listener of a partition. */
export interface Owner {
  /** A delivery was acknowledged or given back. */
  readonly onReturned: (partition: AssignedPartition, isDone: boolean) => void
  /** A lane waits: call `release` after the redelivery delay. */
  readonly onBlocked: (partition: AssignedPartition, lane: string | Slot) => void
}

export interface Limits {
  readonly maxBuffered: number
  readonly maxUncommitted: number
  /** How long a fetch may go without an answer before the partition counts as one that cannot be read. */
  readonly patience: number
}

/** Where a partition begins for the group. */
export interface Start {
  readonly position: number
  /** What the group has committed of this topic; -1 for nothing. */
  readonly committed: number
  /** The leader's epoch when the group read up to here; -1 where it is unknown. */
  readonly epoch: number
  readonly topicId: string
  /** Goes with each commit. */
  readonly commitMetadata: string
}

export class AssignedPartition {
  readonly topic: string
  readonly topicId: string
  readonly index: number
  readonly lanePrefix: string
  readonly commitMetadata: string
  /** For a retry topic: messages that were fetched wait until they are due. */
  readonly hold: Hold | undefined
  readonly #owner: Owner
  readonly #limits: Limits
  /** Fetched and not taken. */
  readonly #buffered = MutableList.make<Slot>()
  /** Taken, in the order of offsets, from the first that is not done. */
  readonly #window = MutableList.make<Slot>()
  /** Given back and to be delivered again, before anything buffered. */
  readonly #again = MutableList.make<Slot>()
  /** Lanes that wait for a redelivery, with everything of theirs; a slot without a lane waits for itself. */
  readonly #blocked = new Map<string | Slot, Array<Slot>>()
  #highestDone = -1
  #revokeLimit: number | undefined
  #isGone = false
  /** The offset to fetch next. */
  position: number
  leaderEpoch = -1
  /** The leader's epoch when records up to the position were read. */
  readEpoch: number
  /** The topic was deleted and created again: nothing more of it is fetched or committed under this assignment. */
  isReplaced = false
  /** The end of the partition as of the last fetch. */
  highWatermark: number | undefined
  /** What the group has committed. */
  committed: number
  /** Deliveries that are neither acknowledged nor given back. */
  outstanding = 0
  /** No fetch before this time. */
  notBefore = 0
  /** No fetch before metadata have come: its leader has failed. */
  awaitsLeader = false
  /** Since when it should be fetched and no broker has answered for it. */
  unansweredSince: number | undefined
  failures = 0
  isFetching = false

  constructor(
    topic: string,
    index: number,
    start: Start,
    limits: Limits,
    owner: Owner,
    hold?: Hold
  ) {
    this.hold = hold
    this.topic = topic
    this.index = index
    this.lanePrefix = `${topic}/${index}/`
    this.position = start.position
    this.committed = start.committed
    this.readEpoch = start.epoch
    this.topicId = start.topicId
    this.commitMetadata = start.commitMetadata
    this.#limits = limits
    this.#owner = owner
  }

  /** Everything before this offset is done: what may be committed. */
  get donePosition(): number {
    return peek(this.#window)?.offset ?? peek(this.#buffered)?.offset ?? this.position
  }

  /** Whether more may be fetched. */
  get hasRoom(): boolean {
    return this.#revokeLimit === undefined && this.#buffered.length < this.#limits.maxBuffered &&
      this.#window.length < this.#limits.maxUncommitted
  }

  get isRevoked(): boolean {
    return this.#revokeLimit !== undefined
  }

  /** Whether it should be read, and no broker has answered for it for too long. */
  isUnanswered(now: number): boolean {
    return this.unansweredSince !== undefined && now - this.unansweredSince > this.#limits.patience
  }

  /** Messages between what is committed and its end; undefined where the end is not known. */
  lag(now: number): number | undefined {
    return this.highWatermark === undefined || this.isUnanswered(now)
      ? undefined
      : Math.max(0, this.highWatermark - Math.max(0, this.committed))
  }

  /** Adds a record that was fetched. */
  append(offset: number, record: FetchedRecord): void {
    if (this.hold?.isOfOthers(record) === true) return
    MutableList.append(this.#buffered, new Slot(this, offset, record))
  }

  /**
   * Goes on at an offset that exists. Where that is further back, the log is not the
   * one that was read: everything from there on is read again, and handlers that run
   * may end, but what they handle has no place in the log any more.
   */
  moveTo(position: number): void {
    if (position < this.position) {
      for (const slot of MutableList.toArray(this.#window)) slot.isGone = true
      MutableList.clear(this.#buffered)
      MutableList.clear(this.#window)
      MutableList.clear(this.#again)
      this.#blocked.clear()
      this.hold?.clear()
      this.#highestDone = -1
    }
    this.position = position
  }

  /** Takes up to `max` deliveries; gives back how many there were. */
  take(max: number, into: Array<Subscriber.Delivery>): number {
    if (this.#revokeLimit !== undefined) return 0
    let count = 0
    while (count < max) {
      const slot = shift(this.#again) ?? this.#nextBuffered()
      if (slot === undefined) break
      slot.attempt++
      slot.current = new Delivery(slot, slot.record!)
      into.push(slot.current)
      count++
    }
    this.outstanding += count
    return count
  }

  settle(slot: Slot, delivery: Delivery): void {
    if (slot.current !== delivery || this.#isGone) return
    slot.current = undefined
    slot.isDone = true
    slot.record = undefined
    if (slot.offset > this.#highestDone) this.#highestDone = slot.offset
    while (peek(this.#window)?.isDone === true) MutableList.take(this.#window)
    this.outstanding--
    this.#owner.onReturned(this, true)
  }

  /** The message and later ones of its lane will be delivered again, in order. */
  giveBack(slot: Slot, delivery: Delivery): void {
    if (slot.current !== delivery || this.#isGone) return
    this.#recall(slot)
    if (this.#revokeLimit !== undefined || slot.isGone) return
    const waiting = [slot]
    const lane = slot.lane
    if (lane !== undefined) {
      for (const later of MutableList.toArray(this.#window)) {
        if (later.offset <= slot.offset || later.isDone || later.lane !== lane) continue
        if (later.current !== undefined) {
          this.#recall(later)
          // It was not handled
          later.attempt--
        }
        waiting.push(later)
      }
      MutableList.filter(this.#again, (other) => other.lane !== lane)
    }
    this.#blocked.set(lane ?? slot, waiting)
    this.#owner.onBlocked(this, lane ?? slot)
  }

  /** Lets a lane go on after its redelivery delay. */
  release(lane: string | Slot): void {
    const waiting = this.#blocked.get(lane)
    if (waiting === undefined) return
    this.#blocked.delete(lane)
    MutableList.appendAll(this.#again, waiting)
  }

  /** Whether a slot was taken from this consumer. */
  isTaken(slot: Slot): boolean {
    // A message before a finished one is worth finishing: else the next owner of
    // the partition handles the finished one again
    return this.#isGone || this.#revokeLimit !== undefined && slot.offset > this.#revokeLimit
  }

  /** First step of giving the partition up: nothing more is delivered, handlers that run may end. */
  revoke(): void {
    if (this.#revokeLimit !== undefined) return
    this.#revokeLimit = this.#highestDone
    this.position = peek(this.#buffered)?.offset ?? this.position
    MutableList.clear(this.#buffered)
    MutableList.clear(this.#again)
    this.#blocked.clear()
    this.hold?.clear()
  }

  /** Second step: what is not acknowledged must no longer be handled. */
  expel(): void {
    this.revoke()
    this.#revokeLimit = -1
  }

  /** Last step: acknowledgements no longer count. */
  forget(): void {
    this.revoke()
    this.#isGone = true
    this.outstanding = 0
    MutableList.clear(this.#window)
  }

  // --- internal ---

  #recall(slot: Slot): void {
    slot.current = undefined
    this.outstanding--
    this.#owner.onReturned(this, false)
  }

  #nextBuffered(): Slot | undefined {
    while (this.#window.length < this.#limits.maxUncommitted) {
      const slot = peek(this.#buffered)
      if (slot === undefined || this.hold?.isDue(slot.record!) === false) return undefined
      MutableList.take(this.#buffered)
      MutableList.append(this.#window, slot)
      const lane = this.#blocked.size === 0 ? undefined : slot.lane
      const waiting = lane === undefined ? undefined : this.#blocked.get(lane)
      if (waiting === undefined) return slot
      waiting.push(slot)
    }
    return undefined
  }
}
