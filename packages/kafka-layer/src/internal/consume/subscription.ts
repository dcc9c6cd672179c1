/** A subscription: one session after another, behind one `take`. */
import * as Broker from "@event-flow/core/Broker"
import * as Health from "@event-flow/core/Health"
import * as Subscriber from "@event-flow/core/Subscriber"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import type * as KafkaHealth from "../../KafkaHealth.ts"
import type * as KafkaRetry from "../../KafkaRetry.ts"
import { Answers } from "../answers.ts"
import * as KafkaError from "../errors.ts"
import type { ConsumerSettings } from "../settings.ts"
import { Intake } from "./intake.ts"
import { RejoinWaits } from "./rejoinWaits.ts"
import * as Session from "./session.ts"

export interface Options {
  readonly settings: ConsumerSettings
  /** Retry topics are among its topics. */
  readonly subscribe: Subscriber.SubscribeOptions
  readonly retryTopics: ReadonlyArray<KafkaRetry.RetryTopic>
  readonly metrics: boolean
  /** Where the subscription is listed while it is open. */
  readonly registry: Set<() => KafkaHealth.SubscriptionHealth>
}

/** Subscribes; succeeds when it is a member of the group. */
export const make: (
  options: Options
) => Effect.Effect<Subscriber.Subscription, Subscriber.SubscribeError, Scope.Scope> = Effect.fnUntraced(
  function*({ metrics, registry, retryTopics, settings, subscribe }) {
    if (subscribe.ephemeral === true) return yield* Subscriber.subscribeError(subscribe, noEphemeralGroups)
    const clock = yield* Clock.Clock
    const joined = yield* Deferred.make<void, Subscriber.SubscribeError>()
    const listeners = new Set<Effect.Effect<void>>()
    let lastFailure: KafkaError.Failure | undefined
    /** Since when its session is a member of the group. */
    let memberSince: number | undefined

    const fork = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
    const intake = new Intake({
      maxInFlight: subscribe.maxInFlight,
      scheduler: yield* Scheduler.Scheduler,
      onBlocked: (partition, lane) =>
        fork(Effect.map(Effect.sleep(settings.redeliveryDelay), () => {
          partition.release(lane)
          intake.wake()
        }))
    })
    const memory: Session.Memory = {
      answers: new Answers(),
      histories: new Map(),
      memberId: undefined,
      hasConsumed: false,
      missingTopics: []
    }
    const health = yield* Health.report(
      { system: "kafka", component: "subscription", group: subscribe.group, topics: subscribe.topics },
      () => ({
        group: subscribe.group,
        missingTopics: memory.missingTopics,
        partitions: intake.partitions.map((partition) => {
          const now = clock.currentTimeMillisUnsafe()
          return {
            topic: partition.topic,
            partition: partition.index,
            committed: Math.max(0, partition.committed),
            inFlight: partition.outstanding,
            heldUntil: partition.hold?.until,
            end: partition.highWatermark,
            lag: partition.lag(now),
            unreadSince: partition.isUnanswered(now) ? partition.unansweredSince : undefined
          }
        })
      })
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => registry.add(health.current)),
      () => Effect.sync(() => registry.delete(health.current))
    )

    const session = Effect.scoped(Session.run({
      settings,
      subscribe,
      retryTopics,
      intake,
      clock,
      metrics,
      memory,
      notifyRevoked: Effect.suspend(() =>
        Effect.forEach([...listeners], (listener) => listener, { concurrency: "unbounded", discard: true })
      ),
      onState: (next, why) =>
        Effect.suspend(() => {
          if (next === "connected") memberSince ??= clock.currentTimeMillisUnsafe()
          health.set(next, why)
          return next === "connected" ? Effect.asVoid(Deferred.succeed(joined, undefined)) : Effect.void
        })
    }))

    const end = (failure: KafkaError.Failure): Effect.Effect<void> => {
      const error = Subscriber.subscribeError(subscribe, KafkaError.refusalReason(failure))
      intake.fail(error)
      return Effect.andThen(
        Effect.logError("The subscription has ended", failure.detail),
        Deferred.fail(joined, error)
      )
    }

    const waits = new RejoinWaits(settings.reconnectDelay)
    const sessions: Effect.Effect<void> = Effect.catch(session, (failure) => {
      lastFailure = failure
      if (Session.isFinal(failure)) return end(failure)
      health.set("disconnected", failure.detail)
      const wait = waits.after(memberSince === undefined ? 0 : clock.currentTimeMillisUnsafe() - memberSince)
      memberSince = undefined
      return Effect.logWarning(`Lost the group, joining again in ${wait} ms`, failure.detail).pipe(
        Effect.andThen(Effect.sleep(wait)),
        Effect.andThen(Effect.suspend(() => sessions))
      )
    })
    yield* sessions.pipe(
      Effect.annotateLogs({
        package: "@event-flow/kafka-layer",
        module: "KafkaSubscriber",
        group: subscribe.group
      }),
      Effect.forkScoped
    )
    // Runs first: fibers that wait in `take`, or call it later, fail with `Closed`
    yield* Effect.addFinalizer(() =>
      Effect.sync(() =>
        intake.fail(
          Subscriber.subscribeError(subscribe, new Broker.Closed({ detail: "the subscription is closed" }))
        )
      )
    )
    yield* Deferred.await(joined).pipe(
      Effect.timeoutOrElse({
        duration: settings.subscribeTimeout,
        orElse: () =>
          Effect.fail(
            Subscriber.subscribeError(
              subscribe,
              lastFailure === undefined
                ? new Broker.Unreachable({ detail: `not in the group after ${settings.subscribeTimeout} ms` })
                : KafkaError.isRetryable(lastFailure.kind)
                ? new Broker.Unreachable(KafkaError.reasonFields(lastFailure))
                : KafkaError.refusalReason(lastFailure)
            )
          )
      })
    )
    return {
      take: intake.take,
      onRevoked: (listener) =>
        Effect.asVoid(Effect.acquireRelease(
          Effect.sync(() => listeners.add(listener)),
          () => Effect.sync(() => listeners.delete(listener))
        ))
    }
  }
)

// --- internal ---

/** Without commits a group would lose its place with each rebalance, and what is committed the brokers keep. */
const noEphemeralGroups = new Broker.Rejected({
  detail: "Kafka has no ephemeral groups. Subscribe without `ephemeral`: the brokers forget the offsets of a group " +
    "that nobody uses after `offsets.retention.minutes`"
})
