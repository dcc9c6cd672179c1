/**
 * A first-in-first-out queue: taking from its front costs the same whatever its
 * length, which `Array.shift` does not.
 */
export class Fifo<A> {
  #items: Array<A | undefined> = []
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  push(item: A): void {
    this.#items.push(item)
  }

  unshift(item: A): void {
    if (this.#head > 0) this.#items[--this.#head] = item
    else this.#items.unshift(item)
  }

  shift(): A | undefined {
    if (this.size === 0) return undefined
    const item = this.#items[this.#head]
    this.#items[this.#head++] = undefined
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }

  /** Takes out what fulfils the predicate; the rest keeps its order. */
  remove(isRemoved: (item: A) => boolean): ReadonlyArray<A> {
    const removed: Array<A> = []
    const kept: Array<A> = []
    for (const item of this.#items.slice(this.#head) as Array<A>) (isRemoved(item) ? removed : kept).push(item)
    this.#items = kept
    this.#head = 0
    return removed
  }
}
