/**
 * Publishing with confirms over a connection that comes and goes. It runs on
 * the client's callbacks and holds no fiber for a message: fibers open the
 * channels and watch the time.
 */
import * as Broker from "@event-flow/core/Broker"
import { Waiters } from "@event-flow/core/BrokerLayer"
import type * as Message from "@event-flow/core/Message"
import type { ConfirmChannel } from "amqplib"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Batch, Entry, type Outgoing } from "./batch.ts"
import type { Connection } from "./connection.ts"
import { keepOpen } from "./keepOpen.ts"
import { Line } from "./line.ts"
import type { PublisherSettings } from "./settings.ts"

export interface Publisher {
  /** Succeeds when all of them are confirmed, fails with the first failure. */
  readonly publish: (messages: ReadonlyArray<Message.Message>) => Effect.Effect<void, Broker.PublishError>
}

export interface Options {
  readonly toOutgoing: (message: Message.Message) => Outgoing
  /** Declares what a channel needs to be there. */
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
  const state = new State(settings, connection, yield* Clock.Clock, options.toOutgoing)
  for (const line of state.lines) {
    yield* Effect.forkScoped(keepOpen(settings, connection, line, options.declare))
  }
  if (settings.publishTimeout !== Infinity) {
    const interval = Math.min(1_000, Math.max(10, settings.publishTimeout / 4))
    yield* Effect.sync(() => state.expire()).pipe(Effect.delay(interval), Effect.forever, Effect.forkScoped)
  }
  // Added last, so that it runs before the fibers above are interrupted: what is on its way needs them
  yield* Effect.addFinalizer(() => state.close)
  return { publish: state.publish }
})

// --- internal ---

class State {
  readonly lines: ReadonlyArray<Line>
  readonly #settings: PublisherSettings
  readonly #connection: Connection
  readonly #clock: Clock.Clock
  readonly #toOutgoing: Options["toOutgoing"]
  #nextLine = 0
  /** How many batches have no answer yet. */
  #open = 0
  #isClosed = false
  readonly #closing = new Waiters()

  constructor(
    settings: PublisherSettings,
    connection: Connection,
    clock: Clock.Clock,
    toOutgoing: Options["toOutgoing"]
  ) {
    const { channels, maxInFlight } = settings
    this.lines = Array.from({ length: channels }, () => new Line(Math.ceil(maxInFlight / channels)))
    this.#settings = settings
    this.#connection = connection
    this.#clock = clock
    this.#toOutgoing = toOutgoing
  }

  readonly publish = (messages: ReadonlyArray<Message.Message>): Effect.Effect<void, Broker.PublishError> =>
    Effect.callback((resume) => {
      if (this.#isClosed) return resume(Effect.fail(closed(messages[0]!)))
      const batch = new Batch(messages.length, this.#deadline(), resume, this.#onSettled)
      // All of them before one is counted or sent: a message that cannot go out throws
      const entries = messages.map((message) => new Entry(this.#toOutgoing(message), batch))
      this.#open++
      for (const entry of entries) this.#lineOf(entry.outgoing.message.key).add(entry)
      for (const line of this.lines) line.pump()
      return batch.isSettled ? undefined : Effect.sync(() => batch.abandon())
    })

  readonly #onSettled = (): void => {
    if (--this.#open === 0) this.#closing.wakeAll()
  }

  /** Messages of one key share a line, and keep their order. */
  #lineOf(key: string | Uint8Array | undefined): Line {
    const lines = this.lines
    if (lines.length === 1) return lines[0]!
    if (key === undefined) return lines[this.#nextLine++ % lines.length]!
    let hash = 0
    for (let i = 0; i < key.length; i++) {
      hash = (Math.imul(hash, 31) + (typeof key === "string" ? key.charCodeAt(i) : key[i]!)) | 0
    }
    return lines[(hash >>> 0) % lines.length]!
  }

  #deadline(): number {
    const { publishTimeout } = this.#settings
    return publishTimeout === Infinity ? Infinity : this.#now() + publishTimeout
  }

  /** Milliseconds that a change of the machine's time does not move. */
  #now(): number {
    return Number(this.#clock.monotonicTimeNanosUnsafe()) / 1_000_000
  }

  /** Fails what waits although its time is over. */
  expire(): void {
    const now = this.#now()
    const after = `within ${this.#settings.publishTimeout} ms`
    const problem = this.#connection.problem()
    for (const line of this.lines) line.expire(now, after, problem)
  }

  /** Takes no more, and waits for what is there, within the bound. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#isClosed = true
    return Effect.timeoutOrElse(Effect.interruptible(this.#idle), {
      duration: this.#settings.drainTimeout,
      orElse: () =>
        Effect.sync(() => {
          const reason = new Broker.Closed({ detail: "the layer closed before the server confirmed it" })
          for (const line of this.lines) line.failAll(reason)
        })
    })
  })

  /** Ends when all batches have their answer. */
  readonly #idle: Effect.Effect<void> = this.#closing.until(() => this.#open === 0 ? Effect.void : undefined)
}

const closed = (message: Message.Message): Broker.PublishError =>
  Broker.publishError(message, new Broker.Closed({ detail: "the layer of the RabbitMQ broker is closed" }))
