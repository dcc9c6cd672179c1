/**
 * The broker between the processes, behind the ports of core: topics, keys, groups, redelivery, outages, rebalances. It
 * outlives every process.
 */
import * as Broker from "@event-flow/core/Broker"
import type { Message } from "@event-flow/core/Message"
import * as MessageModule from "@event-flow/core/Message"
import * as Subscriber from "@event-flow/core/Subscriber"
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Process } from "../kernel/process.ts"
import { processOf } from "../kernel/scheduler.ts"
import type { World } from "../kernel/world.ts"
import { hash, Prng } from "../seeded.ts"
import { Group, type Held, type Lane, type Member, type Published } from "./group.ts"

/** What a process has of the broker. */
interface Connection {
  isOpen: boolean
  /** Closes its subscriptions. */
  readonly closers: Set<() => void>
}

/** After how long a broker takes a consumer that does not answer for dead. */
const sessionTimeout = 1000

export class SimulatedBroker {
  readonly #world: World
  readonly #random: Prng
  /** How many messages of a lane a member has in hand, at most. */
  readonly prefetch: number
  readonly #topics = new Map<string, Array<Published>>()
  readonly #groups = new Map<string, Group>()
  #isAway = false

  constructor(world: World) {
    this.#world = world
    this.#random = new Prng(hash(world.seed, "broker"))
    this.prefetch = this.#isInOrder ? 4 : 1 + (hash(world.seed, "prefetch") % 4)
  }

  /** A connection: whoever has it publishes and subscribes until it is closed. */
  readonly layer: Layer.Layer<Broker.Broker | Subscriber.Subscriber> = Layer.effectContext(
    Effect.acquireRelease(
      Effect.sync((): Connection => ({ isOpen: true, closers: new Set() })),
      (connection) =>
        Effect.sync(() => {
          connection.isOpen = false
          for (const close of connection.closers) close()
        })
    ).pipe(Effect.map((connection) =>
      Context.make(
        Broker.Broker,
        Broker.Broker.of({ name: "simulated", publish: (messages) => this.#publish(connection, messages) })
      ).pipe(Context.add(
        Subscriber.Subscriber,
        Subscriber.Subscriber.of({ name: "simulated", subscribe: (options) => this.#subscribe(connection, options) })
      ))
    ))
  )

  /** What was published to a topic. */
  published(topic: string): ReadonlyArray<Published> {
    return this.#topics.get(topic) ?? []
  }

  /** How many messages groups have not acknowledged. */
  get unacknowledged(): number {
    let n = 0
    for (const group of this.#groups.values()) n += group.unacknowledged
    return n
  }

  outage(millis: number): void {
    this.#isAway = true
    this.#world.tell("broker", `is away for ${millis} ms`, true)
    for (const member of this.#members()) this.#revoke(member, 0)
    this.#world.outside.after(millis, () => this.comeBack())
  }

  comeBack(): void {
    this.#isAway = false
    this.#serve()
  }

  /** Takes the messages of one member, which hears of it later; whether there was one with messages. */
  rebalance(heardAfter: number, pick: number): boolean {
    const members = this.#members()
    const member = members[pick % members.length]
    if (member === undefined) return false
    this.#world.tell(
      "broker",
      `takes ${member.inFlight.size} message(s) from ${member.process.name}, which hears of it ${heardAfter} ms later`,
      true
    )
    this.#revoke(member, heardAfter)
    this.#serve()
    return true
  }

  /** A process stands still: the broker takes its messages when it has not heard from it. */
  stalled(process: Process, millis: number): void {
    if (millis < sessionTimeout) return
    this.#world.outside.after(sessionTimeout, () => {
      for (const member of this.#members()) {
        if (member.process !== process) continue
        this.#world.tell(
          "broker",
          `takes ${member.inFlight.size} message(s) from ${process.name}, which does not answer`
        )
        this.#revoke(member, 0)
      }
      this.#serve()
    })
  }

  get #isInOrder(): boolean {
    return this.#world.loop.schedule.order === "fifo"
  }

  /** One of `n`: the first in a run without disorder. */
  #choose(n: number): number {
    return this.#isInOrder ? 0 : this.#random.below(n)
  }

