/**
 * The calls of `publish` that are not over, and the room that their messages
 * take: admission, waiting for room, and expiry.
 */
import * as Broker from "@event-flow/core/Broker"
import type * as Message from "@event-flow/core/Message"
import * as Effect from "effect/Effect"
import * as MutableList from "effect/MutableList"
import { peek, shift } from "../queue.ts"
import type { Queue } from "../queue.ts"
import type { PublisherSettings } from "../settings.ts"
import { encodeRecord } from "./recordBatch.ts"
import type { EncodedRecord } from "./recordBatch.ts"

/** One call of `publish`. */
export interface Publish {
  readonly messages: ReadonlyArray<Message.Message>
  readonly deadline: number
  readonly resume: (result: Effect.Effect<void, Broker.PublishError>) => void
  /** Messages that are not acknowledged. */
  remaining: number
  isSettled: boolean
  /** False while it waits for room. */
  isAdmitted: boolean
}

/** A message that was let in and is not acknowledged. */
export interface Pending {
  readonly publish: Publish
  readonly message: Message.Message
  readonly record: EncodedRecord
  readonly since: number
}

export interface Options {
  readonly settings: PublisherSettings
  readonly now: () => number
  /** Called when there may be something to send. */
  readonly wake: () => void
  /** Takes a message that was let in. */
  readonly accept: (pending: Pending) => void
  /** Why a call that was let in is not over by its deadline. */
  readonly whyExpired: (publish: Publish) => Broker.PublishReason
}

export class PublishBuffer {
  readonly #options: Options
  /** Calls that are not over, in the order of their deadlines. */
  readonly #calls = new Set<Publish>()
  /** Calls that wait for room. */
  readonly #outside = MutableList.make<Publish>()
  readonly #idle = new Set<() => void>()
  #messages = 0
  #bytes = 0
  #isClosed = false

  constructor(options: Options) {
    this.#options = options
  }

  // --- the callers ---

  /** Undefined where it was refused at once. */
  offer(messages: ReadonlyArray<Message.Message>, resume: Publish["resume"]): Publish | undefined {
    if (this.#isClosed) {
      resume(Effect.fail(Broker.publishError(messages[0]!, new Broker.Closed({ detail: "the layer is closing" }))))
      return undefined
    }
    const publish: Publish = {
      messages,
      deadline: this.#options.now() + this.#options.settings.publishTimeout,
      resume,
      remaining: messages.length,
      isSettled: false,
      isAdmitted: false
    }
    this.#calls.add(publish)
    if (this.#outside.length > 0 || !this.#hasRoom) MutableList.append(this.#outside, publish)
    else this.#admit(publish)
    return publish
  }

  /** The caller was interrupted: what has not left is not sent. */
  cancel(publish: Publish): void {
    publish.isSettled = true
    this.#calls.delete(publish)
    this.#options.wake()
  }

  // --- the layer ---

  get isIdle(): boolean {
    return this.#messages === 0 && this.#outside.length === 0
  }

  onIdle(listener: () => void): () => void {
    this.#idle.add(listener)
    return () => this.#idle.delete(listener)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Refuses new calls. */
  close(): void {
    this.#isClosed = true
    this.#options.wake()
  }

  /** Fails what is left. */
  abort(): void {
    for (const publish of this.#calls) {
      this.#settle(
        publish,
        publish.messages[0]!,
        new Broker.Closed({ detail: "the layer closed before it was acknowledged" })
      )
    }
  }

  // --- the accumulator ---

  get nextDeadline(): number | undefined {
    for (const { deadline } of this.#calls) return deadline
    return undefined
  }

  /** Fails calls whose time is over. Their messages leave by `dropSettled`. */
  expire(): void {
    const now = this.#options.now()
    for (const publish of this.#calls) {
      if (publish.deadline > now) break
      this.#settle(
        publish,
        publish.messages[0]!,
        publish.isAdmitted ? this.#options.whyExpired(publish) : new Broker.Timeout({
          detail:
            `not acknowledged within ${this.#options.settings.publishTimeout} ms: the buffer was full all the time`
        })
      )
    }
  }

  /** Drops messages at the head of a queue whose calls are over. */
  dropSettled(queue: Queue<Pending>): void {
    for (let head = peek(queue); head?.publish.isSettled === true; head = peek(queue)) {
      MutableList.take(queue)
      this.release([head])
    }
  }

  /** Messages leave without an answer. */
  release(pendings: ReadonlyArray<Pending>): void {
    this.#messages -= pendings.length
    for (const { record } of pendings) this.#bytes -= record.size
  }

  /** Messages leave because the broker has them. */
  succeed(pendings: ReadonlyArray<Pending>): void {
    this.release(pendings)
    for (const { publish } of pendings) {
      if (--publish.remaining > 0 || publish.isSettled) continue
      publish.isSettled = true
      this.#calls.delete(publish)
      publish.resume(Effect.void)
    }
    this.admitWaiting()
  }

  /** Messages leave because the broker will not have them. */
  fail(pendings: ReadonlyArray<Pending>, reason: Broker.PublishReason): void {
    this.release(pendings)
    for (const { message, publish } of pendings) this.#settle(publish, message, reason)
    this.admitWaiting()
  }

  /** Lets calls in for which there is room now. */
  admitWaiting(): void {
    for (let publish = peek(this.#outside); publish !== undefined; publish = peek(this.#outside)) {
      if (!publish.isSettled && !this.#hasRoom) break
      shift(this.#outside)
      if (!publish.isSettled) this.#admit(publish)
    }
    if (this.isIdle) { for (const listener of this.#idle) listener() }
  }

  // --- internal ---

  get #hasRoom(): boolean {
    const { maxBufferedBytes, maxBufferedMessages } = this.#options.settings
    return this.#messages < maxBufferedMessages && this.#bytes < maxBufferedBytes
  }

  #admit(publish: Publish): void {
    publish.isAdmitted = true
    const since = this.#options.now()
    for (const message of publish.messages) {
      const record = encodeRecord(message, since)
      this.#messages++
      this.#bytes += record.size
      this.#options.accept({ publish, message, record, since })
    }
    this.#options.wake()
  }

  #settle(publish: Publish, message: Message.Message, reason: Broker.PublishReason): void {
    if (publish.isSettled) return
    publish.isSettled = true
    this.#calls.delete(publish)
    publish.resume(Effect.fail(Broker.publishError(message, reason)))
  }
}
