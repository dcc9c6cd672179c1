/** A consumed message as its handlers see it. What it says is read when it is asked for. */
import { decodeRetry } from "../../BrokerLayer.ts"
import { attribute, type Message } from "../../Message.ts"
import type { Delivery } from "../../Subscriber.ts"
import type * as Flow from "../dispatch/flow.ts"

export class Consumed implements Flow.Consumed {
  readonly delivery: Delivery
  readonly message: Message
  readonly group: string
  /** How many attempts this delivery has had, with the one that runs. */
  attempts = 0

  constructor(delivery: Delivery, message: Message, group: string) {
    this.delivery = delivery
    this.message = message
    this.group = group
  }

  get consumed(): Consumed {
    return this
  }

  get correlationId(): string | undefined {
    return attribute(this.message, "correlationid") || this.causationId
  }

  get causationId(): string | undefined {
    // An id must not be empty (CloudEvents 1.0)
    return attribute(this.message, "id") || undefined
  }

  get attempt(): number {
    const before = decodeRetry(this.message, this.group)?.attempts ?? 0
    return Math.max(this.delivery.attempt, before + 1) + this.attempts - 1
  }

  get origin(): Readonly<Record<string, string>> {
    return this.delivery.origin
  }
}
