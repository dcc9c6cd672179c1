/** Publishes the rows of a batch, and finds out which of them are at fault when that fails. */
import * as Broker from "@event-flow/core/Broker"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { FailedRow } from "./dialect.ts"
import { type PendingRow, toMessage } from "./row.ts"
import { toStorable } from "./slot.ts"

export interface Options {
  /** How long one publish may take, in milliseconds. */
  readonly timeout: number
  /** Milliseconds until the next attempt; null for a row that is dead, which `mayDie` allows. */
  readonly delay: (attempts: number, mayDie: boolean) => number | null
}

export interface Outcome {
  readonly published: ReadonlyArray<bigint>
  readonly failed: ReadonlyArray<FailedRow>
}

/** It is the broker that is away, and no row's fault. */
export class NothingGetsThrough extends Data.TaggedError("NothingGetsThrough")<{ readonly cause: unknown }> {}

/** Rows of one key, in order. */
type Group = Array<PendingRow>

/** How many keys are tried before all are when it may be the broker that is away. */
const probes = 8

/** How many keys are published at the same time when each is by itself. */
const groupConcurrency = 64

/** How many rows that failed are remembered. One that is forgotten is taken for new, and dies later. */
const maxRemembered = 10_000

/** An error of the column, not of the row: it must not be what makes the update fail. */
const maxErrorLength = 2000

export const make = (
  broker: Broker.Broker["Service"],
  options: Options
): (rows: ReadonlyArray<PendingRow>) => Effect.Effect<Outcome, NothingGetsThrough> => {
  /**
   * A failure of any kind: a broker that dies on a message, throws, or interrupts
   * itself must not end the relay, nor must a row that cannot be read. An
   * interruption of the relay does not come here.
   */
  const publish = (rows: ReadonlyArray<PendingRow>): Effect.Effect<void, Failure> =>
    Effect.catchCause(
      Effect.suspend(() => {
        const messages = rows.map(toMessage)
        if (!Arr.isReadonlyArrayNonEmpty(messages)) return Effect.void
        return Effect.timeoutOrElse(broker.publish(messages), {
          duration: options.timeout,
          orElse: () =>
            Effect.fail(
              Broker.publishError(
                messages[0],
                new Broker.Timeout({ detail: "the broker did not answer within the relay's publishTimeout" })
              )
            )
        })
      }),
      (cause) => Effect.fail(toFailure(cause))
    )

  /** How many rows were published, now and when a row failed for the first time. */
  let publishedSoFar = 0
  const publishedBefore = new Map<bigint, number>()

  /**
   * A row is dead only where others got through since it failed first: a broker that refuses everything, for whatever
   * reason, is no fault of a row.
   */
  const conclude = (published: ReadonlyArray<bigint>, failures: ReadonlyArray<readonly [PendingRow, Failure]>) => {
    const before = publishedSoFar
    publishedSoFar += published.length
    if (publishedBefore.size > 0) { for (const id of published) publishedBefore.delete(id) }
    const failed = failures.map(([row, failure]): FailedRow => {
      const since = publishedBefore.get(row.id) ?? before
      const mayDie = !failure.isRetryable && (failure.isOfMessage || publishedSoFar > since)
      const delay = options.delay(row.attempts + 1, mayDie)
      publishedBefore.delete(row.id)
      if (delay !== null) publishedBefore.set(row.id, since)
      return { id: row.id, error: failure.text, delay }
    })
    // The oldest first
    for (const id of publishedBefore.keys()) {
      if (publishedBefore.size <= maxRemembered) break
      publishedBefore.delete(id)
    }
    return { published, failed }
  }

  return Effect.fnUntraced(function*(rows) {
    const published: Array<bigint> = []
    const failed: Array<readonly [PendingRow, Failure]> = []
    const { fresh, suspects } = split(rows)
    let lastFailure: Failure | undefined
    if (fresh.length > 0) {
      const failure = yield* failureOf(publish(fresh))
      if (failure === undefined) {
        for (const row of fresh) published.push(row.id)
      } else {
        lastFailure = failure
        suspects.push(...groupsOf(fresh))
      }
    }

    const publishGroup = (group: Group): Effect.Effect<void> =>
      Effect.gen(function*() {
        for (const row of group) {
          const failure = yield* failureOf(publish([row]))
          if (failure === undefined) {
            published.push(row.id)
          } else {
            lastFailure = failure
            failed.push([row, failure])
            if (failure.isRetryable) retryable++
            if (row.attempts === 0) first++
            // The rest of the key waits behind it, dead or not, until the next batch
            return
          }
        }
      })
    let retryable = 0
    let first = 0
    const publishGroups = (groups: ReadonlyArray<Group>) =>
      Effect.forEach(groups, publishGroup, { concurrency: groupConcurrency, discard: true })
    // Rows that have failed before, when others did get through, are no sign of it: they wait as they did then
    const nothingGetsThrough = () => published.length === 0 && first > 0 && retryable === failed.length

    if (suspects.length > 0) {
      // Any of them: the first ones may be those at fault
      const order = yield* Random.shuffle(suspects)
      yield* publishGroups(order.slice(0, probes))
      if (nothingGetsThrough()) {
        return yield* new NothingGetsThrough({ cause: lastFailure?.error })
      }
      yield* publishGroups(order.slice(probes))
    }
    return conclude(published, failed)
  })
}

