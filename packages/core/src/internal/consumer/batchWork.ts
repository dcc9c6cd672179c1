/** One delivery of a batch. */
import type { DeliveryOutcome } from "../../FlowObserver.ts"
import type { Message } from "../../Message.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import type { Delivery } from "../../Subscriber.ts"
import type { Watching } from "../dispatch/observers.ts"
import { readable } from "../structured.ts"
import { Consumed } from "./consumed.ts"

export class BatchWork {
  readonly delivery: Delivery
  /** As it is to be read: in binary mode. */
  readonly message: Message
  readonly consumed: Consumed
  /** Set when the message was decoded. */
  event!: NotificationEvent.Any
  /** What becomes of it when its batch is done. */
  outcome: DeliveryOutcome = "handled"
  readonly attempts = 1
  /** What fails alone is no longer part of a batch. */
  readonly why = undefined
  watching: Watching | undefined = undefined

  constructor(delivery: Delivery, group: string) {
    this.delivery = delivery
    this.message = readable(delivery.message)
    this.consumed = new Consumed(delivery, this.message, group)
    this.consumed.attempts = this.attempts
  }
}
