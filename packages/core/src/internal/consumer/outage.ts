/**
 * Tells a message that cannot be handled from a dependency that is away: when
 * several messages in a row fail in the same way, the consumer pauses and tries
 * one of them from time to time.
 *
 * A failed message that waits here is *held*: it is unacknowledged, it is first
 * in its lane, and no worker has it.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { Waiters } from "../../BrokerLayer.ts"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import type { Delivery } from "../../Subscriber.ts"
import * as Telemetry from "../../Telemetry.ts"
import { describe, describeId } from "../describe.ts"
import type { History } from "./history.ts"
import type { Gate } from "./lanes.ts"
import { kindOf, underlying } from "./reasons.ts"

/** In milliseconds; see `EventConsumer.fields`. */
export interface Options {
  readonly after: number
  readonly patience: number
  readonly firstProbe: number
  readonly maxProbe: number
  readonly maxPause: number
}

/** A failure that a dependency may have caused. */
export type Suspicious = ConsumerPolicy.HandlerFailed | ConsumerPolicy.HandlerDied | ConsumerPolicy.InboxFailed

/**
 * Whether a failure may be that of a dependency. What cannot be decoded never is.
 * Where the policy puts a typed error aside without a retry, it says that the
 * error is the message's own; where it postpones it, that others need not wait.
 */
export const isSuspicious = (
  failure: ConsumerPolicy.Failure,
  decision: ConsumerPolicy.Decision | undefined
): failure is Suspicious =>
  failure._tag === "HandlerFailed"
    ? decision?._tag === "Retry" && decision.otherwise._tag !== "Postpone"
    : failure._tag !== "Undecodable"

/** Messages that failed one after the other in the same way. */
interface Row {
  /** Events whose handling would show that this kind of failure is over. */
  readonly events: Set<string>
  count: number
}

interface Pause {
  readonly since: number
  readonly events: ReadonlySet<string>
  failure: Suspicious
  isProbing: boolean
  /** Whether the last message that was tried failed as well. */
  hasFailed: boolean
  /** How long to wait before the next message is tried. */
  wait: number
  /** When it is tried; undefined: not said yet. */
  probeAt: number | undefined
}

interface Held {
  readonly history: History
  /** When it is tried again; undefined: when the pause is over. */
  readonly until: number | undefined
}

export interface State {
  readonly since: number
  readonly failure: Suspicious
  readonly held: number
}

export class Outage {
  readonly #group: string
  readonly #options: Options
  /** By kind of failure. */
  readonly #rows = new Map<string, Row>()
  readonly #held = new Map<Delivery, Held>()
  /** By tag of the event; counted only while something is wrong. */
  readonly #handled = new Map<string, number>()
  readonly #news: Array<Effect.Effect<void>> = []
  readonly #waiters = new Waiters()
  #changes = 0
  #gate: Gate<Delivery> | undefined = undefined
  #pause: Pause | undefined = undefined
  /** Told when a pause begins, with its reason, and when it ends. */
  onChange: (reason: string | undefined) => void = () => undefined
  /** Whether there is nothing to tell of messages that are handled. */
  isCalm = true

  constructor(group: string, options: Options) {
    this.#group = group
    this.#options = options
  }

  governs(gate: Gate<Delivery>): void {
    this.#gate = gate
    gate.onProbed = () => this.#probed()
  }

  get isPaused(): boolean {
    return this.#pause !== undefined
  }

