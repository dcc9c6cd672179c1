/**
 * A broker in memory: topics, keys, consumer groups, acknowledgement and
 * redelivery, bounded, with backpressure. For tests, for one-process programs,
 * and as the reference of what the ports promise.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Broker from "./Broker.ts"
import * as Message from "./Message.ts"
import * as Subscriber from "./Subscriber.ts"

/**
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How many messages a group of a topic may have outstanding (waiting or
   * unacknowledged). A publish waits while a group is full; it fails when that
   * group has no consumer, or the topic no group, since then it could wait for
   * ever. Default: 10,000.
   */
  readonly capacity?: number | undefined
  /**
   * How many messages a topic keeps after every group has acknowledged them, for
   * groups that come later: a new group starts with the oldest message kept.
   * Default: 1,000.
   */
  readonly retention?: number | undefined
}

/**
 * A look inside the broker, for tests and dashboards.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class MemoryBroker extends Context.Service<MemoryBroker, {
  /** The messages that a topic keeps, the oldest first. */
  readonly messages: (topic: string) => Effect.Effect<ReadonlyArray<Message.Message>>
  /** How many messages groups have outstanding, over all topics. */
  readonly pending: Effect.Effect<number>
  /** Waits until no group has a message outstanding. */
  readonly awaitIdle: Effect.Effect<void>
}>()("@event-flow/core/MemoryBroker") {}

/**
 * A broker and subscriber in memory.
 *
 * **Details**
 *
 * Messages of one key are delivered to a group one at a time: the next one when
 * the one before is acknowledged, whatever the number of consumers. Messages
 * without a key are delivered in the order of publishing, any number at once.
 *
 * **Gotchas**
 *
 * It is bounded: where nobody consumes a topic, publishing to it fails once
 * `capacity` messages are there.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: Options
): Layer.Layer<Broker.Broker | Subscriber.Subscriber | MemoryBroker> =>
  Layer.effectContext(
    Effect.gen(function*() {
      const state = new State(options?.capacity ?? 10_000, options?.retention ?? 1_000)
      yield* Effect.addFinalizer(() => Effect.sync(() => state.close()))
      return Context.make(Broker.Broker, Broker.Broker.of({ name: "memory", publish: state.publish })).pipe(
        Context.add(Subscriber.Subscriber, Subscriber.Subscriber.of({ name: "memory", subscribe: state.subscribe })),
        Context.add(
          MemoryBroker,
          MemoryBroker.of({
            messages: (topic) => Effect.sync(() => Array.from(state.topic(topic).log, (entry) => entry.message)),
            pending: Effect.sync(() => state.pending),
            awaitIdle: state.awaitIdle
          })
        )
      )
    })
  )

// --- internal ---

/** A message as its topic keeps it. `open`: the groups that have not acknowledged it. */
interface Entry {
  readonly message: Message.Message
  readonly lane: string | undefined
  readonly offset: number
  open: number
}

/** Effects that wait for something to change; each looks again when woken. */
class Waiters {
  #resumes = new Set<() => void>()
  #changes = 0

  /**
   * Looks, and looks again after each change until there is something. A fiber
   * may yield between looking and waiting, so a change in between counts too.
   */
  until<A, E>(look: () => Effect.Effect<A, E> | undefined): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      const seen = this.#changes
      return look() ?? Effect.andThen(this.#after(seen), this.until(look))
    })
  }

  #after(seen: number): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const wake = () => resume(Effect.void)
      if (this.#changes !== seen) return wake()
      this.#resumes.add(wake)
      return Effect.sync(() => {
        this.#resumes.delete(wake)
      })
    })
  }

  wakeAll(): void {
    this.#changes++
    if (this.#resumes.size === 0) return
    const resumes = this.#resumes
    this.#resumes = new Set()
    for (const wake of resumes) wake()
  }
}

/** A first-in-first-out queue without shifting, and a way back to its front. */
class Fifo<A> implements Iterable<A> {
  #items: Array<A | undefined> = []
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  push(item: A): void {
    this.#items.push(item)
  }

