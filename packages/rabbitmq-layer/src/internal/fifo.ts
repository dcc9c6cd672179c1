/** A queue with cheap ends: an array whose head moves. */
export class Fifo<A> {
  #items: Array<A | undefined> = []
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  /** The item at a distance from the head. */
  at(index: number): A | undefined {
    return this.#items[this.#head + index]
  }

  set(index: number, item: A): void {
    this.#items[this.#head + index] = item
  }

  push(item: A): void {
    this.#items.push(item)
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

  /** Puts items before the head, in their order. */
  unshift(items: ReadonlyArray<A>): void {
    this.#items = [...items, ...this.#items.slice(this.#head)]
    this.#head = 0
  }

  /** Empties it, and gives what was in it. */
  takeAll(): Array<A> {
    const items = this.#items.slice(this.#head) as Array<A>
    this.#items = []
    this.#head = 0
    return items
  }

  *[Symbol.iterator](): IterableIterator<A> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i] as A
  }
}
