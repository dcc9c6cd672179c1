/**
 * The sends that are running, so that closing a layer can wait for them (F11).
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** One running send: a node of a ring, which costs a few nanoseconds to link and unlink. */
export interface Sending {
  readonly fiber: AnyFiber | undefined
  previous: Sending
  next: Sending
}

class Ring implements Sending {
  readonly fiber = undefined
  previous: Sending = this
  next: Sending = this
}

export class InFlight {
  readonly #ring = new Ring()
  #onIdle: (() => void) | undefined = undefined
  isClosed = false

  add(sending: Sending): void {
    const last = this.#ring.previous
    sending.previous = last
    sending.next = this.#ring
    last.next = sending
    this.#ring.previous = sending
  }

  remove(sending: Sending): void {
    sending.previous.next = sending.next
    sending.next.previous = sending.previous
    this.#onIdle?.()
  }

  /** Whether nothing runs but in `self`, which cannot wait for itself. */
  #isIdle(self: AnyFiber): boolean {
    for (let sending = this.#ring.next; sending !== this.#ring; sending = sending.next) {
      if (sending.fiber !== self) return false
    }
    return true
  }

  /** The running fibers but for `self`. */
  #fibers(self: AnyFiber): Array<AnyFiber> {
    const fibers: Array<AnyFiber> = []
    for (let sending = this.#ring.next; sending !== this.#ring; sending = sending.next) {
      if (sending.fiber !== undefined && sending.fiber !== self) fibers.push(sending.fiber)
    }
    return fibers
  }

  /** Waits for what runs, then interrupts what is left and waits for its end. */
  drain(timeout: Duration.Input): Effect.Effect<void> {
    return Effect.withFiber((self) => {
      const finish = Effect.sync(() => {
        this.isClosed = true
      })
      if (this.#isIdle(self)) return finish
      const idle = Effect.callback<void>((resume) => {
        // The last one may have ended since
        if (this.#isIdle(self)) {
          this.isClosed = true
          return resume(Effect.void)
        }
        this.#onIdle = () => {
          if (!this.#isIdle(self)) return
          // Now and not when this fiber goes on: a send could start in between
          this.isClosed = true
          resume(Effect.void)
        }
        return Effect.sync(() => {
          this.#onIdle = undefined
        })
      })
      const interruptRest = Effect.suspend(() => {
        // Before: what starts now would outlive the layer
        this.isClosed = true
        const rest = this.#fibers(self)
        return Effect.andThen(
          Effect.logWarning(
            `${rest.length} command(s) did not end before the mediator's drain timeout: interrupting them`
          ),
          Fiber.interruptAll(rest)
        )
      })
      return Effect.andThen(
        Effect.timeoutOrElse(Effect.interruptible(idle), { duration: timeout, orElse: () => interruptRest }),
        finish
      )
    })
  }
}
