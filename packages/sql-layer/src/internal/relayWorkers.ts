/** The background of a relay: workers that publish batches, woken by notifications and at intervals. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import { isSqlError } from "effect/sql/SqlError"
import * as Listening from "./listening.ts"
import { describe } from "./sqlFailure.ts"

/** A batch: how many rows it took, and whether there may be more at once. */
export interface Batch {
  readonly rows: number
  readonly published: number
  readonly isMore: boolean
  /** Milliseconds until the first row that failed may be tried again. */
  readonly retryIn: number | undefined
}

/** Publishes a batch; `onWork` is run when there are rows to publish. */
export type RunBatch<E> = (onWork: Effect.Effect<void>) => Effect.Effect<Batch, E>

/** Durations are milliseconds. */
export interface WorkerOptions {
  readonly concurrency: number
  readonly pollInterval: number
  readonly drainTimeout: number
  /** Undefined where the relay cannot be told of new rows. */
  readonly listening: Omit<Listening.Options, "pollInterval" | "wake"> | undefined
  /** Hears what became of the last batch: why it failed, or undefined. */
  readonly onBatch: (problem: string | undefined) => void
}

/** Starts the workers; closing the scope lets them end their batches. */
export const start = Effect.fnUntraced(function*<E>(batch: RunBatch<E>, options: WorkerOptions) {
  const { concurrency, drainTimeout, listening, onBatch, pollInterval } = options
  // One token wakes one worker, which wakes the next when it finds work
  const tokens = yield* Queue.sliding<void>(concurrency)
  const wake = Effect.asVoid(Queue.offer(tokens, undefined))
  const onWork = concurrency === 1 ? Effect.void : wake
  const closing = yield* Queue.sliding<void>(1)
  let isClosing = false
  // When rows that failed here are due. A worker that is woken earlier must not forget them
  let due: Array<number> = []

  const work = Effect.gen(function*() {
    let pause = pollInterval
    let failures = 0
    while (!isClosing) {
      const startedAt = yield* Clock.currentTimeMillis
      const exit = yield* Effect.exit(batch(onWork))
      if (Exit.isSuccess(exit)) {
        failures = 0
        onBatch(undefined)
        const now = yield* Clock.currentTimeMillis
        due = due.filter((at) => at > startedAt)
        // The database counts finer than milliseconds: one later, so that the row is due
        if (exit.value.retryIn !== undefined) due.push(now + exit.value.retryIn + 1)
        if (exit.value.isMore) continue
        pause = Math.max(0, due.reduce((pause, at) => Math.min(pause, at - now), pollInterval))
      } else {
        failures++
        pause = outageDelay(failures)
        onBatch(messageOf(exit.cause))
        yield* Effect.logWarning(
          `The outbox relay tries again in ${Duration.format(Duration.millis(pause))}`,
          exit.cause
        )
      }
      if (isClosing) return
      // A failing batch is not helped by new rows
      yield* Effect.timeoutOption(failures > 0 ? Queue.peek(closing) : Queue.take(tokens), pause)
    }
  })

  if (listening !== undefined) {
    yield* Effect.forkScoped(Listening.forever({ ...listening, pollInterval, wake }))
  }
  const workers: Array<Fiber.Fiber<void>> = []
  for (let i = 0; i < concurrency; i++) workers.push(yield* Effect.forkScoped(work))
  // After the workers: it runs before they are interrupted
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      isClosing = true
      Queue.offerUnsafe(closing, undefined)
      for (const _ of workers) Queue.offerUnsafe(tokens, undefined)
      return Effect.timeoutOrElse(Effect.interruptible(Fiber.awaitAll(workers)), {
        duration: drainTimeout,
        orElse: () =>
          Effect.logWarning("The outbox relay did not end before the drain timeout: interrupting its batches")
      })
    })
  )
})

// --- internal ---

/** Milliseconds before the next look at a broker or a database that is away. */
const outageDelay = (failures: number): number => Math.min(100 * 2 ** (failures - 1), 10_000)

const messageOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return isSqlError(error) ? describe(error) : error instanceof Error ? error.message : String(error)
}
