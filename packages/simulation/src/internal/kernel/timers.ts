/** Timers by their time, and those of one time in the order in which they were set. */

export interface Timer<A> {
  readonly at: number
  readonly order: number
  readonly task: A
  isCancelled: boolean
}

/** A binary heap. */
export class Timers<A> {
  readonly #heap: Array<Timer<A>> = []
  #set = 0

  add(at: number, task: A): Timer<A> {
    const timer: Timer<A> = { at, order: this.#set++, task, isCancelled: false }
    this.#put(timer)
    return timer
  }

  /** The next one that was not cancelled. */
  take(): Timer<A> | undefined {
    while (true) {
      const first = this.#takeFirst()
      if (first === undefined || !first.isCancelled) return first
    }
  }

  /** The next one of this time. */
  takeAt(at: number): Timer<A> | undefined {
    while (this.#heap[0]?.at === at) {
      const first = this.#takeFirst()!
      if (!first.isCancelled) return first
    }
    return undefined
  }

  #put(timer: Timer<A>): void {
    const heap = this.#heap
    let i = heap.push(timer) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!isBefore(timer, heap[parent]!)) break
      heap[i] = heap[parent]!
      i = parent
    }
    heap[i] = timer
  }

  #takeFirst(): Timer<A> | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let i = 0
    while (true) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[i] = heap[child]!
      i = child
    }
    heap[i] = last
    return first
  }
}

const isBefore = (a: Timer<unknown>, b: Timer<unknown>): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)
