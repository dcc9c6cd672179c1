/** Rings at the earliest of the times that it was set to. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/** A timer does not notice that the clock was set, so it does not run for longer. */
const maxSleep = 3_600_000

export class Alarm {
  readonly #clock: Clock.Clock
  readonly #fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly #ring: () => void
  #at = Number.POSITIVE_INFINITY
  #fiber: Fiber.Fiber<void> | undefined

  constructor(
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    ring: () => void
  ) {
    this.#clock = clock
    this.#fork = fork
    this.#ring = ring
  }

  /** After it has rung, it must be set again for later times. */
  set(at: number): void {
    if (at >= this.#at) return
    this.#fiber?.interruptUnsafe()
    this.#at = at
    const wait = Math.min(maxSleep, Math.max(1, at - this.#clock.currentTimeMillisUnsafe()))
    this.#fiber = this.#fork(Effect.andThen(
      Effect.sleep(wait),
      Effect.sync(() => {
        this.#at = Number.POSITIVE_INFINITY
        this.#fiber = undefined
        this.#ring()
      })
    ))
  }
}
