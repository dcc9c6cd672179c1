/**
 * The sends that are running, so that closing a layer can wait for them (F11).
 *
 * A look and what depends on it are one synchronous step: the run loop may
 * yield between any two effects, and a send may start or end there.
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

/** A send around which others run: it waits for its own fiber. */
export class Tracked implements Sending {
  readonly fiber: AnyFiber
  previous: Sending = this
  next: Sending = this

  constructor(fiber: AnyFiber) {
    this.fiber = fiber
  }
}

export class InFlight {
  readonly #ring = new Ring()
  #onIdle: (() => void) | undefined = undefined
  #isClosed = false

  /** Takes up a send, unless this is closed. */
  enter(sending: Sending): boolean {
    if (this.#isClosed) return false
    this.add(sending)
    return true
  }

  /** Takes up what runs inside of a send that was taken up. */
  add(sending: Sending): void {
    const last = this.#ring.previous
    sending.previous = last
    sending.next = this.#ring
    last.next = sending
    this.#ring.previous = sending
  }

  /** Nothing happens to what was not taken up. */
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

  /** Closes this if nothing runs any more. */
  #closeIfIdle(self: AnyFiber): boolean {
    if (!this.#isIdle(self)) return false
    this.#isClosed = true
    return true
  }

  /** The running fibers but for `self`. */
  #fibers(self: AnyFiber): Array<AnyFiber> {
    const fibers = new Set<AnyFiber>()
    for (let sending = this.#ring.next; sending !== this.#ring; sending = sending.next) {
      if (sending.fiber !== undefined && sending.fiber !== self) fibers.add(sending.fiber)
    }
    return [...fibers]
  }

  /** Waits for what runs, then interrupts what is left and waits for its end. Nothing starts any more after it. */
  drain(timeout: Duration.Input, what: string): Effect.Effect<void> {
    return Effect.withFiber((self) => {
      if (this.#closeIfIdle(self)) return Effect.void
      const idle = Effect.callback<void>((resume) => {
        // The last one may have ended since
        if (this.#closeIfIdle(self)) return resume(Effect.void)
        this.#onIdle = () => {
          if (this.#closeIfIdle(self)) resume(Effect.void)
        }
        return Effect.sync(() => {
          this.#onIdle = undefined
        })
      })
      const interruptRest = Effect.suspend(() => {
        // Before: what starts now would outlive the layer
        this.#isClosed = true
        const rest = this.#fibers(self)
        return Effect.andThen(
          Effect.logWarning(
            `${rest.length} command(s) of ${what} did not end before its drain timeout: interrupting them`
          ),
          Fiber.interruptAll(rest)
        )
      })
      return Effect.timeoutOrElse(Effect.interruptible(idle), { duration: timeout, orElse: () => interruptRest })
    })
  }
}
