/** The topics of a memory broker, what may be published to them, and who waits for that. */
import type * as Arr from "effect/Array"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Broker from "../../Broker.ts"
import { assertWhole, Waiters } from "../../BrokerLayer.ts"
import type * as Message from "../../Message.ts"
import type * as Subscriber from "../../Subscriber.ts"
import { consumedOf } from "../dispatch/flow.ts"
import type { Entry, Group } from "./group.ts"
import { Topic } from "./topic.ts"

/** A delivery that knows which groups the consumer serves that has it. */
export interface Held extends Subscriber.Delivery {
  readonly [served]: ReadonlySet<Group>
}

export const served: unique symbol = Symbol("@event-flow/core/MemoryBroker/served")

export class State {
  readonly #topics = new Map<string, Topic>()
  readonly #capacity: number
  readonly #retention: number
  readonly #changed = new Waiters()
  readonly #idle = new Waiters()
  /** How many messages groups have not acknowledged, over all topics. */
  #pending = 0
  #isClosed = false

  constructor(options: { readonly capacity: number; readonly retention: number }) {
    this.#capacity = options.capacity
    this.#retention = options.retention
  }

  get pending(): number {
    return this.#pending
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  close(): void {
    this.#isClosed = true
    this.changed()
  }

  /** There may be room to publish, or something to take: whoever waits looks again. */
  changed(): void {
    this.#changed.wakeAll()
    if (this.#pending === 0) this.#idle.wakeAll()
  }

  /** Waits until `look` finds something; it looks again after each change. */
  until<A, E>(look: () => Effect.Effect<A, E> | undefined): Effect.Effect<A, E> {
    return this.#changed.until(look)
  }

  get topics(): ReadonlyArray<string> {
    return [...this.#topics.keys()]
  }

  /** The messages that a topic keeps. */
  messages(topic: string): ReadonlyArray<Message.Message> {
    return Array.from(this.#topics.get(topic)?.log() ?? [], ({ message }) => message)
  }

  groupOf(topic: string, group: string): Group | undefined {
    return this.#topics.get(topic)?.groups.get(group)
  }

  /** One more consumer of a group. */
  join(topicName: string, groupName: string, isEphemeral: boolean): { readonly topic: Topic; readonly group: Group } {
    const topic = this.#topic(topicName)
    const isNew = !topic.groups.has(groupName)
    const group = topic.group(groupName, isEphemeral)
    if (isNew) this.#pending += group.pending
    group.consumers++
    return { topic, group }
  }

  /** One consumer less; an ephemeral group goes with its last one. The caller tells of the change. */
  leave(topic: Topic, group: Group): void {
    if (--group.consumers === 0 && group.isEphemeral) this.#forget(topic, group)
  }

  /** Forgets a group, unless it has consumers: gives the topics of those. */
  unsubscribe(groupName: string): ReadonlyArray<string> {
    const topics = Array.from(this.#topics.values(), (topic) => ({ topic, group: topic.groups.get(groupName) }))
    const inUse = topics.filter(({ group }) => group !== undefined && group.consumers > 0)
    if (inUse.length > 0) return inUse.map(({ topic }) => topic.name)
    for (const { group, topic } of topics) {
      if (group !== undefined) this.#forget(topic, group)
    }
    this.changed()
    return []
  }

  acknowledged(topic: Topic, group: Group, entry: Entry): void {
    topic.acknowledged(group, entry)
    this.#pending--
    this.changed()
  }

  readonly awaitIdle: Effect.Effect<void> = this.#idle.until(() => this.#pending === 0 ? Effect.void : undefined)

  readonly publish = (
    messages: Arr.NonEmptyReadonlyArray<Message.Message>
  ): Effect.Effect<void, Broker.PublishError> =>
    Effect.withFiber((fiber) => {
      const warnings: Array<string> = []
      let index = 0
      return this.until(() => {
        const before = index
        try {
          for (; index < messages.length; index++) {
            const message = messages[index]!
            assertWhole(message)
            const admitted = this.#admit(message, fiber.context)
            if (admitted !== true) return admitted
            this.#append(message, warnings)
          }
          return warnings.length === 0 ? Effect.void : Effect.logWarning(...warnings)
        } finally {
          // What was appended is there to be consumed, whatever becomes of the rest
          if (index > before) this.changed()
        }
      })
    })

  #append(message: Message.Message, warnings: Array<string>): void {
    const topic = this.#topic(message.topic)
    const { hasDroppedUnread } = topic
    topic.append(message)
    this.#pending += topic.groups.size
    if (topic.hasDroppedUnread && !hasDroppedUnread) {
      warnings.push(
        `No group has subscribed to topic "${topic.name}": it keeps the newest ${this.#retention} messages ` +
          "(`retention`) and drops the others"
      )
    }
    this.#forgetIfEmpty(topic)
  }

  /** Whether there is room; undefined: not now. */
  #admit(
    message: Message.Message,
    publisher: Context.Context<never>
  ): true | undefined | Effect.Effect<never, Broker.PublishError> {
    const fail = (reason: Broker.PublishReason) => Effect.fail(Broker.publishError(message, reason))
    if (this.#isClosed) return fail(new Broker.Closed({ detail: "the memory broker's layer is closed" }))
    for (const group of this.#topics.get(message.topic)?.groups.values() ?? []) {
      if (group.pending < this.#capacity) continue
      const outstanding = `group "${group.name}" has ${group.pending} messages outstanding`
      if (group.consumers === 0) {
        return fail(
          new Broker.Rejected({ detail: `${outstanding} and no consumer: start one, or unsubscribe the group` })
        )
      }
      // Who works on a message of the consumer that serves the group would wait for itself
      if ((consumedOf(publisher)?.delivery as Held | undefined)?.[served]?.has(group) !== true) return undefined
      if (group.pending < 2 * this.#capacity) continue
      return fail(
        new Broker.Rejected({ detail: `${outstanding}, and its own consumer publishes more: raise capacity` })
      )
    }
    return true
  }

  #topic(name: string): Topic {
    const existing = this.#topics.get(name)
    if (existing !== undefined) return existing
    const topic = new Topic(name, this.#retention)
    this.#topics.set(name, topic)
    return topic
  }

  #forget(topic: Topic, group: Group): void {
    this.#pending -= group.pending
    topic.forget(group)
    this.#forgetIfEmpty(topic)
  }

  #forgetIfEmpty(topic: Topic): void {
    if (topic.isEmpty) this.#topics.delete(topic.name)
  }
}