  unshift(item: A): void {
    if (this.#head > 0) this.#items[--this.#head] = item
    else this.#items.unshift(item)
  }

  peek(): A | undefined {
    return this.#items[this.#head]
  }

  *[Symbol.iterator](): IterableIterator<A> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i]!
  }

  shift(): A | undefined {
    if (this.size === 0) return undefined
    const item = this.#items[this.#head]
    this.#items[this.#head++] = undefined
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }
}

/** One delivery of an entry to a group, made or still to be made. */
interface Pending {
  readonly entry: Entry
  readonly attempt: number
}

/** What one consumer group has of one topic. */
class Group {
  readonly ready = new Fifo<Pending>()
  /** Lanes with a message ready or unacknowledged, and the messages that wait behind it. */
  readonly #lanes = new Map<string, Fifo<Pending>>()
  pending = 0
  consumers = 0

  offer(entry: Entry): void {
    const pending: Pending = { entry, attempt: 1 }
    this.pending++
    const waiting = entry.lane === undefined ? undefined : this.#lanes.get(entry.lane)
    if (waiting !== undefined) {
      waiting.push(pending)
      return
    }
    if (entry.lane !== undefined) this.#lanes.set(entry.lane, new Fifo())
    this.ready.push(pending)
  }

  acknowledged({ lane }: Entry): void {
    this.pending--
    if (lane === undefined) return
    const next = this.#lanes.get(lane)?.shift()
    if (next === undefined) this.#lanes.delete(lane)
    else this.ready.push(next)
  }
}

class Topic {
  readonly log = new Fifo<Entry>()
  readonly groups = new Map<string, Group>()
  #nextOffset = 0

  append(message: Message.Message): void {
    const entry: Entry = {
      message,
      lane: Message.keyString(message),
      offset: this.#nextOffset++,
      open: this.groups.size
    }
    this.log.push(entry)
    for (const group of this.groups.values()) group.offer(entry)
  }

  /** The group, which starts with the oldest message kept. */
  group(name: string): Group {
    const existing = this.groups.get(name)
    if (existing !== undefined) return existing
    const group = new Group()
    this.groups.set(name, group)
    for (const entry of this.log) {
      entry.open++
      group.offer(entry)
    }
    return group
  }

  /** Forgets the oldest messages beyond `retention` that every group has acknowledged. */
  trim(retention: number): void {
    if (this.groups.size === 0) return
    while (this.log.size > retention && this.log.peek()?.open === 0) this.log.shift()
  }
}

class State {
  readonly #topics = new Map<string, Topic>()
  readonly #capacity: number
  readonly #retention: number
  readonly #changed = new Waiters()
  readonly #idle = new Waiters()
  pending = 0
  #isClosed = false

  constructor(capacity: number, retention: number) {
    this.#capacity = capacity
    this.#retention = retention
  }

  topic(name: string): Topic {
    const existing = this.#topics.get(name)
    if (existing !== undefined) return existing
    const topic = new Topic()
    this.#topics.set(name, topic)
    return topic
  }

  close(): void {
    this.#isClosed = true
    this.#changed.wakeAll()
  }

  readonly awaitIdle: Effect.Effect<void> = this.#idle.until(() => this.pending === 0 ? Effect.void : undefined)