const failureOf = (publish: Effect.Effect<void, Failure>): Effect.Effect<Failure | undefined> =>
  Effect.match(publish, { onFailure: (failure) => failure, onSuccess: () => undefined })

/** Keys of which a row has failed before are tried by themselves, so that they do not fail the rest again. */
const split = (
  rows: ReadonlyArray<PendingRow>
): { readonly fresh: ReadonlyArray<PendingRow>; readonly suspects: Array<Group> } => {
  if (rows.every((row) => row.attempts === 0)) return { fresh: rows, suspects: [] }
  const fresh: Array<PendingRow> = []
  const suspects: Array<Group> = []
  for (const group of groupsOf(rows)) {
    if (group.every((row) => row.attempts === 0)) fresh.push(...group)
    else suspects.push(group)
  }
  return { fresh, suspects }
}

const groupsOf = (rows: ReadonlyArray<PendingRow>): Array<Group> => {
  const groups: Array<Group> = []
  const byKey = new Map<string, Group>()
  for (const row of rows) {
    const key = row.key === null ? undefined : JSON.stringify([row.topic, row.key])
    const known = key === undefined ? undefined : byKey.get(key)
    if (known !== undefined) {
      known.push(row)
    } else {
      const group = [row]
      groups.push(group)
      if (key !== undefined) byKey.set(key, group)
    }
  }
  return groups
}

interface Failure {
  readonly error: unknown
  readonly text: string
  readonly isRetryable: boolean
  /** Whether it is about this message, whatever the broker does with others. */
  readonly isOfMessage: boolean
}

const toFailure = (cause: Cause.Cause<Broker.PublishError | Broker.BrokerNotFound>): Failure => {
  const failed = cause.reasons.find(Cause.isFailReason)
  const error = failed === undefined ? Cause.squash(cause) : failed.error
  // Without a broker at all it is not the row's fault, whatever it is; nor with one that interrupts itself as it closes
  const isRetryable = failed === undefined
    ? Cause.hasInterruptsOnly(cause)
    : failed.error._tag === "BrokerNotFound" || failed.error.isRetryable || failed.error.reason._tag === "Closed"
  const isOfMessage = failed?.error._tag === "PublishError" && failed.error.reason._tag === "MessageTooLarge"
  return { error, text: describe(error), isRetryable, isOfMessage }
}

const describe = (error: unknown): string => {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return toStorable(text.slice(0, maxErrorLength))
}
