/**
 * A broker in memory: topics, keys, consumer groups, acknowledgement and
 * redelivery, bounded, with backpressure. For tests, for one-process programs,
 * and as the reference of what the ports promise.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Broker from "./Broker.ts"
import { Fifo } from "./internal/fifo.ts"
import { deliveryOf } from "./internal/flowContext.ts"
import * as Message from "./Message.ts"
import * as Subscriber from "./Subscriber.ts"

/**
 * Options of the memory broker.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How many messages a group of a topic may have outstanding (waiting or
   * unacknowledged). A publish waits while a group is full; it fails when that
   * group has no consumer, or the topic no group, since then it could wait for
   * ever. What the handler of a message publishes to its own consumer does not
   * wait, for it would wait for itself: it may fill the group to twice the
   * capacity, and fails beyond that. Default: 10,000.
   */
  readonly capacity?: number | undefined
  /**
   * How many messages a topic keeps when every group has acknowledged them, the
   * newest, for groups that come later: a new group starts with the oldest
   * message kept. What a group has not acknowledged is kept as well, and counts.
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
 * A handler that publishes waits while the group of another consumer is full.
 * Two consumers whose handlers publish to each other can fill each other's
 * groups, and then wait for ever. The broker cannot tell that from a consumer
 * that is slow; give such a cycle a `capacity` above what it can have outstanding
 * at once. The same holds for code that takes from a subscription by itself and
 * publishes before it acknowledges.
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
            messages: (topic) => Effect.sync(() => Array.from(state.topic(topic).log(), (entry) => entry.message)),
            pending: Effect.sync(() => state.pending),
            awaitIdle: state.awaitIdle
          })
        )
      )
    })
  )

// --- internal ---

/** A message as its topic keeps it, in a list. `open`: the groups that have not acknowledged it. */
interface Entry {
  readonly message: Message.Message
  readonly lane: string | undefined
  readonly offset: number
  open: number
  previous: Entry | undefined
  next: Entry | undefined
}

/** A delivery that knows which groups the consumer serves that has it. */
interface Held extends Subscriber.Delivery {
  readonly [served]: ReadonlySet<Group>
}

const served: unique symbol = Symbol("@event-flow/core/MemoryBroker/served")

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
  readonly groups = new Map<string, Group>()
  readonly #retention: number
  #first: Entry | undefined = undefined
  #last: Entry | undefined = undefined
  #nextOffset = 0
  size = 0
  /** How many entries every group has acknowledged; none is before `#oldestSettled`. */
  #settled = 0
  #oldestSettled: Entry | undefined = undefined

  constructor(retention: number) {
    this.#retention = retention
  }

  /** The messages kept, the oldest first. */
  *log(): IterableIterator<Entry> {
    for (let entry = this.#first; entry !== undefined; entry = entry.next) yield entry
  }

  append(message: Message.Message): void {
    const entry: Entry = {
      message,
      lane: Message.keyString(message),
      offset: this.#nextOffset++,
      open: this.groups.size,
      previous: this.#last,
      next: undefined
    }
    if (this.#last === undefined) this.#first = entry
    else this.#last.next = entry
    this.#last = entry
    this.size++
    for (const group of this.groups.values()) group.offer(entry)
    this.#trim()
  }

  /** The group, which starts with the oldest message kept. */
  group(name: string): Group {
    const existing = this.groups.get(name)
    if (existing !== undefined) return existing
    const group = new Group()
    this.groups.set(name, group)
    for (const entry of this.log()) {
      entry.open++
      group.offer(entry)
    }
    this.#settled = 0
    this.#oldestSettled = undefined
    return group
  }

  acknowledged(group: Group, entry: Entry): void {
    group.acknowledged(entry)
    if (--entry.open > 0) return
    this.#settled++
    if (this.#oldestSettled === undefined || entry.offset < this.#oldestSettled.offset) this.#oldestSettled = entry
    this.#trim()
  }

  /** Forgets the oldest settled messages beyond what is retained, those behind an unsettled one too. */
  #trim(): void {
    while (this.size > this.#retention && this.#settled > 0) {
      let entry = this.#oldestSettled!
      while (entry.open > 0) entry = entry.next!
      this.#oldestSettled = entry.next
      this.#settled--
      this.#remove(entry)
    }
  }

  #remove(entry: Entry): void {
    const { next, previous } = entry
    if (previous === undefined) this.#first = next
    else previous.next = next
    if (next === undefined) this.#last = previous
    else next.previous = previous
    // Whoever still has its delivery must not hold on to the rest of the log
    entry.previous = entry.next = undefined
    this.size--
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
    const topic = new Topic(this.#retention)
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
    Effect.withFiber((fiber) => {
      let index = 0
      return this.#changed.until(() => {
        const before = index
        try {
          for (; index < messages.length; index++) {
            const message = messages[index]!
            Message.assertWhole(message)
            const admitted = this.#admit(message, fiber.context)
            if (admitted !== true) return admitted
            const topic = this.topic(message.topic)
            topic.append(message)
            this.pending += topic.groups.size
          }
          return Effect.void
        } finally {
          // What was appended is there to be consumed, whatever becomes of the rest
          if (index > before) this.#changed.wakeAll()
        }
      })
    })

  /** Whether there is room; undefined: not now. */
  #admit(
    message: Message.Message,
    publisher: Context.Context<never>
  ): true | undefined | Effect.Effect<never, Broker.PublishError> {
    const fail = (reason: Broker.PublishReason) => Effect.fail(Broker.publishError(message, reason))
    if (this.#isClosed) return fail(new Broker.Closed({ detail: "the memory broker's layer is closed" }))
    const topic = this.topic(message.topic)
    if (topic.groups.size === 0 && topic.size >= this.#capacity) {
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
      // Who works on a message of the consumer that serves the group would wait for itself
      if ((deliveryOf(publisher) as Held | undefined)?.[served]?.has(group) !== true) return undefined
      if (group.pending < 2 * this.#capacity) continue
      return fail(
        new Broker.Rejected({
          detail: `group "${name}" has ${group.pending} messages outstanding, and its own consumer publishes more: ` +
            "raise capacity"
        })
      )
    }
    return true
  }

  readonly subscribe: Subscriber.Subscriber["Service"]["subscribe"] = ({ group, maxInFlight, topics }) =>
    Effect.gen({ self: this }, function*() {
      const closed = (what: string) =>
        Effect.fail(
          Subscriber.subscribeError({ topics, group }, new Broker.Closed({ detail: `the ${what} is closed` }))
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
      const groups = new Set(queues.map(({ state }) => state))
      const inFlight = new Map<Pending, Group>()
      let first = 0
      let isOpen = true

      const settle = (pending: Pending): Group | undefined => {
        const state = inFlight.get(pending)
        inFlight.delete(pending)
        return state
      }

      const toDelivery = (name: string, topic: Topic, pending: Pending): Held => ({
        [served]: groups,
        message: pending.entry.message,
        attempt: pending.attempt,
        origin: { topic: name, offset: String(pending.entry.offset) },
        lane: pending.entry.lane === undefined ? undefined : `${name}/${pending.entry.lane}`,
        isRevoked: () => !inFlight.has(pending),
        ack: Effect.sync(() => {
          const state = settle(pending)
          if (state === undefined) return
          topic.acknowledged(state, pending.entry)
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
        return Arr.isReadonlyArrayNonEmpty(deliveries) ? Effect.succeed(deliveries) : undefined
      })

      return { take, onRevoked: () => Effect.void }
    })
}