  readonly publish = (
    messages: Arr.NonEmptyReadonlyArray<Message.Message>
  ): Effect.Effect<void, Broker.PublishError> =>
    Effect.suspend(() => {
      let index = 0
      return this.#changed.until(() => {
        const before = index
        try {
          for (; index < messages.length; index++) {
            const message = messages[index]!
            const admitted = this.#admit(message)
            if (admitted !== true) return admitted
            const topic = this.topic(message.topic)
            topic.append(message)
            this.pending += topic.groups.size
            topic.trim(this.#retention)
          }
          return Effect.void
        } finally {
          // What was appended is there to be consumed, whatever becomes of the rest
          if (index > before) this.#changed.wakeAll()
        }
      })
    })

  /** Whether there is room; undefined: not now. */
  #admit(message: Message.Message): true | undefined | Effect.Effect<never, Broker.PublishError> {
    const fail = (reason: Broker.PublishReason) => Effect.fail(Broker.publishError(message, reason))
    if (this.#isClosed) return fail(new Broker.Closed({ detail: "the memory broker's layer is closed" }))
    const topic = this.topic(message.topic)
    if (topic.groups.size === 0 && topic.log.size >= this.#capacity) {
      return fail(
        new Broker.Rejected({
          detail: `${this.#capacity} messages wait in the topic, and no group consumes it: subscribe, or raise capacity`
        })
      )
    }
    for (const [name, group] of topic.groups) {
      if (group.pending < this.#capacity) continue
      if (group.consumers === 0) {
        return fail(
          new Broker.Rejected({
            detail: `group "${name}" has ${group.pending} messages outstanding and no consumer`
          })
        )
      }
      return undefined
    }
    return true
  }

  readonly subscribe: Subscriber.Subscriber["Service"]["subscribe"] = ({ group, maxInFlight, topics }) =>
    Effect.gen({ self: this }, function*() {
      const closed = (what: string) =>
        Effect.fail(
          new Subscriber.SubscribeError({ topics, group, reason: "Closed", detail: `the ${what} is closed` })
        )
      if (this.#isClosed) return yield* closed("memory broker's layer")
      const queues = topics.map((name) => {
        const topic = this.topic(name)
        const before = topic.groups.get(group)?.pending ?? 0
        const state = topic.group(group)
        this.pending += state.pending - before
        state.consumers++
        return { name, topic, state }
      })
      const inFlight = new Map<Pending, Group>()
      let first = 0
      let isOpen = true

      const settle = (pending: Pending): Group | undefined => {
        const state = inFlight.get(pending)
        inFlight.delete(pending)
        return state
      }

      const toDelivery = (name: string, topic: Topic, pending: Pending): Subscriber.Delivery => ({
        message: pending.entry.message,
        attempt: pending.attempt,
        origin: { topic: name, offset: String(pending.entry.offset) },
        lane: pending.entry.lane === undefined ? undefined : `${name}/${pending.entry.lane}`,
        isRevoked: () => !inFlight.has(pending),
        ack: Effect.sync(() => {
          const state = settle(pending)
          if (state === undefined) return
          pending.entry.open--
          state.acknowledged(pending.entry)
          topic.trim(this.#retention)
          this.#changed.wakeAll()
          if (--this.pending === 0) this.#idle.wakeAll()
        }),
        nack: Effect.sync(() => {
          const state = settle(pending)
          if (state === undefined) return
          giveBack(state, pending)
          this.#changed.wakeAll()
        })
      })

      // A copy: what an old delivery does must not settle the new one
      const giveBack = (state: Group, pending: Pending) =>
        state.ready.unshift({ entry: pending.entry, attempt: pending.attempt + 1 })

      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          isOpen = false
          const unsettled = [...inFlight].sort(([a], [b]) => b.entry.offset - a.entry.offset)
          inFlight.clear()
          for (const [pending, state] of unsettled) giveBack(state, pending)
          for (const { state } of queues) state.consumers--
          this.#changed.wakeAll()
        })
      )

      const takeReady = (): ReadonlyArray<Subscriber.Delivery> => {
        const deliveries: Array<Subscriber.Delivery> = []
        // Topics take turns at being first, so that none starves
        for (let i = 0; i < queues.length; i++) {
          const { name, state, topic } = queues[(first + i) % queues.length]!
          while (inFlight.size < maxInFlight) {
            const pending = state.ready.shift()
            if (pending === undefined) break
            inFlight.set(pending, state)
            deliveries.push(toDelivery(name, topic, pending))
          }
        }
        first++
        return deliveries
      }

      const take: Subscriber.Subscription["take"] = this.#changed.until(() => {
        if (this.#isClosed) return closed("memory broker's layer")
        if (!isOpen) return closed("subscription")
        const deliveries = takeReady()
        return isNonEmpty(deliveries) ? Effect.succeed(deliveries) : undefined
      })

      return { take, onRevoked: () => Effect.void }
    })
}

const isNonEmpty = <A>(array: ReadonlyArray<A>): array is Arr.NonEmptyReadonlyArray<A> => array.length > 0
