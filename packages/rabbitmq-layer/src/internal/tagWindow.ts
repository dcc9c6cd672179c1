/**
 * What is open on a channel, by delivery tag: publishes that are not confirmed,
 * deliveries that are not acknowledged.
 *
 * A channel counts its tags up from one. Items come in the order of their tags
 * and are taken out in any order, so the window has holes; its start moves past
 * them.
 */
export class TagWindow<A> {
  /** Undefined where an item was taken. The one at `#head` is there unless the window is empty. */
  #items: Array<A | undefined> = []
  #head = 0
  /** The tag of the item at `#head`. */
  #firstTag = 1
  #size = 0

  /** How many items are in it. */
  get size(): number {
    return this.#size
  }

  /** The item with the lowest tag. */
  get first(): A | undefined {
    return this.#items[this.#head]
  }

  /** Adds the item of the next tag. */
  push(item: A): void {
    this.#items.push(item)
    this.#size++
  }

  /** Takes the item of a tag out; undefined when it is not there. */
  take(tag: number): A | undefined {
    const index = this.#head + tag - this.#firstTag
    const item = index < this.#head ? undefined : this.#items[index]
    if (item === undefined) return undefined
    this.#items[index] = undefined
    this.#size--
    if (index === this.#head) this.#skipHoles()
    return item
  }

  /** Takes out all items up to a tag, in the order of their tags. */
  takeUpTo(tag: number): Array<A> {
    const taken: Array<A> = []
    while (this.#size > 0 && this.#firstTag <= tag) taken.push(this.take(this.#firstTag)!)
    return taken
  }

  /** The items in it, in the order of their tags. */
  *[Symbol.iterator](): IterableIterator<A> {
    for (let i = this.#head; i < this.#items.length; i++) {
      const item = this.#items[i]
      if (item !== undefined) yield item
    }
  }

  #skipHoles(): void {
    const items = this.#items
    while (this.#head < items.length && items[this.#head] === undefined) {
      this.#head++
      this.#firstTag++
    }
    if (this.#head === items.length) {
      items.length = 0
      this.#head = 0
    } else if (this.#head > 1024 && this.#head * 2 > items.length) {
      this.#items = items.slice(this.#head)
      this.#head = 0
    }
  }
}
