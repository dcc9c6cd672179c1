/**
 * The messages of one channel, over the channels that come and go.
 *
 * A message waits until there is room on the channel, is sent, and stays in the
 * window until the server has confirmed it. When the channel is lost, what is
 * not confirmed goes back to the front of those that wait, in its order and
 * under the same id, for the next channel.
 */
import * as Broker from "@event-flow/core/Broker"
import type { ConfirmChannel } from "amqplib"
import * as MutableList from "effect/MutableList"
import { AmqpFailure, detailOf } from "./amqpError.ts"
import type { Entry } from "./batch.ts"
import type { Link } from "./connection.ts"
import { culprits, refusal } from "./refusal.ts"
import { TagWindow } from "./tagWindow.ts"

/** What the server says of messages: this tag, or all up to it. */
interface Confirmation {
  readonly deliveryTag: number
  readonly multiple: boolean
}

export class Line {
  readonly #maxInFlight: number
  readonly #waiting = MutableList.make<Entry>()
  #unconfirmed = new TagWindow<Entry>()
  #channel: ConfirmChannel | undefined = undefined
  #gather: () => void = () => {}
  /** The client's buffer is full. */
  #isFull = false
  /** The server has blocked the connection. */
  #isBlocked = false
  /** Why the last channel could not be opened. */
  problem: string | undefined = undefined

  constructor(maxInFlight: number) {
    this.#maxInFlight = maxInFlight
  }

  /** Adds a message behind the others; `pump` sends it. */
  add(entry: Entry): void {
    MutableList.append(this.#waiting, entry)
  }

  /** Sends what there is room for. */
  pump(): void {
    const channel = this.#channel
    if (channel === undefined) return
    while (!this.#isFull && !this.#isBlocked && this.#unconfirmed.size < this.#maxInFlight) {
      const entry = MutableList.take(this.#waiting)
      if (entry === MutableList.Empty) return
      if (entry.batch.isSettled) continue
      const { content, exchange, options, routingKey } = entry.outgoing
      this.#gather()
      try {
        this.#isFull = !channel.publish(exchange, routingKey, content, options)
      } catch (error) {
        if (error instanceof Error && error.name === "IllegalOperationError") {
          // The channel is closing: its end brings the next one
          MutableList.prepend(this.#waiting, entry)
          return
        }
        entry.fail(new Broker.Rejected({ detail: `it cannot be encoded: ${detailOf(error)}`, cause: error }))
        continue
      }
      entry.isSent = true
      this.#unconfirmed.push(entry)
    }
  }

  /** Uses a channel until it is closed. What waits goes out at once. */
  attach(channel: ConfirmChannel, { gather, model }: Link, onEnd: (error: Error | undefined) => void): void {
    let problem: Error | undefined
    const detail = "the server did not take it (basic.nack): a queue is full, or has lost the majority of its replicas"
    channel.on("ack", (confirmation) => this.#confirm(channel, confirmation, (entry) => entry.confirmed()))
    channel.on(
      "nack",
      (confirmation) => this.#confirm(channel, confirmation, (entry) => entry.fail(new Broker.Unavailable({ detail })))
    )
    channel.on("return", ({ fields, properties }) => {
      // The types of amqplib have the fields of a delivery here; a return has its reason as well
      const { exchange, replyText, routingKey } = fields as typeof fields & { readonly replyText: string }
      this.#returned({ exchange, routingKey, messageId: properties.messageId }, replyText)
    })
    channel.on("drain", () => {
      this.#isFull = false
      this.pump()
    })
    channel.on("error", (error) => problem = error)
    const onBlocked = () => this.#isBlocked = true
    const onUnblocked = () => {
      this.#isBlocked = false
      this.pump()
    }
    model.on("blocked", onBlocked)
    model.on("unblocked", onUnblocked)
    channel.on("close", () => {
      model.off("blocked", onBlocked)
      model.off("unblocked", onUnblocked)
      if (this.#channel === channel) this.detach(problem)
      onEnd(problem)
    })
    this.#channel = channel
    this.#gather = gather
    this.#isFull = false
    this.#isBlocked = false
    this.problem = undefined
    this.pump()
  }

  /** The channel is gone: fails what it was closed for, and keeps the rest for the next one. */
  detach(problem: Error | undefined): void {
    this.#channel = undefined
    const open = [...this.#unconfirmed]
    this.#unconfirmed = new TagWindow()
    const failure = new AmqpFailure(problem)
    if (failure.code !== undefined) {
      for (const entry of culprits(failure, open)) entry.fail(refusal(failure))
    }
    const kept = open.filter((entry) => !entry.batch.isSettled)
    // The server says it again when it still has no queue for them
    for (const entry of kept) entry.returned = undefined
    MutableList.prependAll(this.#waiting, kept)
  }

  /** Fails what is not confirmed at its deadline; `after` and `problem` are for the errors. */
  expire(now: number, after: string, problem: string | undefined): void {
    for (const entry of this.#unconfirmed) {
      if (entry.batch.deadline > now) break
      entry.fail(this.#overdue(entry, after, problem))
    }
    while (true) {
      const entry = MutableList.take(this.#waiting)
      if (entry === MutableList.Empty) return
      if (entry.batch.isSettled) continue
      if (entry.batch.deadline > now) {
        MutableList.prepend(this.#waiting, entry)
        return
      }
      entry.fail(this.#overdue(entry, after, problem))
    }
  }

  /** Fails all that waits and all that is on its way. */
  failAll(reason: Broker.PublishReason): void {
    for (const entry of this.#unconfirmed) entry.fail(reason)
    for (const entry of MutableList.takeAll(this.#waiting)) entry.fail(reason)
  }

  #confirm(
    channel: ConfirmChannel,
    { deliveryTag, multiple }: Confirmation,
    handle: (entry: Entry) => void
  ): void {
    if (this.#channel !== channel) return
    if (multiple) {
      for (const entry of this.#unconfirmed.takeUpTo(deliveryTag)) handle(entry)
    } else {
      const entry = this.#unconfirmed.take(deliveryTag)
      if (entry !== undefined) handle(entry)
    }
    this.pump()
  }

  /** The server returns a message before it confirms it, in order: the first that fits is meant. */
  #returned(
    message: { readonly exchange: string; readonly routingKey: string; readonly messageId: unknown },
    reason: string
  ): void {
    for (const entry of this.#unconfirmed) {
      const { exchange, options, routingKey } = entry.outgoing
      if (
        entry.returned === undefined && options.messageId === message.messageId &&
        routingKey === message.routingKey && exchange === message.exchange
      ) {
        entry.returned = reason
        return
      }
    }
  }

  #overdue(entry: Entry, after: string, connectionProblem: string | undefined): Broker.PublishReason {
    const problem = connectionProblem ?? this.problem
    const because = problem === undefined ? "" : `: ${problem}`
    if (entry.isSent) return new Broker.Timeout({ detail: `sent, and not confirmed ${after}${because}` })
    if (this.#isBlocked) {
      return new Broker.Timeout({ detail: `not sent ${after}: the server has blocked the connection` })
    }
    if (this.#channel === undefined) return new Broker.Unreachable({ detail: `no connection ${after}${because}` })
    return new Broker.Timeout({ detail: `not sent ${after}: too much is on its way before it` })
  }
}
