/**
 * Runs work in order within a lane and in parallel across lanes, under a bound.
 */
import type * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as MutableList from "effect/MutableList"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** What has a place in an order: items of the same lane run one after another; undefined: no order. */
export interface InLane {
  readonly lane: string | undefined
}

/** Does the work of one worker, item by item: what a fiber needs for all of its items is made once. */
export interface Runner<Item> {
  readonly run: (item: Item) => Effect.Effect<void, unknown>
  /** Does the work of several at once, those of a lane in their order. When it fails they come again, in smaller batches. */
  readonly runAll: (items: Arr.NonEmptyReadonlyArray<Item>) => Effect.Effect<void, unknown>
  /** Takes the failure of a run. When this succeeds the worker goes on, else it ends. */
  readonly recover: (item: Item, cause: Cause.Cause<unknown>) => Effect.Effect<void, unknown>
  /** The worker has ended, however that came about. */
  readonly end: () => void
}

export interface Options<Item> {
  readonly concurrency: number
  /** How many items a worker takes at once, and how long it waits for that many, in milliseconds. */
  readonly batch: { readonly size: number; readonly wait: number }
  readonly fork: (effect: Effect.Effect<void, unknown>) => AnyFiber
  readonly runner: (fiber: AnyFiber) => Runner<Item>
  /** Takes an item whose run was interrupted, or failed beyond recovery; its lane waits for this. */
  readonly abandon: (item: Item, cause: Cause.Cause<unknown>) => Effect.Effect<void>
}

/** What decides about items that wait for better times. */
export interface Gate<Item> {
  /** Starts nothing new, but one item after each `probe`. */
  readonly pause: () => void
  /** Starts one item: one that has waited for its turn, else that which was held first. */
  readonly probe: () => void
  /** Starts everything again, what is held included. */
  readonly resume: () => void
  /** Holds an item that a worker has, first in its lane, when its run has ended. */
  readonly hold: (item: Item) => void
  /** Gives a held item its turn. */
  readonly release: (item: Item) => void
  /** Whether it is the item that runs because of `probe`. */
  readonly isProbe: (item: Item) => boolean
  /** Called when the run of that item has ended. */
  onProbed: () => void
}

/** A key's items. Most keys have one at a time: a queue is made for those that have more. */
class Lane<Item> {
  readonly key: string | undefined
  /** Among the ready ones, or in the hands of a worker. */
  isActive = false
  #first: Item | undefined = undefined
  #rest: MutableList.MutableList<Item> | undefined = undefined

  constructor(key: string | undefined) {
    this.key = key
  }

  get isEmpty(): boolean {
    return this.#first === undefined
  }

