/**
 * Effects that wait for a condition, and whoever changes what the condition
 * depends on.
 */
import * as Effect from "effect/Effect"

/**
 * A set of effects that wait for something to change; each looks again when it
 * is woken.
 *
 * **Details**
 *
 * A fiber may yield between two operations, so a change can come between looking
 * and waiting. An effect therefore looks once more in the step in which it
 * registers: no wake-up is lost, wherever the fiber yields.
 */
export class Waiters {
  #wakes = new Set<() => void>()
  #changes = 0

  /**
   * Looks, and looks again after each change, until `look` gives an effect, with
   * which it goes on. `undefined` means: not yet. `look` is synchronous; it may
   * take what it finds, and hand it over in the effect.
   */
  until<A, E>(look: () => Effect.Effect<A, E> | undefined): Effect.Effect<A, E> {
    return Effect.suspend(() => look() ?? this.#waitFor(look))
  }

  #waitFor<A, E>(look: () => Effect.Effect<A, E> | undefined): Effect.Effect<A, E> {
    return Effect.callback((resume) => {
      let seen: number
      do {
        // Looking can itself be a change, and have others change more
        seen = this.#changes
        const found = look()
        if (found !== undefined) return resume(found)
      } while (this.#changes !== seen)
      const wake = () => resume(this.until(look))
      this.#wakes.add(wake)
      return Effect.sync(() => {
        this.#wakes.delete(wake)
      })
    })
  }

  /** Has every effect that waits look again. Call it after the change, in the same step. */
  wakeAll(): void {
    this.#changes++
    if (this.#wakes.size === 0) return
    const wakes = this.#wakes
    this.#wakes = new Set()
    for (const wake of wakes) wake()
  }
}