  /** Those with messages in hand. */
  #members(): ReadonlyArray<Member> {
    return [...this.#groups.values()].flatMap((group) => [...group.members]).filter(({ inFlight }) => inFlight.size > 0)
  }

  #publish(
    connection: Connection,
    messages: Arr.NonEmptyReadonlyArray<Message>
  ): Effect.Effect<void, Broker.PublishError> {
    const fail = (reason: Broker.PublishReason) => Broker.publishError(messages[0], reason)
    return Effect.suspend(() => {
      if (!connection.isOpen) return Effect.fail(fail(new Broker.Closed({ detail: "the connection was closed" })))
      return this.#world.operation<void, Broker.PublishError>({
        kind: "publish",
        name: `publish ${messages.map(describe).join(", ")}`,
        failure: () => fail(new Broker.Unreachable({ detail: "a simulated fault" })),
        happen: (answer) => {
          if (this.#isAway) return answer(Exit.fail(fail(new Broker.Unreachable({ detail: "a simulated outage" }))))
          for (const message of messages) this.#take(message)
          this.#world.changed()
          answer(Exit.void)
          this.#serve()
        }
      })
    })
  }

  #take(message: Message): void {
    let topic = this.#topics.get(message.topic)
    if (topic === undefined) this.#topics.set(message.topic, topic = [])
    const published: Published = { message, offset: topic.length }
    topic.push(published)
    this.#world.tell("broker", () => `takes ${describe(message)} as ${message.topic}@${published.offset}`)
    for (const group of this.#groups.values()) group.offer(published)
  }

  #subscribe(
    connection: Connection,
    options: Subscriber.SubscribeOptions
  ): Effect.Effect<Subscriber.Subscription, Subscriber.SubscribeError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      if (!connection.isOpen) {
        return yield* Subscriber.subscribeError(options, new Broker.Closed({ detail: "the connection was closed" }))
      }
      const process = yield* Effect.withFiber((fiber) => Effect.succeed(processOf(fiber)))
      if (process === undefined) {
        return yield* Effect.die(new Error("subscribe was called outside of a simulated process"))
      }
      const context = yield* Effect.context<never>()
      const group = this.#group(options.group, options.ephemeral === true)
      if (group.isEphemeral !== (options.ephemeral === true)) {
        return yield* Subscriber.subscribeError(
          options,
          new Broker.Rejected({ detail: "a group has ephemeral subscriptions or others, not both" })
        )
      }
      for (const topic of options.topics) {
        if (group.topics.has(topic)) continue
        group.topics.add(topic)
        if (!group.isEphemeral) { for (const published of this.published(topic)) group.offer(published) }
      }
      const member: Member = {
        process,
        options,
        inFlight: new Set(),
        listeners: new Set(),
        isOpen: true,
        waiting: undefined
      }
      group.members.add(member)
      const close = () => this.#close(group, member)
      const forget = process.whenDead(close)
      connection.closers.add(close)
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          forget()
          connection.closers.delete(close)
          close()
        })
      )
      const run = Effect.runForkWith(context)
      const subscription: Subscriber.Subscription = {
        take: this.#world.operation({
          kind: "take",
          name: `take for ${group.name}`,
          happen: (answer) => {
            member.waiting = answer
            this.#serve()
            return () => {
              if (member.waiting === answer) member.waiting = undefined
            }
          }
        }),
        onRevoked: (listener) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              const call = () => void run(listener)
              member.listeners.add(call)
              return call
            }),
            (call) => Effect.sync(() => member.listeners.delete(call))
          ).pipe(Effect.asVoid)
      }
      return subscription
    })
  }

  #group(name: string, isEphemeral: boolean): Group {
    let group = this.#groups.get(name)
    if (group === undefined) this.#groups.set(name, group = new Group(name, isEphemeral))
    return group
  }

  #close(group: Group, member: Member): void {
    if (!member.isOpen) return
    member.isOpen = false
    group.members.delete(member)
    this.#giveBack([...member.inFlight])
    member.waiting?.(
      Exit.fail(Subscriber.subscribeError(member.options, new Broker.Closed({ detail: "it was closed" })))
    )
    member.waiting = undefined
    if (group.isEphemeral && group.members.size === 0) this.#groups.delete(group.name)
    this.#serve()
  }

  #giveBack(all: ReadonlyArray<Held>): void {
    for (const held of all) if (held.lane.letGo(held)) held.lane.putBack([held.item])
  }

  #revoke(member: Member, heardAfter: number): void {
    if (member.inFlight.size === 0) return
    this.#giveBack([...member.inFlight])
    this.#tell(member, heardAfter)
  }

  #tell(member: Member, after: number): void {
    if (!member.isOpen) return
    member.process.after(after, () => {
      for (const listener of member.listeners) listener()
    })
  }

  #serve(): void {
    if (this.#isAway) return
    for (const group of this.#groups.values()) {
      const waiting = [...group.members].filter((member) => member.waiting !== undefined)
      while (waiting.length > 0) {
        const [member] = waiting.splice(this.#choose(waiting.length), 1)
        this.#serveMember(group, member!)
      }
    }
  }

  #serveMember(group: Group, member: Member): void {
    // To serve one may let a process die, and that serves others
    const answer = member.waiting
    if (answer === undefined || !member.isOpen) return
    const room = member.options.maxInFlight - member.inFlight.size
    if (room <= 0) return
    const lanes = group.lanesFor(member, this.prefetch)
    if (lanes.length === 0) return
    const deliveries: Array<Subscriber.Delivery> = []
    const bound = this.#isInOrder ? room : 1 + this.#random.below(room)
    while (lanes.length > 0 && deliveries.length < bound) {
      const i = this.#choose(lanes.length)
      const lane = lanes[i]!
      deliveries.push(this.#deliver(lane, lane.give(member)))
      if (lane.queue.length === 0 || lane.held.length >= this.prefetch) lanes.splice(i, 1)
    }
    member.waiting = undefined
    if (Arr.isReadonlyArrayNonEmpty(deliveries)) answer(Exit.succeed(deliveries))
  }

  #deliver(lane: Lane, held: Held): Subscriber.Delivery {
    const { item, member } = held
    const world = this.#world
    const name = `${describe(item.message)} @${item.offset}`
    world.tell(
      "broker",
      () => `gives ${name} to ${member.process.name}${item.attempt > 1 ? ` (attempt ${item.attempt})` : ""}`
    )
    return {
      message: item.message,
      attempt: item.attempt,
      origin: { topic: lane.topic, offset: String(item.offset) },
      lane: lane.hasKey ? lane.name : undefined,
      isRevoked: () => !member.inFlight.has(held),
      ack: world.operation<void, never>({
        kind: "ack",
        name: `acknowledge ${name}`,
        lose: (count) => {
          if (!lane.letGo(held)) return
          lane.done.push(item)
          const others = new Set(lane.held.map((other) => other.member))
          lane.rewind(count)
          for (const other of others) this.#tell(other, 0)
          this.#serve()
        },
        happen: (answer) => {
          if (lane.letGo(held)) {
            world.tell(member.process.name, () => `acknowledges ${name}`)
            lane.done.push(item)
            world.changed()
          }
          answer(Exit.void)
          this.#serve()
        }
      }),
      nack: world.operation<void, never>({
        kind: "nack",
        name: `return ${name}`,
        happen: (answer) => {
          const from = lane.held.indexOf(held)
          if (from >= 0) {
            // As a log does: what was taken after it comes again as well
            const isAlone = from === lane.held.length - 1
            this.#giveBack(lane.held.slice(from))
            if (!isAlone) this.#tell(member, 0)
          }
          answer(Exit.void)
          this.#serve()
        }
      })
    }
  }
}

/** A message in a story: its type and key. */
const describe = (message: Message): string => {
  const type = (MessageModule.attribute(message, "type") ?? "?").replace(/\.v\d+$/, "")
  const key = MessageModule.keyString(message)
  return key === undefined ? type : `${type}(${key})`
}
