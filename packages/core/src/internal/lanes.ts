/**
 * Runs work in order within a lane and in parallel across lanes, under a bound.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Fifo } from "./fifo.ts"

interface Lane<Item> {
  readonly key: string | undefined
  readonly items: Fifo<Item>
}

interface Worker<Item> {
  fiber: Fiber.Fiber<void> | undefined
  current: Item | undefined
}

/**
 * Workers are started for what is ready and end when nothing is: a busy
 * consumer forks none, an idle one holds none. The owner must call `stop`.
 *
 * `run` must not fail: what it does with a failure is its own business.
 */
export class Lanes<Item> {
  readonly #concurrency: number
  readonly #run: (item: Item) => Effect.Effect<void>
  readonly #fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Lanes that have an item or a worker, of which each has at most one. */
  readonly #lanes = new Map<string, Lane<Item>>()
  readonly #ready = new Fifo<Lane<Item>>()
  readonly #workers = new Set<Worker<Item>>()
  #isStopping = false
  #spawning = false
  #onIdle: (() => void) | undefined = undefined

  constructor(options: {
    readonly concurrency: number
    readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
    readonly run: (item: Item) => Effect.Effect<void>
  }) {
    this.#concurrency = options.concurrency
    this.#run = options.run
    this.#fork = options.fork
  }

  offer(key: string | undefined, item: Item): void {
    const lane = key === undefined ? undefined : this.#lanes.get(key)
    if (lane !== undefined) {
      lane.items.push(item)
      return
    }
    const fresh: Lane<Item> = { key, items: new Fifo() }
    fresh.items.push(item)
    if (key !== undefined) this.#lanes.set(key, fresh)
    this.#ready.push(fresh)
  }

  /** Starts workers for what is ready; call it after a batch of offers. */
  start(): void {
    if (this.#spawning) return
    this.#spawning = true
    while (!this.#isStopping && this.#workers.size < this.#concurrency && this.#ready.size > 0) {
      const worker: Worker<Item> = { fiber: undefined, current: undefined }
      this.#workers.add(worker)
      worker.fiber = this.#fork(this.#next(worker))
      worker.fiber.addObserver(() => this.#ended(worker))
    }
    this.#spawning = false
  }

  #next(worker: Worker<Item>): Effect.Effect<void> {
    return Effect.flatMap(
      // From taking an item to letting it go nothing may come in between but the end of its run
      Effect.uninterruptibleMask((restore) => this.#runNext(worker, restore)),
      (ran) => ran ? this.#next(worker) : Effect.void
    )
  }

  #runNext(
    worker: Worker<Item>,
    restore: (effect: Effect.Effect<void>) => Effect.Effect<void>
  ): Effect.Effect<boolean> {
    const lane = this.#isStopping ? undefined : this.#ready.shift()
    if (lane === undefined) return Effect.succeed(false)
    const item = lane.items.shift()!
    worker.current = item
    return Effect.as(Effect.onExit(restore(this.#run(item)), () => Effect.sync(() => this.#done(worker, lane))), true)
  }

  #done(worker: Worker<Item>, lane: Lane<Item>): void {
    worker.current = undefined
    // Behind the lanes that wait, so that a long one does not hold the others up
    if (lane.items.size > 0) this.#ready.push(lane)
    else if (lane.key !== undefined) this.#lanes.delete(lane.key)
  }

  #ended(worker: Worker<Item>): void {
    this.#workers.delete(worker)
    this.start()
    if (this.#workers.size === 0) this.#onIdle?.()
  }

  /** Takes out the items that wait, those of a lane in order. */
  drop(isAffected: (item: Item) => boolean): ReadonlyArray<Item> {
    const dropped: Array<Item> = []
    // What a lane with a worker has left is not among the ready ones
    for (const lane of this.#lanes.values()) dropped.push(...lane.items.remove(isAffected))
    const emptied = this.#ready.remove((lane) => {
      if (lane.key === undefined) dropped.push(...lane.items.remove(isAffected))
      return lane.items.size === 0
    })
    for (const { key } of emptied) {
      if (key !== undefined) this.#lanes.delete(key)
    }
    return dropped
  }

  /** Interrupts the runs of these items and waits for their end; others take their place. */
  interrupt(isAffected: (item: Item) => boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const fibers: Array<Fiber.Fiber<void>> = []
      for (const { current, fiber } of this.#workers) {
        if (current !== undefined && fiber !== undefined && isAffected(current)) fibers.push(fiber)
      }
      return Fiber.interruptAll(fibers)
    })
  }

  /** Starts nothing new. */
  halt(): void {
    this.#isStopping = true
  }

  /** Starts nothing new, and waits for the end of what runs. */
  readonly stop: Effect.Effect<void> = Effect.callback((resume) => {
    this.halt()
    if (this.#workers.size === 0) return resume(Effect.void)
    this.#onIdle = () => resume(Effect.void)
    return Effect.sync(() => {
      this.#onIdle = undefined
    })
  })
}
