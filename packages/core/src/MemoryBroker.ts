/**
 * A broker in memory: topics, keys, consumer groups, acknowledgement and
 * redelivery, bounded, with backpressure. For tests, for one-process programs,
 * and as the reference of what the ports promise.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Broker from "./Broker.ts"
import * as Health from "./Health.ts"
import { State } from "./internal/memoryBroker/state.ts"
import { Subscription } from "./internal/memoryBroker/subscription.ts"
import type * as Message from "./Message.ts"
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
   * How many messages a group of a topic may have outstanding: waiting or
   * unacknowledged. A publish waits while a group is full. It fails when that
   * group has no consumer, since it might never end then. What the handler of
   * a message publishes to its own consumer does not wait, for it would wait for
   * itself: it may fill the group to twice the capacity, and fails beyond that.
   * Default: 10,000.
   */
  readonly capacity?: number | undefined
  /**
   * How many messages a topic keeps that no group has outstanding, the newest,
   * for groups that come later: a new group starts with the oldest message kept.
   * What a group has outstanding is kept as well, and counts. A topic drops older
   * messages also when no group ever had them, and logs that once at `Warn`.
   * Default: 1,000.
   */
  readonly retention?: number | undefined
}

/**
 * The group still has open subscriptions, so it cannot be unsubscribed. Close
 * them first.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class GroupInUse extends Schema.TaggedError<GroupInUse>("@event-flow/core/MemoryBroker/GroupInUse")(
  "GroupInUse",
  { group: Schema.String, topics: Schema.Array(Schema.String) }
) {
  override get message(): string {
    return `Group "${this.group}" cannot be unsubscribed: it has open subscriptions to ${
      this.topics.map((topic) => `"${topic}"`).join(", ")
    }; close them first`
  }
}

/**
 * A look inside the broker, for tests and dashboards.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class MemoryBroker extends Context.Service<MemoryBroker, {
  /** The topics that have messages or groups. */
  readonly topics: Effect.Effect<ReadonlyArray<string>>
  /** The messages that a topic keeps, the oldest first; none of a topic that does not exist. */
  readonly messages: (topic: string) => Effect.Effect<ReadonlyArray<Message.Message>>
  /** How many messages groups have outstanding, over all topics. */
  readonly pending: Effect.Effect<number>
  /** Waits until no group has a message outstanding. */
  readonly awaitIdle: Effect.Effect<void>
  /**
   * Forgets a group in all of its topics, with the messages that it has not
   * acknowledged. A later subscription of that name starts as a new group does.
   * Nothing happens when there is no such group.
   */
  readonly unsubscribe: (group: string) => Effect.Effect<void, GroupInUse>
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
 * A group stays when its consumers are gone, and its messages wait for it: once
 * `capacity` of them do, publishing to the topic fails. For a consumer that comes
 * and goes, subscribe with `ephemeral`; for one that does not come back, call
 * `unsubscribe`. A topic without messages and groups is forgotten (with `retention:
 * 0`, together with its last group), and its offsets start anew.
 *
 * A handler that publishes waits while the group of another consumer is full.
 * Two consumers whose handlers publish to each other can fill each other's
 * groups, and both wait without end. The broker cannot tell that from a consumer
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
      const state = new State({ capacity: options?.capacity ?? 10_000, retention: options?.retention ?? 1_000 })
      yield* Effect.addFinalizer(() => Effect.sync(() => state.close()))
      yield* connected({ system: "memory", component: "publisher", group: undefined, topics: [] })
      return Context.make(Broker.Broker, Broker.Broker.of({ name: "memory", publish: state.publish })).pipe(
        Context.add(
          Subscriber.Subscriber,
          Subscriber.Subscriber.of({
            name: "memory",
            subscribe: (options) =>
              Effect.acquireRelease(
                Subscription.open(state, options),
                (subscription) => Effect.sync(() => subscription.close())
              ).pipe(Effect.tap(connected({
                system: "memory",
                component: "subscription",
                group: options.group,
                topics: options.topics
              })))
          })
        ),
        Context.add(
          MemoryBroker,
          MemoryBroker.of({
            topics: Effect.sync(() => state.topics),
            messages: (topic) => Effect.sync(() => state.messages(topic)),
            pending: Effect.sync(() => state.pending),
            awaitIdle: state.awaitIdle,
            unsubscribe: (group) =>
              Effect.suspend(() => {
                const topics = state.unsubscribe(group)
                return topics.length === 0 ? Effect.void : Effect.fail(new GroupInUse({ group, topics }))
              })
          })
        )
      )
    })
  )

// --- internal ---

const connected = (subject: Health.Subject) =>
  Effect.map(Health.report(subject, () => ({})), ({ set }) => set("connected"))
