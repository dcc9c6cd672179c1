/** A consumer group: the lanes of its messages, and the members that take from them. */
import * as Message from "@event-flow/core/Message"
import type * as Subscriber from "@event-flow/core/Subscriber"
import type * as Arr from "effect/Array"
import type * as Exit from "effect/Exit"
import type { Process } from "../kernel/process.ts"

/** A message as its topic keeps it. */
export interface Published {
  readonly message: Message.Message
  readonly offset: number
}

/** A message that waits in a lane. */
interface Item extends Published {
  readonly attempt: number
}

/** A message in the hands of a member. */
export interface Held {
  readonly item: Item
  readonly lane: Lane
  readonly member: Member
}

/** The messages of a key in order; a message without a key has a lane of its own. */
export class Lane {
  readonly topic: string
  readonly name: string
  readonly hasKey: boolean
  queue: Array<Item> = []
  held: Array<Held> = []
  readonly done: Array<Item> = []

  constructor(topic: string, name: string, hasKey: boolean) {
    this.topic = topic
    this.name = name
    this.hasKey = hasKey
  }

  give(member: Member): Held {
    const held: Held = { item: this.queue.shift()!, lane: this, member }
    this.held.push(held)
    member.inFlight.add(held)
    return held
  }

  /** Takes a message out of the hands of its member; whether it was in them. */
  letGo(held: Held): boolean {
    if (!held.member.inFlight.delete(held)) return false
    this.held = this.held.filter((other) => other !== held)
    return true
  }

  /** Back to where they were. */
  putBack(items: ReadonlyArray<Item>): void {
    if (items.length === 0) return
    this.queue.push(...items.map((item) => ({ ...item, attempt: item.attempt + 1 })))
    this.queue.sort((a, b) => a.offset - b.offset)
  }

  /** The last acknowledgements are forgotten, and so is what is in hands. */
  rewind(count: number): void {
    for (const held of this.held) {
      this.letGo(held)
      this.putBack([held.item])
    }
    this.putBack(this.done.splice(Math.max(0, this.done.length - count)))
  }
}

type Answer = (
  exit: Exit.Exit<Arr.NonEmptyReadonlyArray<Subscriber.Delivery>, Subscriber.SubscribeError>
) => void

/** One subscription. */
export interface Member {
  readonly process: Process
  readonly options: Subscriber.SubscribeOptions
  readonly inFlight: Set<Held>
  readonly listeners: Set<() => void>
  isOpen: boolean
  /** Who waits for deliveries. */
  waiting: Answer | undefined
}

export class Group {
  readonly name: string
  readonly isEphemeral: boolean
  readonly lanes = new Map<string, Lane>()
  readonly members = new Set<Member>()
  readonly topics = new Set<string>()

  constructor(name: string, isEphemeral: boolean) {
    this.name = name
    this.isEphemeral = isEphemeral
  }

  get unacknowledged(): number {
    let n = 0
    for (const lane of this.lanes.values()) n += lane.queue.length + lane.held.length
    return n
  }

  offer({ message, offset }: Published): void {
    if (!this.topics.has(message.topic)) return
    const key = Message.keyString(message)
    const name = `${message.topic}/${key ?? `#${offset}`}`
    let lane = this.lanes.get(name)
    if (lane === undefined) this.lanes.set(name, lane = new Lane(message.topic, name, key !== undefined))
    lane.queue.push({ message, offset, attempt: 1 })
  }

  /** The lanes that a member may be given a message of. */
  lanesFor(member: Member, prefetch: number): Array<Lane> {
    const lanes: Array<Lane> = []
    for (const lane of this.lanes.values()) {
      if (lane.queue.length === 0 || !member.options.topics.includes(lane.topic)) continue
      const owner = lane.held[0]?.member
      if (owner === undefined || (owner === member && lane.held.length < prefetch)) lanes.push(lane)
    }
    return lanes
  }
}
