/**
 * Publishing with confirms over a connection that comes and goes.
 *
 * A message waits in its line until there is room on the line's channel, is
 * sent, and stays in the line until the server has confirmed it. When the
 * channel is lost, what is not confirmed goes back to the front of the line, in
 * its order and under the same id, for the next channel. It runs on the
 * client's callbacks and holds no fiber for a message: fibers open the channels
 * and watch the time.
 */
import * as Broker from "@event-flow/core/Broker"
import type * as Message from "@event-flow/core/Message"
import type { ConfirmChannel, Options as AmqpOptions } from "amqplib"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { AmqpFailure, ask, detailOf, ReplyCode } from "./amqpError.ts"
import { openChannel } from "./channel.ts"
import { backoff, type Connection, type Link } from "./connection.ts"
import { Fifo } from "./fifo.ts"
import type { PublisherSettings } from "./settings.ts"

/** A message as it goes out. */
export interface Outgoing {
  /** For errors. */
  readonly message: Message.Message
  readonly exchange: string
  readonly routingKey: string
  readonly content: Buffer
  readonly options: AmqpOptions.Publish
}

export interface Publisher {
  /** Succeeds when all of them are confirmed, fails with the first failure. */
  readonly publish: (messages: ReadonlyArray<Message.Message>) => Effect.Effect<void, Broker.PublishError>
}

interface Options {
  readonly toOutgoing: (message: Message.Message) => Outgoing
  /** What a channel needs to be there. */
  readonly declare: (channel: ConfirmChannel) => Promise<unknown>
}

export const make: (
  settings: PublisherSettings,
  connection: Connection,
  options: Options
) => Effect.Effect<Publisher, never, Scope.Scope> = Effect.fnUntraced(function*(
  settings: PublisherSettings,
  connection: Connection,
  options: Options
) {
  const lines = Array.from(
    { length: settings.channels },
    () => new Line(Math.ceil(settings.maxInFlight / settings.channels))
  )
  const state = new State(settings, connection, lines, options.toOutgoing)
  for (const line of lines) {
    yield* Effect.forkScoped(keepOpen(settings, connection, line, state, options.declare))
  }
  if (settings.publishTimeout !== Infinity) {
    const interval = Math.min(1_000, Math.max(10, settings.publishTimeout / 4))
    yield* Effect.sync(() => state.expire()).pipe(Effect.delay(interval), Effect.forever, Effect.forkScoped)
  }
  // Run before the fibers above are interrupted: what is on its way needs them
  yield* Effect.addFinalizer(() => state.close)
  return { publish: state.publish }
})

// --- internal ---

type Resume = (result: Effect.Effect<void, Broker.PublishError>) => void

/** One call of `publish`. */
class Batch {
  remaining: number
  /** Undefined when the caller has its answer, or was interrupted. */
  resume: Resume | undefined
  readonly deadline: number

  constructor(size: number, resume: Resume, deadline: number) {
    this.remaining = size
    this.resume = resume
    this.deadline = deadline
  }
}

class Entry {
  readonly outgoing: Outgoing
  readonly batch: Batch
  /** Whether it was ever sent: then nobody knows whether it arrived. */
  isSent = false
  /** Why the server gave it back: no queue takes it. */
  returned: string | undefined = undefined

  constructor(outgoing: Outgoing, batch: Batch) {
    this.outgoing = outgoing
    this.batch = batch
  }
}

/** The messages of one channel. */
class Line {
  readonly waiting = new Fifo<Entry>()
  /** Sent, by delivery tag from `firstTag`; undefined where confirmed before the ones ahead. */
  readonly unconfirmed = new Fifo<Entry | undefined>()
  firstTag = 1
  /** How many of `unconfirmed` are there. */
  inFlight = 0
  readonly maxInFlight: number
  channel: ConfirmChannel | undefined = undefined
  gather: () => void = () => {}
  /** The client's buffer is full, or the server has blocked the connection. */
  isFull = false
  isBlocked = false
  /** Why the last channel could not be opened. */
  problem: string | undefined = undefined

  constructor(maxInFlight: number) {
    this.maxInFlight = maxInFlight
  }
}

