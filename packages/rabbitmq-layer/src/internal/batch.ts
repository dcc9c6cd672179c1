/** A call of `publish`, and its messages on their way. */
import * as Broker from "@event-flow/core/Broker"
import type * as Message from "@event-flow/core/Message"
import type { Options as AmqpOptions } from "amqplib"
import * as Effect from "effect/Effect"

/** A message as it goes out. */
export interface Outgoing {
  /** For errors. */
  readonly message: Message.Message
  readonly exchange: string
  readonly routingKey: string
  readonly content: Buffer
  readonly options: AmqpOptions.Publish
}

/** Answers a call of `publish`. */
export type Resume = (result: Effect.Effect<void, Broker.PublishError>) => void

/** One call of `publish`: it succeeds with the last of its messages, or fails with the first that fails. */
export class Batch {
  /** When its time is over, by the monotonic clock in milliseconds. */
  readonly deadline: number
  #remaining: number
  /** Undefined when the caller has its answer, or was interrupted. */
  #resume: Resume | undefined
  readonly #onSettled: () => void

  constructor(size: number, deadline: number, resume: Resume, onSettled: () => void) {
    this.deadline = deadline
    this.#remaining = size
    this.#resume = resume
    this.#onSettled = onSettled
  }

  /** Whether nobody waits for its messages any more. */
  get isSettled(): boolean {
    return this.#resume === undefined
  }

  /** One of its messages has arrived. */
  accepted(): void {
    if (--this.#remaining === 0) this.#settle(Effect.void)
  }

  fail(error: Broker.PublishError): void {
    this.#settle(Effect.fail(error))
  }

  /** The caller was interrupted. */
  abandon(): void {
    this.#settle(undefined)
  }

  #settle(result: Effect.Effect<void, Broker.PublishError> | undefined): void {
    const resume = this.#resume
    if (resume === undefined) return
    this.#resume = undefined
    this.#onSettled()
    if (result !== undefined) resume(result)
  }
}

/** A message of a batch. */
export class Entry {
  readonly outgoing: Outgoing
  readonly batch: Batch
  /** Whether it was ever sent: then nobody knows whether it arrived. */
  isSent = false
  /** Why the server returned it: no queue takes it. */
  returned: string | undefined = undefined

  constructor(outgoing: Outgoing, batch: Batch) {
    this.outgoing = outgoing
    this.batch = batch
  }

  /** The server has confirmed it, which it does for one that it returned as well. */
  confirmed(): void {
    if (this.returned === undefined) return this.batch.accepted()
    const { exchange, routingKey } = this.outgoing
    const detail = `no queue is bound to exchange "${exchange}" for "${routingKey}" (${this.returned})`
    this.fail(new Broker.UnknownTopic({ detail }))
  }

  fail(reason: Broker.PublishReason): void {
    if (!this.batch.isSettled) this.batch.fail(Broker.publishError(this.outgoing.message, reason))
  }
}
