/**
 * Work that leads to more work, in parallel under a bound: `Effect.forEach` runs
 * workers that share one queue.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as MutableList from "effect/MutableList"

export interface Options<Item, E> {
  /** How many items run at once, over all levels. `Infinity`: all that there are. */
  readonly concurrency: number
  readonly initial: ReadonlyArray<Item>
  /** Runs an item and gives the items that it leads to. */
  readonly run: (item: Item) => Effect.Effect<ReadonlyArray<Item>, E>
}

/**
 * Runs `initial` and all that it leads to. An item starts as soon as its parent
 * is done and a place is free, in the order in which the items came up.
 *
 * The first failure interrupts what runs, starts nothing new, waits for the end
 * of what runs, and is the failure of the pool. Interruption does the same. A
 * defect that shows while the pool waits is added to the cause. In an
 * uninterruptible region what runs goes on to its end.
 */
export const runPool = <Item, E>(options: Options<Item, E>): Effect.Effect<void, E> =>
  Effect.suspend(() => new Pool(options).start())

/**
 * The calling fiber is the first worker. More workers start when items wait for
 * one. A worker that finds no item parks, and all of them end with the pool. So
 * the bound limits the workers, no waiting item has a fiber, and a chain of any
 * length takes constant memory.
 */
class Pool<Item, E> {
  readonly #options: Options<Item, E>
  readonly #queue = MutableList.make<Item>()
  readonly #parked: Array<() => void> = []
  readonly #end = Deferred.makeUnsafe<void>()
  #failure: Cause.Cause<E> | undefined = undefined
  #isEnded = false
  #isWaking = false
  // `initial` counts as what a first item, now at its end, led to
  #workers = 1
  #busy = 1
  #unfinished = 1

  constructor(options: Options<Item, E>) {
    this.#options = options
  }

  start(): Effect.Effect<void, E> {
    return Effect.catchCause(
      this.#advance(this.#options.initial),
      (cause) => Effect.failCause(this.#failure === undefined ? cause : Cause.combine(this.#failure, defectsOf(cause)))
    )
  }

  /** Takes what the item of a worker led to. */
  readonly #advance = (items: ReadonlyArray<Item>): Effect.Effect<void, E> => {
    this.#busy--
    this.#unfinished += items.length - 1
    if (this.#unfinished === 0) this.#finish(Exit.void)
    if (this.#isEnded) return Effect.void
    MutableList.appendAllUnsafe(this.#queue, items)
    return this.#share()
  }

  /** Leaves one item to this worker and finds other workers for the rest. */
  #share(): Effect.Effect<void, E> {
    // A worker that is woken runs at once and may come back here. It leaves the
    // waking to the outermost call: nested calls would take the stack
    if (this.#isWaking) return this.#next()
    this.#isWaking = true
    while (this.#parked.length > 0 && this.#queue.length > 1) this.#parked.pop()!()
    this.#isWaking = false
    const missing = this.#queue.length - (this.#workers - this.#busy)
    const places = this.#options.concurrency - this.#workers
    if (missing <= 0 || places <= 0) return this.#next()
    // At least twice as many, as an array grows: groups nest, and so they are few
    return this.#grow(Math.min(places, Math.max(missing, this.#workers)))
  }

  /** This worker goes on as a member of a new group. */
  #grow(more: number): Effect.Effect<void, E> {
    const group = Array.from<Effect.Effect<void, E>>({ length: more + 1 }).fill(this.#member)
    // A failure would interrupt its own group only. The outermost group has a
    // member that fails with the pool, so that `forEach` interrupts all groups
    if (this.#workers === 1) group.unshift(Deferred.await(this.#end))
    this.#workers += more
    // Work that is done at once has ended before all members have started
    return Effect.forEach(group, (worker) => this.#isEnded ? Exit.void : worker, {
      concurrency: "unbounded",
      discard: true
    })
  }

  #next(): Effect.Effect<void, E> {
    if (this.#isEnded) return Effect.void
    if (this.#queue.length === 0) return this.#park
    this.#busy++
    // It is not empty
    return Effect.flatMap(this.#options.run(MutableList.take(this.#queue) as Item), this.#advance)
  }

  readonly #work: Effect.Effect<void, E> = Effect.suspend(() => this.#next())

  // Looks again: the run loop may yield before a worker is parked
  readonly #park: Effect.Effect<void, E> = Effect.callback((resume) => {
    if (this.#isEnded || this.#queue.length > 0) resume(this.#work)
    else this.#parked.push(() => resume(this.#work))
  })

  readonly #member: Effect.Effect<void, E> = Effect.catchCause(this.#work, (cause) => {
    if (this.#isEnded) return Effect.failCause(defectsOf(cause))
    this.#failure = cause
    // Not with the cause itself: `forEach` would make defects of failures beside a defect
    this.#finish(Exit.interrupt())
    return Effect.void
  })

  #finish(exit: Exit.Exit<void>): void {
    this.#isEnded = true
    Deferred.doneUnsafe(this.#end, exit)
    for (const wake of this.#parked) wake()
  }
}

const defectsOf = (cause: Cause.Cause<unknown>): Cause.Cause<never> =>
  Cause.fromReasons(cause.reasons.filter(Cause.isDieReason))