class State {
  readonly #settings: PublisherSettings
  readonly #connection: Connection
  readonly #lines: ReadonlyArray<Line>
  readonly #toOutgoing: Options["toOutgoing"]
  #nextLine = 0
  #open = 0
  #isClosed = false
  #onIdle: (() => void) | undefined = undefined

  constructor(
    settings: PublisherSettings,
    connection: Connection,
    lines: ReadonlyArray<Line>,
    toOutgoing: Options["toOutgoing"]
  ) {
    this.#settings = settings
    this.#connection = connection
    this.#lines = lines
    this.#toOutgoing = toOutgoing
  }

  readonly publish = (messages: ReadonlyArray<Message.Message>): Effect.Effect<void, Broker.PublishError> =>
    Effect.callback((resume) => {
      if (this.#isClosed) return resume(Effect.fail(closed(messages[0]!)))
      const batch = new Batch(messages.length, resume, performance.now() + this.#settings.publishTimeout)
      const entries = messages.map((message) => new Entry(this.#toOutgoing(message), batch))
      const lines = this.#lines
      this.#open++
      for (const entry of entries) {
        const line = lines.length === 1 ? lines[0]! : this.#lineOf(entry.outgoing.message.key)
        line.waiting.push(entry)
      }
      for (const line of lines) this.pump(line)
      return batch.resume === undefined ? undefined : Effect.sync(() => this.#settle(batch, undefined))
    })

  #lineOf(key: string | Uint8Array | undefined): Line {
    const lines = this.#lines
    if (key === undefined) return lines[this.#nextLine++ % lines.length]!
    let hash = 0
    for (let i = 0; i < key.length; i++) {
      hash = (Math.imul(hash, 31) + (typeof key === "string" ? key.charCodeAt(i) : key[i]!)) | 0
    }
    return lines[(hash >>> 0) % lines.length]!
  }

  /** Sends what there is room for. */
  pump(line: Line): void {
    const { channel, unconfirmed, waiting } = line
    if (channel === undefined) return
    while (!line.isFull && !line.isBlocked && line.inFlight < line.maxInFlight) {
      const entry = waiting.shift()
      if (entry === undefined) return
      if (entry.batch.resume === undefined) continue
      const { content, exchange, options, routingKey } = entry.outgoing
      line.gather()
      try {
        line.isFull = !channel.publish(exchange, routingKey, content, options)
      } catch (error) {
        if (error instanceof Error && error.name === "IllegalOperationError") {
          // The channel is closing: its end brings the next one
          waiting.unshift([entry])
          return
        }
        this.#fail(entry, new Broker.Rejected({ detail: `it cannot be encoded: ${detailOf(error)}`, cause: error }))
        continue
      }
      entry.isSent = true
      unconfirmed.push(entry)
      line.inFlight++
    }
  }

  /** Takes a channel for a line; the messages that wait go out at once. */
  attach(
    line: Line,
    channel: ConfirmChannel,
    { gather, model }: Link,
    onEnd: (error: Error | undefined) => void
  ): void {
    const { unconfirmed } = line
    let problem: Error | undefined
    const confirm =
      (handle: (entry: Entry) => void) =>
      ({ deliveryTag, multiple }: { readonly deliveryTag: number; readonly multiple: boolean }) => {
        if (line.channel !== channel) return
        if (!multiple) this.#confirmed(line, deliveryTag - line.firstTag, handle)
        else while (line.firstTag <= deliveryTag && unconfirmed.size > 0) this.#confirmed(line, 0, handle)
        this.pump(line)
      }
    channel.on("ack", confirm((entry) => this.#accepted(entry)))
    channel.on("nack", confirm((entry) => this.#fail(entry, new Broker.Rejected({ detail: "the server refused it" }))))
    channel.on("return", ({ fields, properties }) => {
      const { replyText } = fields as unknown as { readonly replyText: string }
      // The server gives it back before it confirms it, in order: the first that fits is meant
      for (const entry of unconfirmed) {
        if (entry === undefined || entry.returned !== undefined) continue
        const { exchange, options, routingKey } = entry.outgoing
        if (
          options.messageId !== properties.messageId || routingKey !== fields.routingKey || exchange !== fields.exchange
        ) continue
        entry.returned = replyText
        return
      }
    })
    channel.on("drain", () => {
      line.isFull = false
      this.pump(line)
    })
    channel.on("error", (error) => problem = error)
    const onBlocked = () => line.isBlocked = true
    const onUnblocked = () => {
      line.isBlocked = false
      this.pump(line)
    }
    model.on("blocked", onBlocked)
    model.on("unblocked", onUnblocked)
    channel.on("close", () => {
      model.off("blocked", onBlocked)
      model.off("unblocked", onUnblocked)
      if (line.channel === channel) this.detach(line, problem)
      onEnd(problem)
    })
    line.channel = channel
    line.gather = gather
    line.firstTag = 1
    line.isFull = false
    line.isBlocked = false
    line.problem = undefined
    this.pump(line)
  }

  #confirmed(line: Line, index: number, handle: (entry: Entry) => void): void {
    const { unconfirmed } = line
    let entry: Entry | undefined
    if (index === 0) {
      entry = unconfirmed.shift()
      line.firstTag++
      while (unconfirmed.size > 0 && unconfirmed.at(0) === undefined) {
        unconfirmed.shift()
        line.firstTag++
      }
    } else {
      entry = unconfirmed.at(index)
      unconfirmed.set(index, undefined)
    }
    if (entry === undefined) return
    line.inFlight--
    handle(entry)
  }

  /** The channel is gone: fails what it was closed for, and keeps the rest for the next one. */
  detach(line: Line, problem: Error | undefined): void {
    line.channel = undefined
    line.inFlight = 0
    const entries = line.unconfirmed.takeAll().filter((entry) => entry !== undefined)
    const failure = new AmqpFailure(problem)
    if (failure.code !== undefined) {
      const isCulprit = culprits(failure)
      // The server names no message. When its words fit none, all that were on their way are suspect
      const failed = entries.some(isCulprit) ? entries.filter(isCulprit) : entries
      for (const entry of failed) this.#fail(entry, refusal(failure))
    }
    line.waiting.unshift(entries.filter((entry) => entry.batch.resume !== undefined))
  }

  #accepted(entry: Entry): void {
    if (entry.returned !== undefined) {
      const { exchange, routingKey } = entry.outgoing
      const detail = `no queue is bound to exchange "${exchange}" for "${routingKey}" (${entry.returned})`
      return this.#fail(entry, new Broker.UnknownTopic({ detail }))
    }
    if (--entry.batch.remaining === 0) this.#settle(entry.batch, Effect.void)
  }

  #fail(entry: Entry, reason: Broker.PublishReason): void {
    this.#settle(entry.batch, Effect.fail(Broker.publishError(entry.outgoing.message, reason)))
  }

  #settle(batch: Batch, result: Effect.Effect<void, Broker.PublishError> | undefined): void {
    const resume = batch.resume
    if (resume === undefined) return
    batch.resume = undefined
    if (--this.#open === 0) this.#onIdle?.()
    if (result !== undefined) resume(result)
  }

  /** Fails what waits although its time is over. */
  expire(): void {
    const now = performance.now()
    for (const line of this.#lines) {
      for (const entry of line.unconfirmed) {
        if (entry === undefined) continue
        if (entry.batch.deadline > now) break
        this.#fail(entry, this.#overdue(line, entry))
      }
      for (const entry of line.waiting) {
        if (entry.batch.deadline > now) break
        this.#fail(entry, this.#overdue(line, entry))
      }
      // A line without a channel would keep them
      while (line.waiting.size > 0 && line.waiting.at(0)!.batch.resume === undefined) line.waiting.shift()
    }
  }

  #overdue(line: Line, entry: Entry): Broker.PublishReason {
    const after = `within ${this.#settings.publishTimeout} ms`
    const problem = this.#connection.problem() ?? line.problem
    if (entry.isSent) {
      return new Broker.Timeout({
        detail: `sent, and not confirmed ${after}${problem === undefined ? "" : `: ${problem}`}`
      })
    }
    if (line.isBlocked) {
      return new Broker.Timeout({ detail: `not sent ${after}: the server has blocked the connection` })
    }
    if (line.channel === undefined) {
      return new Broker.Unreachable({ detail: `no connection ${after}${problem === undefined ? "" : `: ${problem}`}` })
    }
    return new Broker.Timeout({ detail: `not sent ${after}: too much is on its way before it` })
  }

  /** Fails all that waits and all that is on its way. */
  failAll(line: Line, reason: Broker.PublishReason): void {
    for (const entry of [...line.unconfirmed, ...line.waiting]) {
      if (entry !== undefined) this.#fail(entry, reason)
    }
    line.waiting.takeAll()
  }

  /** Takes no more, and waits for what is there, within the bound. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#isClosed = true
    if (this.#open === 0) return Effect.void
    const idle = Effect.callback<void>((resume) => {
      this.#onIdle = () => resume(Effect.void)
    })
    return Effect.timeoutOrElse(Effect.interruptible(idle), {
      duration: this.#settings.closeTimeout,
      orElse: () =>
        Effect.sync(() => {
          const reason = new Broker.Closed({ detail: "the layer closed before the server confirmed it" })
          for (const line of this.#lines) this.failAll(line, reason)
        })
    })
  })
}

const closed = (message: Message.Message): Broker.PublishError =>
  Broker.publishError(message, new Broker.Closed({ detail: "the layer of the RabbitMQ broker is closed" }))

/** Which messages a channel can have been closed for, by the words of the server. */
const culprits = ({ detail }: AmqpFailure): (entry: Entry) => boolean => {
  const size = /message size (\d+)/.exec(detail)?.[1]
  if (size !== undefined) return (entry) => entry.outgoing.content.length === Number(size)
  const exchange = /exchange '(.*?)' in vhost/.exec(detail)?.[1]
  const topic = /access to topic '(.*?)' in exchange/.exec(detail)?.[1]
  return (entry) =>
    entry.outgoing.exchange === exchange &&
    (topic === undefined || entry.outgoing.routingKey === topic)
}

const refusal = ({ cause, code, detail }: AmqpFailure): Broker.PublishReason => {
  const fields = { detail, cause }
  switch (code) {
    case ReplyCode.accessRefused:
      return new Broker.NotAuthorised(fields)
    case ReplyCode.notFound:
      return new Broker.UnknownTopic(fields)
    case ReplyCode.preconditionFailed:
      return detail.includes("message size") ? new Broker.MessageTooLarge(fields) : new Broker.Rejected(fields)
    default:
      return new Broker.Rejected(fields)
  }
}

/** Keeps a channel open for a line. */
const keepOpen = Effect.fnUntraced(function*(
  settings: PublisherSettings,
  connection: Connection,
  line: Line,
  state: State,
  declare: (channel: ConfirmChannel) => Promise<unknown>
): Effect.fn.Return<never> {
  let failures = 0
  while (true) {
    const linked = yield* Effect.result(connection.link)
    if (linked._tag === "Failure") {
      // Waiting on does not help, and the caller should know
      const { cause, detail } = linked.failure
      state.failAll(line, new Broker.NotAuthorised({ detail, cause }))
      continue
    }
    const ended = yield* Effect.result(openLine(settings, linked.success, line, state, declare, () => failures = 0))
    if (ended._tag === "Success") {
      if (ended.success !== undefined) yield* Effect.logWarning(`RabbitMQ closed a channel: ${ended.success.message}`)
    } else {
      line.problem = ended.failure.detail
      yield* Effect.logWarning(`Cannot open a channel of RabbitMQ: ${line.problem}`)
      // The server refuses the exchange: nobody needs to wait for another refusal
      if (ended.failure.code !== undefined) state.failAll(line, refusal(ended.failure))
      yield* backoff(settings, failures++)
    }
  }
})

/** One channel from its opening to its end; gives the error for which the server closed it. */
const openLine = (
  settings: PublisherSettings,
  link: Link,
  line: Line,
  state: State,
  declare: (channel: ConfirmChannel) => Promise<unknown>,
  onOpen: () => void
): Effect.Effect<Error | undefined, AmqpFailure> =>
  Effect.gen(function*() {
    const channel = yield* openChannel(settings, () => link.model.createConfirmChannel())
    yield* ask(() => declare(channel))
    const ended = yield* Deferred.make<Error | undefined>()
    state.attach(line, channel, link, (error) => Deferred.doneUnsafe(ended, Effect.succeed(error)))
    onOpen()
    // The link can have been lost before the channel was attached
    return yield* Effect.raceFirst(Deferred.await(ended), Effect.as(Deferred.await(link.lost), undefined))
  }).pipe(Effect.ensuring(Effect.sync(() => state.detach(line, undefined))), Effect.scoped)
