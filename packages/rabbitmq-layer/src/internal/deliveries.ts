/**
 * The deliveries of one subscription, over the channels that come and go: those
 * that wait to be taken, and those that were taken and are not settled.
 */
import { decodeRetry, Waiters } from "@event-flow/core/BrokerLayer"
import type * as Message from "@event-flow/core/Message"
import { keyString } from "@event-flow/core/Message"
import type * as Subscriber from "@event-flow/core/Subscriber"
import type { Channel, ConsumeMessage } from "amqplib"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as MutableList from "effect/MutableList"
import type { SchedulerDispatcher } from "effect/Scheduler"
import * as Binding from "./binding.ts"
import { TagWindow } from "./tagWindow.ts"

/** `"nacked"`: given back, and the server is told with the next `take`. */
type Status = "waiting" | "taken" | "acked" | "nacked" | "settled"

export class RabbitDelivery implements Subscriber.Delivery {
  readonly message: Message.Message
  readonly attempt: number
  readonly lane: string | undefined
  readonly queue: string
  readonly raw: ConsumeMessage
  status: Status = "waiting"
  readonly #deliveries: Deliveries
  readonly #session: Session

  constructor(deliveries: Deliveries, session: Session, queue: string, topic: string, raw: ConsumeMessage) {
    this.#deliveries = deliveries
    this.#session = session
    this.queue = queue
    this.raw = raw
    this.message = Binding.fromDelivery(topic, raw)
    const delayed = decodeRetry(this.message, deliveries.group)?.step ?? 0
    this.attempt = 1 + Binding.deliveriesBefore(raw) + delayed
    const key = keyString(this.message)
    this.lane = key === undefined ? undefined : `${queue}/${key}`
  }

  get origin(): Readonly<Record<string, string>> {
    const { deliveryTag, exchange, routingKey } = this.raw.fields
    return { topic: this.message.topic, queue: this.queue, exchange, routingKey, deliveryTag: String(deliveryTag) }
  }