  push(item: Item): void {
    if (this.#first === undefined) this.#first = item
    else MutableList.append(this.#rest ??= MutableList.make(), item)
  }

  /** Puts back what was shifted. */
  unshift(item: Item): void {
    if (this.#first !== undefined) MutableList.prepend(this.#rest ??= MutableList.make(), this.#first)
    this.#first = item
  }

  shift(): Item | undefined {
    const item = this.#first
    this.#first = takeFrom(this.#rest)
    return item
  }

  remove(isRemoved: (item: Item) => boolean): ReadonlyArray<Item> {
    const items: Array<Item> = []
    for (let item = this.shift(); item !== undefined; item = this.shift()) items.push(item)
    const removed: Array<Item> = []
    for (const item of items) {
      if (isRemoved(item)) removed.push(item)
      else this.push(item)
    }
    return removed
  }
}

const takeFrom = <A>(list: MutableList.MutableList<A> | undefined): A | undefined =>
  // Not `Empty`: the length says so
  list === undefined || list.length === 0 ? undefined : MutableList.take(list) as A

/** A loop over items: itself the options of `Effect.whileLoop`, which makes nothing for an item. */
class Worker<Item extends InLane> {
  readonly #lanes: Lanes<Item>
  fiber: AnyFiber | undefined = undefined
  runner: Runner<Item> | undefined = undefined
  current: Item | undefined = undefined
  lane: Lane<Item> | undefined = undefined
  /** What it has taken besides, for a batch. */
  readonly more: Array<Item> = []
  readonly moreLanes: Array<Lane<Item>> = []

  constructor(lanes: Lanes<Item>) {
    this.#lanes = lanes
  }

  while(): boolean {
    return this.#lanes.next(this)
  }

  body(): Effect.Effect<void, unknown> {
    return this.#lanes.isBatching ? this.#lanes.runBatch(this) : this.runner!.run(this.current!)
  }

  get items(): ReadonlyArray<Item> {
    return this.current === undefined ? [] : [this.current, ...this.more]
  }

  step(): void {
    this.#lanes.done(this)
  }
}

/** Lanes without items that are kept: the same keys come again, and a map in which entries come and go is slow. */
const maxIdle = 10_000

/**
 * Workers are started for what is ready and end when nothing is: a busy
 * consumer forks none, an idle one holds none. The owner must call `stop`.
 */
export class Lanes<Item extends InLane> implements Gate<Item> {
  readonly #options: Options<Item>
  readonly #lanes = new Map<string, Lane<Item>>()
  /** Those that have an item and no worker. */
  readonly #ready = MutableList.make<Lane<Item>>()
  readonly #workers = new Set<Worker<Item>>()
  /** In the hands of a worker, to go back to its lane; whether that is ready then. */
  readonly #leaving = new Map<Item, boolean>()
  /** Not among the ready ones, by the item that is first in each. */
  readonly #held = new Map<Item, Lane<Item>>()
  #isStopping = false
  #isPaused = false
  #mayProbe = false
  #probing: Worker<Item> | undefined = undefined
  onProbed: () => void = () => undefined
  /** How many items a worker takes now: half as many after each failure, twice as many after each success. */
  #batchSize: number
  #spawning = false
  #onIdle: (() => void) | undefined = undefined

  constructor(options: Options<Item>) {
    this.#options = options
    this.#batchSize = options.batch.size
  }

  offer(item: Item): void {
    const key = item.lane
    let lane = key === undefined ? undefined : this.#lanes.get(key)
    if (lane === undefined) {
      lane = new Lane<Item>(key)
      if (key !== undefined) this.#lanes.set(key, lane)
    }
    lane.push(item)
    if (lane.isActive) return
    lane.isActive = true
    MutableList.append(this.#ready, lane)
  }

  /** Starts workers for what is ready; call it after a batch of offers. */
  start(): void {
    if (this.#spawning) return
    this.#spawning = true
    while (!this.#isStopping && this.#workers.size < this.#options.concurrency && this.#ready.length > 0) {
      if (this.#isPaused && !this.#mayProbe) break
      const worker = new Worker<Item>(this)
      this.#workers.add(worker)
      this.#options.fork(this.#work(worker)).addObserver(() => this.#ended(worker))
      if (this.#isPaused) break
    }
    this.#spawning = false
  }

  pause(): void {
    this.#isPaused = true
  }

  probe(): void {
    this.#mayProbe = true
    const [first] = this.#ready.length === 0 ? this.#held.keys() : []
    if (first === undefined) this.start()
    else this.release(first)
  }

  resume(): void {
    this.#isPaused = this.#mayProbe = false
    this.#probing = undefined
    for (const item of this.#leaving.keys()) this.#leaving.set(item, true)
    // Before what has waited for its turn, which shows meanwhile whether they fail alone
    for (const lane of [...this.#held.values()].reverse()) MutableList.prepend(this.#ready, lane)
    this.#held.clear()
    this.start()
  }

  hold(item: Item): void {
    this.#leaving.set(item, false)
  }

  release(item: Item): void {
    if (this.#leaving.has(item)) this.#leaving.set(item, true)
    const lane = this.#held.get(item)
    if (lane === undefined) return
    this.#held.delete(item)
    MutableList.append(this.#ready, lane)
    this.start()
  }

  isProbe(item: Item): boolean {
    return this.#probing?.current === item
  }

  /**
   * One frame for all items of a worker ends the one that it is interrupted at:
   * interruption skips all other frames, and this one costs as much as a handler
   * (see `Dispatch`). What takes an item therefore has it in the worker before
   * anything else can happen.
   */
  #work(worker: Worker<Item>): Effect.Effect<void, unknown> {
    return Effect.onExitPrimitive(
      Effect.withFiber((fiber) => {
        worker.fiber = fiber
        worker.runner = this.#options.runner(fiber)
        return this.#loop(worker)
      }),
      (exit) => {
        worker.runner?.end()
        const { items } = worker
        return Exit.isSuccess(exit) || items.length === 0
          ? undefined
          : Effect.ensuring(
            Effect.forEach(items, (item) => this.#options.abandon(item, exit.cause), { discard: true }),
            Effect.sync(() => {
              for (const item of items) this.#leaving.delete(item)
              this.done(worker)
            })
          )
      }
    )
  }

  #loop(worker: Worker<Item>): Effect.Effect<void, unknown> {
    return Effect.catchCause(Effect.whileLoop(worker), (cause) => {
      const item = worker.current
      if (worker.more.length > 0) {
        this.#putBack(worker)
        return this.#loop(worker)
      }
      return item === undefined
        ? Effect.failCause(cause)
        : Effect.flatMap(worker.runner!.recover(item, cause), () => {
          this.done(worker)
          return this.#loop(worker)
        })
    })
  }

  /** Gives a worker its next item, if there is one. */
  next(worker: Worker<Item>): boolean {
    const isClosed = this.#isStopping || this.#isPaused && !this.#mayProbe
    const lane = isClosed ? undefined : takeFrom(this.#ready)
    if (lane === undefined) return false
    worker.lane = lane
    worker.current = lane.shift()
    if (this.#isPaused) {
      this.#mayProbe = false
      this.#probing = worker
    }
    return true
  }

  get isBatching(): boolean {
    return this.#options.batch.size > 1
  }

  runBatch(worker: Worker<Item>): Effect.Effect<void, unknown> {
    const { wait } = this.#options.batch
    const run = Effect.suspend(() =>
      worker.more.length === 0
        ? worker.runner!.run(worker.current!)
        : worker.runner!.runAll([worker.current!, ...worker.more])
    )
    this.#fill(worker)
    if (worker.more.length + 1 >= this.#batchSize || this.#isPaused || wait === 0) return run
    return Effect.andThen(Effect.sleep(wait), Effect.andThen(Effect.sync(() => this.#fill(worker)), run))
  }

  /** Takes what is ready, up to the size of a batch. While the consumer is paused, an item is tried alone. */
  #fill(worker: Worker<Item>): void {
    let lane: Lane<Item> | undefined = worker.moreLanes.at(-1) ?? worker.lane
    while (worker.more.length + 1 < this.#batchSize && !this.#isPaused && !this.#isStopping && lane !== undefined) {
      const item = lane.shift()
      if (item === undefined) lane = takeFrom(this.#ready)
      else {
        worker.more.push(item)
        worker.moreLanes.push(lane)
      }
    }
  }

  /** The batch of a worker goes back to its lanes, before all others, and the next ones are smaller. */
  #putBack(worker: Worker<Item>): void {
    this.#batchSize = Math.max(1, worker.items.length >> 1)
    const lanes = new Set([worker.lane!, ...worker.moreLanes])
    while (worker.more.length > 0) worker.moreLanes.pop()!.unshift(worker.more.pop()!)
    worker.lane!.unshift(worker.current!)
    for (const lane of [...lanes].reverse()) MutableList.prepend(this.#ready, lane)
    worker.current = undefined
    worker.lane = undefined
  }

  /** A batch is done: its lanes but that of its first item. */
  #batchDone(worker: Worker<Item>): void {
    this.#batchSize = Math.min(this.#options.batch.size, this.#batchSize * 2)
    const lanes = new Set(worker.moreLanes)
    lanes.delete(worker.lane!)
    worker.more.length = 0
    worker.moreLanes.length = 0
    for (const lane of lanes) this.#turn(lane)
  }

  done(worker: Worker<Item>): void {
    if (this.isBatching) this.#batchDone(worker)
    const lane = worker.lane!
    const item = worker.current!
    worker.current = undefined
    worker.lane = undefined
    const isReady = this.#leaving.size === 0 ? undefined : this.#leaving.get(item)
    if (isReady !== undefined) {
      this.#leaving.delete(item)
      lane.unshift(item)
    }
    if (isReady === false) this.#held.set(item, lane)
    else this.#turn(lane)
    if (worker === this.#probing) {
      this.#probing = undefined
      this.onProbed()
    }
  }

  /** Behind the lanes that wait, so that a long one does not hold the others up. */
  #turn(lane: Lane<Item>): void {
    if (lane.isEmpty) this.#rest(lane)
    else MutableList.append(this.#ready, lane)
  }

  #rest(lane: Lane<Item>): void {
    lane.isActive = false
    if (lane.key !== undefined && this.#lanes.size > maxIdle) this.#lanes.delete(lane.key)
  }

  #ended(worker: Worker<Item>): void {
    this.#workers.delete(worker)
    this.start()
    if (this.#workers.size === 0) this.#onIdle?.()
  }

  /** Takes out the items that wait, those of a lane in order. */
  drop(isAffected: (item: Item) => boolean): ReadonlyArray<Item> {
    const dropped: Array<Item> = []
    // What a lane with a worker has left is not among the ready ones, nor is a lane that is held
    for (const lane of this.#lanes.values()) dropped.push(...lane.remove(isAffected))
    for (const [item, lane] of this.#held) {
      if (lane.key === undefined) dropped.push(...lane.remove(isAffected))
      if (!isAffected(item)) continue
      this.#held.delete(item)
      this.#turn(lane)
    }
    MutableList.filter(this.#ready, (lane) => {
      if (lane.key === undefined) dropped.push(...lane.remove(isAffected))
      if (lane.isEmpty) this.#rest(lane)
      return !lane.isEmpty
    })
    // What was behind an item that was held may have its turn now, and no worker to notice
    this.start()
    return dropped
  }

  /** Interrupts the runs of these items and waits for their end; others take their place. */
  interrupt(isAffected: (item: Item) => boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const fibers: Array<AnyFiber> = []
      for (const { fiber, items } of this.#workers) {
        if (fiber !== undefined && items.some(isAffected)) fibers.push(fiber)
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
