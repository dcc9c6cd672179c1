/**
 * Work that leads to more work, in parallel under a bound.
 *
 * Not `Effect.forEach` with a semaphore: that keeps a waiting fiber for every
 * item and a frame for every level, while here there are never more fibers than
 * the bound, and a chain of any length runs in one of them.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"

/**
 * Runs `initial` and whatever it leads to; each item as soon as its parent is
 * done and a place is free, in the order in which they came up.
 *
 * The first failure interrupts what runs, starts nothing new, waits for the
 * end of what runs, and is the failure of the pool; a defect that shows while
 * waiting is added to it. Interruption does the same.
 */
export const runPool = <Item, E>(options: {
  readonly concurrency: number
  readonly initial: ReadonlyArray<Item>
  readonly run: (item: Item) => Effect.Effect<ReadonlyArray<Item>, E>
}): Effect.Effect<void, E> =>
  Effect.withFiber((parent) => {
    const { concurrency, run } = options
    const fork = Effect.runForkWith(parent.context)
    const fibers = new Set<Fiber.Fiber<void, E>>()
    let queue: Array<Item> = [...options.initial]
    let head = 0
    let active = 0
    let cause: Cause.Cause<E> | undefined
    let stopped = false
    let spawning = false
    let onIdle: (() => void) | undefined

    const next = (): Effect.Effect<void, E> => {
      if (stopped || head === queue.length) return Effect.void
      const item = queue[head++]!
      // Release what is done without moving the rest at every step
      if (head > 1024 && head * 2 > queue.length) {
        queue = queue.slice(head)
        head = 0
      }
      return Effect.flatMap(run(item), advance)
    }

    const advance = (items: ReadonlyArray<Item>) => {
      for (const item of items) queue.push(item)
      // One item stays for this fiber
      spawn(1)
      return next()
    }

    // A fiber starts at once and may come back here before `fork` returns. The
    // outermost call does the work then: nested, a deep tree would take the stack.
    const spawn = (keep: number): void => {
      if (spawning) return
      spawning = true
      while (!stopped && active < concurrency && queue.length - head > keep) {
        active++
        const fiber = fork(Effect.suspend(next))
        fibers.add(fiber)
        fiber.addObserver((exit) => ended(fiber, exit))
        if (stopped) fiber.interruptUnsafe(parent.id)
      }
      spawning = false
    }

    const ended = (fiber: Fiber.Fiber<void, E>, exit: Exit.Exit<void, E>): void => {
      active--
      fibers.delete(fiber)
      if (Exit.isFailure(exit)) {
        if (cause === undefined) {
          cause = exit.cause
          stop()
        } else {
          const defects = exit.cause.reasons.filter(Cause.isDieReason)
          if (defects.length > 0) cause = Cause.combine(cause, Cause.fromReasons<never>(defects))
        }
      }
      if (active === 0) onIdle?.()
    }

    const stop = (): void => {
      stopped = true
      for (const fiber of fibers) fiber.interruptUnsafe(parent.id)
    }

    const conclude = (): Effect.Effect<void, E> => cause === undefined ? Effect.void : Effect.failCause(cause)

    /** What is left to say when the pool itself is interrupted. */
    const defects = (): Effect.Effect<void> => {
      const reasons = cause?.reasons.filter(Cause.isDieReason) ?? []
      return reasons.length === 0 ? Effect.void : Effect.failCause(Cause.fromReasons<never>(reasons))
    }

    // Started where their end is already listened to, and where an interruption
    // finds them: the run loop may yield between any two effects
    return Effect.callback<void, E>((resume) => {
      onIdle = () => resume(conclude())
      spawn(0)
      if (active === 0) return resume(conclude())
      return Effect.suspend(() => {
        stop()
        return Effect.andThen(Fiber.awaitAll([...fibers]), Effect.suspend(defects))
      })
    })
  })
