/** Commits what is done, in batches, under the generation in which it was done. */
import type { Consumer } from "@platformatic/kafka"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Semaphore from "effect/Semaphore"
import * as KafkaMetrics from "../../KafkaMetrics.ts"
import type * as KafkaError from "../errors.ts"
import type { ConsumerSettings } from "../settings.ts"
import type { Intake } from "./intake.ts"
import * as Offsets from "./offsets.ts"

export interface Committer {
  /** Commits what is done now. */
  readonly commitNow: Effect.Effect<void>
  /** Commits by count and time until it is interrupted. */
  readonly keepCommitting: Effect.Effect<never>
}

export const make = (options: {
  readonly settings: ConsumerSettings
  readonly consumer: Consumer
  readonly intake: Intake
  readonly membership: Offsets.Membership
  readonly metrics: boolean
  readonly now: () => number
}): Committer => {
  const { consumer, intake, membership, metrics, settings } = options
  let api: Offsets.CommitApi | undefined
  /** A later commit must not be overtaken by an earlier one. */
  const turn = Semaphore.makeUnsafe(1)
  const due = Latch.makeUnsafe(false)
  let acknowledged = 0

  const getApi = Effect.suspend(() =>
    api !== undefined ? Effect.succeed(api) : Effect.map(Offsets.commitApi(consumer), (found) => api = found)
  )

  const updateLag = Effect.suspend(() =>
    metrics
      ? Effect.forEach(intake.partitions, (partition) => {
        const { index, topic } = partition
        const lag = partition.lag(options.now())
        if (lag === undefined) return Effect.void
        const gauge = Metric.withAttributes(KafkaMetrics.consumerLag, {
          "messaging.destination.name": topic,
          "messaging.destination.partition.id": String(index),
          "messaging.consumer.group.name": membership.groupId
        })
        return Metric.update(gauge, lag)
      }, { discard: true })
      : Effect.void
  )

  const commitNow = turn.withPermit(Effect.suspend(() => {
    acknowledged = 0
    const commits: Array<Offsets.Commit> = []
    for (const partition of intake.partitions) {
      const offset = partition.donePosition
      // The first position, too: a group that comes back finds its place, not the end of the log. It may be lower than
      // what is committed, where the log is not the one that was read.
      if (offset !== partition.committed && !partition.isReplaced) commits.push({ partition, offset })
    }
    if (commits.length === 0) return updateLag
    return Effect.flatMap(getApi, (api) => Offsets.commit(consumer, api, membership, commits)).pipe(
      Effect.timeoutOrElse({
        duration: settings.requestTimeout,
        orElse: () =>
          Effect.fail<KafkaError.Failure>({
            kind: "timeout",
            detail: "the coordinator does not answer",
            cause: undefined
          })
      }),
      Effect.matchEffect({
        onSuccess: () => {
          for (const { offset, partition } of commits) partition.committed = offset
          return updateLag
        },
        onFailure: (failure) =>
          failure.kind === "generation"
            // The group has a new generation; the client learns of it with its next heartbeat
            ? Effect.logDebug("A commit came too late", failure.detail)
            : Effect.logWarning("A commit failed; the next one includes it", failure.detail)
      })
    )
  }))

  const keepCommitting = Effect.suspend(() => {
    intake.onDone = () => {
      if (++acknowledged >= settings.commitCount) due.openUnsafe()
    }
    return Effect.forever(
      Effect.andThen(
        Effect.timeoutOption(due.await, settings.commitInterval),
        Effect.suspend(() => {
          due.closeUnsafe()
          return commitNow
        })
      )
    )
  })

  return { commitNow, keepCommitting }
}