  /** Undefined: it is not paused. */
  get state(): State | undefined {
    const pause = this.#pause
    return pause && { since: pause.since, failure: pause.failure, held: this.#held.size }
  }

  /** Whether the pause lasts for longer than messages are held. */
  isOverdue(now: number): boolean {
    return this.#pause !== undefined && now - this.#pause.since >= this.#options.maxPause
  }

  /** An attempt failed. */
  failed(delivery: Delivery, history: History, failure: Suspicious, now: number): void {
    this.isCalm = false
    const row = this.#rowOf(failure)
    row.events.add(failure.event._tag)
    const handled = this.#handledOf(failure)
    if (history.handledWhenFailed !== undefined && handled > history.handledWhenFailed) history.ownFailures++
    history.handledWhenFailed = handled
    if (!history.isCounted) {
      history.isCounted = true
      row.count++
    }
    if (this.#pause === undefined) {
      if (row.count >= this.#options.after) this.#startPause(row, failure, now)
    } else if (this.#gate!.isProbe(delivery)) {
      this.#pause.failure = failure
      this.#pause.hasFailed = true
    }
  }

  /**
   * Whether to hold a message that the policy would put aside, and try it once
   * more after a while: meanwhile others may show whose fault it is.
   */
  isHeldFirst(history: History, failure: Suspicious, now: number): boolean {
    const { after, patience } = this.#options
    if (patience === 0 || history.ownFailures >= enoughOwnFailures) return false
    if (history.handledWhenHeld === undefined) {
      history.handledWhenHeld = this.#handledOf(failure)
      return true
    }
    // Others were handled meanwhile, or nothing else tells of an outage
    if (this.#handledOf(failure) > history.handledWhenHeld || this.#held.size + 1 < after) return false
    this.#startPause(this.#rowOf(failure), failure, now)
    return true
  }

  hold(delivery: Delivery, history: History, now: number): void {
    this.isCalm = false
    this.#held.set(delivery, { history, until: this.isPaused ? undefined : now + this.#options.patience })
    this.#gate!.hold(delivery)
    this.#changed()
  }

  /** A delivery is in the hands of a worker; gives its history, if it was held. */
  taken(delivery: Delivery): History | undefined {
    const held = this.#held.get(delivery)
    if (held !== undefined) this.forget(delivery)
    return held?.history
  }

  /** A delivery was given back. */
  forget(delivery: Delivery): void {
    if (this.#held.delete(delivery)) this.#settle()
  }

  /** A message with such an event was handled. */
  handled(event: string): void {
    this.#handled.set(event, (this.#handled.get(event) ?? 0) + 1)
    for (const [kind, { events }] of this.#rows) {
      if (events.has(event)) this.#rows.delete(kind)
    }
    if (this.#pause?.events.has(event) === true) this.#endPause()
    this.#settle()
  }

  /** Runs for as long as the consumer does. */
  readonly run: Effect.Effect<never> = Effect.gen({ self: this }, function*() {
    while (true) {
      const seen = this.#changes
      const now = yield* Clock.currentTimeMillis
      yield* Effect.all(this.#news.splice(0), { discard: true })
      const due = this.#pause === undefined ? this.#release(now) : this.#probe(this.#pause, now)
      const changed = this.#waiters.until(() => this.#changes === seen ? undefined : Effect.void)
      yield* due === undefined ? changed : Effect.timeoutOption(changed, due - now)
    }
  })

  #startPause({ events }: Row, failure: Suspicious, now: number): void {
    const wait = this.#options.firstProbe
    this.#pause = {
      since: now,
      events,
      failure,
      isProbing: false,
      hasFailed: false,
      wait,
      probeAt: now + wait
    }
    this.#gate!.pause()
    this.onChange(describe(underlying(failure)))
    this.#news.push(this.#logPause(failure), Metric.update(this.#gauge, 1))
    this.#changed()
  }

  #endPause(): void {
    const { since } = this.#pause!
    this.#pause = undefined
    // Their retries begin anew
    for (const { history } of this.#held.values()) {
      history.schedules.clear()
      history.handledWhenHeld = undefined
    }
    this.#news.push(
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.logInfo(
          `Consumer "${this.#group}" goes on after a pause of ${inWords(now - since)}: a message was handled`
        )),
      Metric.update(this.#gauge, 0)
    )
    this.#gate!.resume()
    this.onChange(undefined)
    this.#changed()
  }

  /** Lets go of what was held for long enough; gives the time when there is more to do. */
  #release(now: number): number | undefined {
    let next: number | undefined = undefined
    for (const [delivery, { until }] of this.#held) {
      // What was held in a pause that is over is on its way
      if (until === undefined) continue
      if (until <= now) this.#gate!.release(delivery)
      else if (next === undefined || until < next) next = until
    }
    return next
  }

  #probe(pause: Pause, now: number): number | undefined {
    if (pause.isProbing) return undefined
    pause.probeAt ??= now + pause.wait
    if (pause.probeAt > now) return pause.probeAt
    pause.isProbing = true
    pause.hasFailed = false
    this.#gate!.probe()
    return undefined
  }

  /** The message that was tried is with no worker any more. */
  #probed(): void {
    const pause = this.#pause
    if (pause === undefined) return
    pause.isProbing = false
    if (pause.hasFailed) {
      pause.wait = Math.min(2 * pause.wait, this.#options.maxProbe)
      pause.probeAt = undefined
      this.#news.push(this.#logProbe(pause, pause.failure, pause.wait))
    } else {
      // It was of another kind, and tells nothing: the next one at once
      pause.probeAt = 0
    }
    this.#changed()
  }

  #logPause(failure: Suspicious): Effect.Effect<void> {
    return Effect.logWarning(
      `Consumer "${this.#group}" pauses: several messages in a row failed in the same way, so a dependency may be ` +
        `away. It tries one message from time to time, the first in ${
          inWords(this.#options.firstProbe)
        }, and goes on ` +
        "when one is handled",
      describe(underlying(failure))
    )
  }

  #logProbe({ since }: Pause, failure: Suspicious, wait: number): Effect.Effect<void> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.logWarning(
        `Consumer "${this.#group}" stays paused after ${inWords(now - since)}: message ` +
          `${describeId(failure.message)} of topic "${failure.message.topic}" failed again. It tries the next one in ` +
          inWords(wait),
        describe(underlying(failure))
      ))
  }

  get #gauge(): Metric.Gauge<number> {
    return Metric.withAttributes(Telemetry.pausedConsumers, { "messaging.consumer.group.name": this.#group })
  }

  #rowOf(failure: Suspicious): Row {
    const kind = kindOf(failure)
    const existing = this.#rows.get(kind)
    if (existing !== undefined) return existing
    const row: Row = { events: new Set(), count: 0 }
    this.#rows.set(kind, row)
    return row
  }

  #handledOf({ event }: Suspicious): number {
    return this.#handled.get(event._tag) ?? 0
  }

  #settle(): void {
    this.isCalm = this.#rows.size === 0 && this.#held.size === 0 && this.#pause === undefined
  }

  #changed(): void {
    this.#changes++
    this.#waiters.wakeAll()
  }
}

// --- internal ---

/** An outage that comes and goes may let one message pass and not another, but hardly again and again. */
const enoughOwnFailures = 3

const inWords = (millis: number): string => Duration.format(Duration.millis(millis))