  get ack(): Effect.Effect<void> {
    return Effect.sync(() => this.#deliveries.ack(this.#session, this))
  }

  get nack(): Effect.Effect<void> {
    return Effect.sync(() => this.#deliveries.nack(this.#session, this))
  }

  readonly isRevoked = (): boolean => this.status === "nacked" || this.status === "settled" || this.#session.isOver
}

/** The deliveries of one channel, by delivery tag. */
class Session {
  readonly channel: Channel
  readonly gather: () => void
  /** What the server has not been told of. */
  readonly unsettled = new TagWindow<RabbitDelivery>()
  /** Acknowledged, and the server not told yet. */
  acked: Array<RabbitDelivery> = []
  /** Given back, and the server not told yet. */
  nacked: Array<RabbitDelivery> = []
  isOver = false

  constructor(channel: Channel, gather: () => void) {
    this.channel = channel
    this.gather = gather
  }
}

export class Deliveries {
  readonly group: string
  readonly #maxInFlight: number
  #session: Session | undefined = undefined
  /** May hold deliveries that were settled while they waited. */
  readonly #waiting = MutableList.make<RabbitDelivery>()
  #taken = 0
  readonly #takers = new Waiters()
  #failure: Subscriber.SubscribeError | undefined = undefined
  #isFlushing = false
  readonly #dispatcher: SchedulerDispatcher

  /** The dispatcher says when a turn of the event loop is over. */
  constructor(
    { group, maxInFlight }: Pick<Subscriber.SubscribeOptions, "group" | "maxInFlight">,
    dispatcher: SchedulerDispatcher
  ) {
    this.group = group
    this.#maxInFlight = maxInFlight
    this.#dispatcher = dispatcher
    this.take = this.#takers.until(() => this.#look())
  }

  /** The deliveries of a new channel; `accept` takes them as they come. */
  begin(
    channel: Channel,
    gather: () => void
  ): { readonly accept: (queue: string, topic: string, raw: ConsumeMessage) => void } {
    const session = new Session(channel, gather)
    this.#session = session
    return {
      accept: (queue, topic, raw) => {
        if (session.isOver) return
        const delivery = new RabbitDelivery(this, session, queue, topic, raw)
        session.unsettled.push(delivery)
        MutableList.append(this.#waiting, delivery)
        this.#takers.wakeAll()
      }
    }
  }

  /** The channel is gone, or about to go: all that is not acknowledged is revoked. */
  end(): void {
    const session = this.#session
    if (session === undefined) return
    this.#flush(session)
    session.isOver = true
    this.#session = undefined
    MutableList.clear(this.#waiting)
    this.#taken = 0
  }

  /** Ends the subscription for its takers. */
  fail(failure: Subscriber.SubscribeError): void {
    this.#failure ??= failure
    this.#takers.wakeAll()
  }

  /** How many wait to be taken, and how many were taken and are not settled. */
  get counts(): { readonly waiting: number; readonly inFlight: number } {
    return { waiting: this.#waiting.length, inFlight: this.#taken }
  }

  readonly take: Effect.Effect<Arr.NonEmptyReadonlyArray<RabbitDelivery>, Subscriber.SubscribeError>

  #look(): Effect.Effect<Arr.NonEmptyReadonlyArray<RabbitDelivery>, Subscriber.SubscribeError> | undefined {
    if (this.#failure !== undefined) return Effect.fail(this.#failure)
    if (this.#session !== undefined) this.#giveBack(this.#session)
    const deliveries: Array<RabbitDelivery> = []
    while (this.#taken < this.#maxInFlight) {
      const delivery = MutableList.take(this.#waiting)
      if (delivery === MutableList.Empty) break
      if (delivery.status !== "waiting") continue
      delivery.status = "taken"
      this.#taken++
      deliveries.push(delivery)
    }
    return Arr.isReadonlyArrayNonEmpty(deliveries) ? Effect.succeed(deliveries) : undefined
  }

  ack(session: Session, delivery: RabbitDelivery): void {
    if (session.isOver || delivery.status !== "taken") return
    delivery.status = "acked"
    session.acked.push(delivery)
    this.#taken--
    if (this.#waiting.length > 0) this.#takers.wakeAll()
    if (this.#isFlushing) return
    // What is acknowledged in one turn of the event loop goes out together
    this.#isFlushing = true
    this.#dispatcher.scheduleTask(() => {
      this.#isFlushing = false
      if (this.#session !== undefined) this.#flush(this.#session)
    }, 0)
  }

  /**
   * Gives a delivery back to its queue, and with it those of its lane behind
   * it: they come again after it, in order.
   *
   * A consumer that takes no more is about to close, and what it gives back would
   * come to it once more and go back with the channel: two deliveries for one, as
   * a delivery limit counts. So the server is told when the consumer takes again.
   */
  nack(session: Session, delivery: RabbitDelivery): void {
    if (session.isOver || delivery.status !== "taken") return
    const back: Array<RabbitDelivery> = [delivery]
    if (delivery.lane !== undefined) {
      let isBehind = false
      for (const other of session.unsettled) {
        if (other === delivery) isBehind = true
        else if (
          isBehind && other.lane === delivery.lane && (other.status === "waiting" || other.status === "taken")
        ) {
          back.push(other)
        }
      }
    }
    for (const each of back) {
      if (each.status === "taken") this.#taken--
      each.status = "nacked"
      session.nacked.push(each)
    }
    if (!this.#takers.isEmpty) this.#giveBack(session)
    if (this.#waiting.length > 0) this.#takers.wakeAll()
  }

  /** Tells the server what was given back. */
  #giveBack(session: Session): void {
    if (session.nacked.length === 0) return
    for (const delivery of session.nacked) {
      this.#settle(session, delivery)
      attempt(() => session.channel.nack(delivery.raw, false, true))
    }
    session.nacked = []
  }

  /** The server is told, or about to be. */
  #settle(session: Session, delivery: RabbitDelivery): void {
    delivery.status = "settled"
    session.unsettled.take(delivery.raw.fields.deliveryTag)
  }

  /** Tells the server what was acknowledged: by one frame where nothing before it is open. */
  #flush(session: Session): void {
    const { acked, channel, unsettled } = session
    if (acked.length === 0) return
    session.acked = []
    session.gather()
    let last: RabbitDelivery | undefined
    while (unsettled.first?.status === "acked") {
      last = unsettled.first
      this.#settle(session, last)
    }
    attempt(() => {
      if (last !== undefined) channel.ack(last.raw, true)
      for (const delivery of acked) {
        if (delivery.status !== "acked") continue
        this.#settle(session, delivery)
        channel.ack(delivery.raw)
      }
    })
  }
}

/** A closed channel throws. Its end is handled elsewhere, and the server delivers the messages again. */
const attempt = (tell: () => void): void => {
  try {
    tell()
  } catch (error) {
    if (!(error instanceof Error && error.name === "IllegalOperationError")) throw error
  }
}
