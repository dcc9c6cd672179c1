/**
 * What a layer for another message broker is built with, beside the ports
 * `Broker` and `Subscriber`, `Settings` for its options, and
 * `testing/BrokerSuite`, which tells whether it keeps their promises. For authors
 * of broker layers; programs do not need it.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"

/**
 * Fibers that wait for something to change; each looks again when it is woken.
 *
 * **When to use**
 *
 * Use when callbacks of a client change plain state, such as a queue of
 * deliveries, and effects wait for that state: `take` of a subscription, a
 * publish that needs room.
 *
 * **Details**
 *
 * A fiber may yield between any two effects. So a fiber that looks and then
 * registers in two steps misses a change in between, and sleeps until the next
 * one. `until` looks again in the step in which it registers.
 *
 * **Example** (A queue)
 *
 * ```ts
 * import { BrokerLayer } from "@event-flow/core"
 * import { Effect } from "effect"
 *
 * const waiters = new BrokerLayer.Waiters()
 * const queue: Array<string> = []
 *
 * // A callback of the client
 * export const onMessage = (message: string): void => {
 *   queue.push(message)
 *   waiters.wakeAll()
 * }
 *
 * export const take = waiters.until(() =>
 *   queue.length === 0 ? undefined : Effect.succeed(queue.splice(0))
 * )
 * ```
 *
 * @stability unstable
 * @category waiting
 * @since 0.1.0
 */
export class Waiters {
  #wakes = new Set<() => void>()
  #changes = 0

  /** Whether nobody waits. */
  get isEmpty(): boolean {
    return this.#wakes.size === 0
  }

  /**
   * Looks until there is something. `look` is called in one step with what
   * depends on it, so it may take what it finds; it gives undefined to wait until
   * somebody calls `wakeAll`.
   */
  until<A, E, R>(look: () => Effect.Effect<A, E, R> | undefined): Effect.Effect<A, E, R> {
    const wait: Effect.Effect<A, E, R> = Effect.callback((resume) => {
      let seen: number
      do {
        // Looking can itself be a change, and lead others to change more
        seen = this.#changes
        const found = look()
        if (found !== undefined) return resume(found)
      } while (this.#changes !== seen)
      const wake = () => resume(looking)
      this.#wakes.add(wake)
      return Effect.sync(() => {
        this.#wakes.delete(wake)
      })
    })
    const looking: Effect.Effect<A, E, R> = Effect.suspend(() => look() ?? wait)
    return looking
  }

  /** Has all that wait look again. Call it after the change, in the same step. */
  wakeAll(): void {
    this.#changes++
    if (this.isEmpty) return
    const wakes = this.#wakes
    this.#wakes = new Set()
    for (const wake of wakes) wake()
  }
}
