/** What Effect finds in a process: scheduler, clock, randomness, ids and the log, all of them the simulation's. */
import * as Ids from "@event-flow/core/Ids"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import type { Process } from "./process.ts"
import { ProcessScheduler } from "./scheduler.ts"

/** When every run begins: 2030-01-01, UTC. */
export const epochMillis = Date.UTC(2030, 0, 1)

class ProcessClock implements Clock.Clock {
  readonly #process: Process
  readonly #epoch: number

  constructor(process: Process) {
    this.#process = process
    this.#epoch = process.epoch
  }

  currentTimeMillisUnsafe(): number {
    return epochMillis + this.#process.loop.now
  }
  currentTimeNanosUnsafe(): bigint {
    return toNanos(this.currentTimeMillisUnsafe())
  }
  monotonicTimeNanosUnsafe(): bigint {
    return toNanos(this.#process.loop.now)
  }
  readonly currentTimeMillis = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    const millis = Duration.toMillis(duration)
    if (millis <= 0) return Effect.yieldNow
    if (!Number.isFinite(millis)) return Effect.never
    return Effect.callback<void>((resume) => {
      const { loop } = this.#process
      const cancel = loop.after(millis, this.#process, this.#epoch, () => resume(Effect.void))
      return Effect.sync(cancel)
    })
  }
}

const toNanos = (millis: number): bigint => BigInt(Math.round(millis * 1000)) * 1000n

const randomOf = (process: Process): typeof Random.Random.Service => ({
  nextIntUnsafe: () =>
    Math.floor(process.random.next() * (Number.MAX_SAFE_INTEGER - Number.MIN_SAFE_INTEGER)) + Number.MIN_SAFE_INTEGER,
  nextDoubleUnsafe: () => process.random.next()
})

/** UUIDs of version 7 from the virtual time and the random numbers of a process. */
export const uuidOf = (process: Process): string => {
  const hex = (digits: number): string =>
    Math.floor(process.random.next() * 16 ** digits).toString(16).padStart(digits, "0")
  const time = Math.floor(epochMillis + process.loop.now).toString(16).padStart(12, "0")
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(3)}-8${hex(3)}-${hex(6)}${hex(6)}`
}

/** The context of the present life of a process; `log` takes what its fibers log. */
export const environmentOf = (
  process: Process,
  log: (options: Logger.Options<unknown>) => void
): Context.Context<never> =>
  Context.empty().pipe(
    Context.add(Scheduler.Scheduler, new ProcessScheduler(process)),
    Context.add(Clock.Clock, new ProcessClock(process)),
    Context.add(Random.Random, randomOf(process)),
    Context.add(Ids.Ids, { next: () => uuidOf(process) }),
    Context.add(Logger.CurrentLoggers, new Set([Logger.make(log)])),
    // Ids of spans come from the process that runs the simulation
    Context.add(References.TracerEnabled, false)
  )
