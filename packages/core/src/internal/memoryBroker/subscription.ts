/** A subscription to a memory broker: what its consumer has in hand, over all of its topics. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Broker from "../../Broker.ts"
import * as Subscriber from "../../Subscriber.ts"
import type { Group, Pending } from "./group.ts"
import { type Held, served, type State } from "./state.ts"
import type { Topic } from "./topic.ts"

/** What the consumer's group has of one topic. */
interface Queue {
  readonly topic: Topic
  readonly group: Group
}

export class Subscription implements Subscriber.Subscription {
  readonly #state: State
  readonly #options: Subscriber.SubscribeOptions
  readonly #queues: ReadonlyArray<Queue>
  readonly #groups: ReadonlySet<Group>
  readonly #inFlight = new Map<Pending, Queue>()
  /** The queue that is served first next time. */
  #first = 0
  #isOpen = true

  private constructor(state: State, options: Subscriber.SubscribeOptions) {
    this.#state = state
    this.#options = options
    this.#queues = options.topics.map((topic) => state.join(topic, options.group, options.ephemeral === true))
    this.#groups = new Set(this.#queues.map(({ group }) => group))
  }

  /** Joins the group of each topic. Its owner closes it. */
  static open(
    state: State,
    options: Subscriber.SubscribeOptions
  ): Effect.Effect<Subscription, Subscriber.SubscribeError> {
    return Effect.suspend(() => {
      if (state.isClosed) return closed(options, "memory broker's layer")
      for (const topic of options.topics) {
        const group = state.groupOf(topic, options.group)
        if (group !== undefined && group.isEphemeral !== (options.ephemeral === true)) {
          return otherKind(options, topic, group)
        }
      }
      return Effect.succeed(new Subscription(state, options))
    })
  }

  readonly onRevoked = (): Effect.Effect<void> => Effect.void

  readonly take: Subscriber.Subscription["take"] = Effect.suspend(() =>
    this.#state.until(() => {
      if (this.#state.isClosed) return closed(this.#options, "memory broker's layer")
      if (!this.#isOpen) return closed(this.#options, "subscription")
      const deliveries = this.#takeReady()
      return Arr.isReadonlyArrayNonEmpty(deliveries) ? Effect.succeed(deliveries) : undefined
    })
  )

  /** Gives back what is unsettled, in order, and leaves the groups. */
  close(): void {
    this.#isOpen = false
    const unsettled = [...this.#inFlight].sort(([a], [b]) => b.entry.offset - a.entry.offset)
    this.#inFlight.clear()
    for (const [pending, { group }] of unsettled) group.giveBack(pending)
    for (const { group, topic } of this.#queues) this.#state.leave(topic, group)
    this.#state.changed()
  }

  #takeReady(): ReadonlyArray<Subscriber.Delivery> {
    const deliveries: Array<Subscriber.Delivery> = []
    // Topics take turns at being first, so that none starves
    for (let i = 0; i < this.#queues.length; i++) {
      const queue = this.#queues[(this.#first + i) % this.#queues.length]!
      while (this.#inFlight.size < this.#options.maxInFlight) {
        const pending = queue.group.take()
        if (pending === undefined) break
        this.#inFlight.set(pending, queue)
        deliveries.push(this.#toDelivery(queue, pending))
      }
    }
    this.#first++
    return deliveries
  }

  #toDelivery({ group, topic }: Queue, pending: Pending): Held {
    const { attempt, entry } = pending
    return {
      [served]: this.#groups,
      message: entry.message,
      attempt,
      origin: { topic: topic.name, offset: String(entry.offset) },
      lane: entry.lane === undefined ? undefined : `${topic.name}/${entry.lane}`,
      isRevoked: () => !this.#inFlight.has(pending),
      ack: Effect.sync(() => {
        if (this.#inFlight.delete(pending)) this.#state.acknowledged(topic, group, entry)
      }),
      nack: Effect.sync(() => {
        if (!this.#inFlight.delete(pending)) return
        group.giveBack(pending)
        this.#state.changed()
      })
    }
  }
}

const closed = (options: Subscriber.SubscribeOptions, what: string) =>
  Effect.fail(Subscriber.subscribeError(options, new Broker.Closed({ detail: `the ${what} is closed` })))

const otherKind = (options: Subscriber.SubscribeOptions, topic: string, group: Group) => {
  const kind = group.isEphemeral ? "ephemeral" : "durable"
  const detail = `the group is ${kind} at topic "${topic}": use another name for this one`
  return Effect.fail(Subscriber.subscribeError(options, new Broker.Rejected({ detail })))
}
