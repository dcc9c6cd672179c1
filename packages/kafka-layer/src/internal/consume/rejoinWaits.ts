/**
 * The waits before a subscription joins its group again. They double until a
 * membership has lasted: one that fails soon after it began, again and again, makes
 * every member of the group rebalance each time.
 */
export class RejoinWaits {
  readonly #first: number
  #next: number

  constructor(first: number) {
    this.#first = first
    this.#next = first
  }

  /** The wait after a session that was a member for so long; all in milliseconds. */
  after(memberFor: number): number {
    if (memberFor >= longest) this.#next = this.#first
    const wait = this.#next
    this.#next = Math.min(wait * 2, Math.max(longest, this.#first))
    return wait
  }
}

// --- internal ---

/** Also how long a membership lasts that counts as a good one: there are never two rebalances in that time. */
const longest = 10_000
