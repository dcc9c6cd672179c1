/**
 * Drains the events of a dispatch and the follow-ups that they lead to, until
 * there are none: in order, or in parallel under a bound.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Event from "../../Event.ts"
import type { EventEmitter } from "../../EventEmitter.ts"
import { CascadeTooDeep, type EventFailure, type EventFlowError } from "../../EventFlowError.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import { TypeId } from "../definition/eventClass.ts"
import { type Dispatch, inDispatch } from "./dispatch.ts"
import { failFast, type Failures } from "./failures.ts"
import type { Flow } from "./flow.ts"
import { runPool } from "./pool.ts"
import { type Batch, PublishOrder, Turn } from "./publishOrder.ts"
import { nothing, reporting } from "./reporting.ts"
import { type EmitterWay, emitterWays, type Handles, type Report } from "./ways.ts"

type Emitter = EventEmitter["Service"]

interface Options {
  readonly concurrency: number
  readonly maxDepth: number
}

/** Processes events in a dispatch; `next` comes when all is done and nothing has failed. */
export const makeDrain = (emitter: Emitter, options: Options) => {
  const way = emitterWays.get(emitter)
  return <A, E>(
    dispatch: Dispatch,
    events: ReadonlyArray<Event.Any>,
    failures: Failures,
    next: () => Effect.Effect<A, E>
  ): Effect.Effect<A, E | EventFlowError> => {
    const done = failures === failFast ? next : () => Effect.flatMap(failures.conclude, next)
    if (options.concurrency === 1) {
      return new SequentialDrain(emitter, way, dispatch, events, failures, options.maxDepth, done).start()
    }
    dispatch.fiber.setContext(dispatch.flow.context)
    return Effect.flatMap(drainParallel(emitter, way, dispatch.flow, events, failures, options), done)
  }
}

/** What is emitted at once: a domain event, or adjacent notification events (F12). */
type Item = Event.Any | Batch

/** The item that starts at `index`. */
const itemAt = (events: ReadonlyArray<Event.Any>, index: number): Item => {
  const event = events[index]!
  if (event[TypeId] !== "Notification") return event
  const batch: Arr.NonEmptyArray<NotificationEvent.Any> = [event]
  for (let end = index + 1; end < events.length; end++) {
    const next = events[end]!
    if (next[TypeId] !== "Notification") break
    batch.push(next)
  }
  return batch
}

const isBatch = (item: Item): item is Batch => Array.isArray(item)

const emitItem = (
  emitter: Emitter,
  item: Item,
  report: Report
): Effect.Effect<ReadonlyArray<Event.Any>, EventFailure> =>
  isBatch(item)
    ? reporting(Effect.as(emitter.publish(item), nothing), report)
    // The dispatch that it runs in is a mediator's: it has what handlers need to send
    : emitter.emit(item, { report }) as Effect.Effect<ReadonlyArray<Event.Any>, EventFailure>

const tooDeep = (event: Event.Any, maxDepth: number, failures: Failures): Effect.Effect<void, CascadeTooDeep> => {
  const error = new CascadeTooDeep({ event: event._tag, maxDepth })
  if (failures.report === undefined) return Effect.fail(error)
  failures.report(Cause.fail(error))
  return Effect.void
}

/**
 * Breadth first by levels. Only two levels are kept, so a chain of a million
 * follow-ups takes constant memory, and `advance` returns to the run loop, so
 * it takes constant stack (F10).
 */
class SequentialDrain<A, E> {
  readonly #emitter: Emitter
  readonly #way: EmitterWay | undefined
  readonly #handlers: Handles<A, E | EventFailure> | undefined
  readonly #dispatch: Dispatch
  readonly #failures: Failures
  readonly #maxDepth: number
  readonly #done: () => Effect.Effect<A, E>
  #level: ReadonlyArray<Event.Any>
  #following = nothing
  // What a handler collected is taken as it is; what is added to must be a copy (F16)
  #additions: Array<Event.Any> | undefined = undefined
  #index = 0
  readonly #firstDepth: number

  constructor(
    emitter: Emitter,
    way: EmitterWay | undefined,
    dispatch: Dispatch,
    events: ReadonlyArray<Event.Any>,
    failures: Failures,
    maxDepth: number,
    done: () => Effect.Effect<A, E>
  ) {
    this.#emitter = emitter
    this.#way = way
    this.#firstDepth = dispatch.flow.depth
    this.#dispatch = dispatch
    this.#level = events
    this.#failures = failures
    this.#maxDepth = maxDepth
    this.#done = done
    this.#handlers = way?.handlerOf(dispatch, failures.report, this.#advance)
  }

  start(): Effect.Effect<A, E | EventFailure> {
    return this.#nextLevel() ?? this.#step()
  }

  /** The handlers of a level run one deeper than its events are; what ends the drain when that is too deep. */
  #nextLevel(): Effect.Effect<A, E | EventFailure> | undefined {
    const { flow } = this.#dispatch
    if (this.#level.length === 0 || flow.depth++ <= this.#maxDepth) return undefined
    const event = this.#level[0]!
    return Effect.flatMap(tooDeep(event, this.#maxDepth, this.#failures), () => this.#end())
  }

  #end(): Effect.Effect<A, E> {
    this.#dispatch.flow.depth = this.#firstDepth
    return this.#done()
  }

  #step(): Effect.Effect<A, E | EventFailure> {
    if (this.#index === this.#level.length) {
      if (this.#following.length === 0) return this.#end()
      this.#level = this.#following
      this.#following = nothing
      this.#additions = undefined
      this.#index = 0
      const tooDeep = this.#nextLevel()
      if (tooDeep !== undefined) return tooDeep
    }
    const event = this.#level[this.#index]!
    if (this.#handlers !== undefined && event[TypeId] === "Domain") {
      this.#index++
      return this.#handlers.handle(event)
    }
    const item = itemAt(this.#level, this.#index)
    this.#index += isBatch(item) ? item.length : 1
    if (this.#way !== undefined && isBatch(item)) {
      return this.#way.publish(this.#dispatch, item, this.#failures.report, this.#advance)
    }
    const { fiber, flow } = this.#dispatch
    fiber.setContext(flow.context)
    return Effect.flatMap(emitItem(this.#emitter, item, this.#failures.report), this.#advance)
  }

  readonly #advance = (followUps: ReadonlyArray<Event.Any>): Effect.Effect<A, E | EventFailure> => {
    if (followUps.length > 0) {
      if (this.#following.length === 0) {
        this.#following = followUps
      } else {
        if (this.#additions === undefined) this.#following = this.#additions = Array.from(this.#following)
        for (const followUp of followUps) this.#additions.push(followUp)
      }
    }
    return this.#step()
  }
}

interface Work {
  /** What to emit; a turn is a publish that has waited for its own. */
  readonly item: Item | Turn
  /** The flow of the handlers of its level: one deeper than its events. */
  readonly flow: Flow
}

const noWork: Effect.Effect<ReadonlyArray<Work>> = Effect.succeed([])

const drainParallel = (
  emitter: Emitter,
  way: EmitterWay | undefined,
  start: Flow,
  events: ReadonlyArray<Event.Any>,
  failures: Failures,
  { concurrency, maxDepth }: Options
): Effect.Effect<void, EventFailure> =>
  Effect.suspend(() => {
    const { report } = failures
    // Those of one level share a flow, and with it the contexts of their handlers; a few levels are kept
    const levels: Array<Flow | undefined> = []
    const flowAt = (depth: number): Flow => {
      const kept = levels[depth % 4]
      if (kept?.depth === depth) return kept
      kept?.release()
      return levels[depth % 4] = start.atDepth(depth)
    }

    const order = new PublishOrder()
    // What waits for its turn takes no place: whoever it waits for leads to it
    const publish = (turn: Turn, flow: Flow): Effect.Effect<ReadonlyArray<Work>, EventFailure> =>
      turn.waitsFor > 0 ? noWork : Effect.map(
        emitItem(emitter, turn.batch, report),
        () => order.done(turn).map((item) => ({ item, flow }))
      )

    const emit = (event: Event.Any, flow: Flow): Effect.Effect<ReadonlyArray<Event.Any>, EventFailure> =>
      way === undefined
        ? Effect.provideContext(emitItem(emitter, event, report), flow.context)
        : inDispatch((dispatch) => way.handlerOf(dispatch, report, Effect.succeed).handle(event), flow)

    const toWork = (
      events: ReadonlyArray<Event.Any>,
      depth: number
    ): Effect.Effect<ReadonlyArray<Work>, EventFailure> => {
      if (events.length === 0) return noWork
      if (depth > maxDepth) return Effect.as(tooDeep(events[0]!, maxDepth, failures), [])
      const flow = flowAt(depth + 1)
      const work: Array<Work> = []
      for (let index = 0; index < events.length;) {
        const item = itemAt(events, index)
        work.push({ item, flow })
        index += isBatch(item) ? item.length : 1
      }
      return Effect.succeed(work)
    }

    const drained = Effect.flatMap(toWork(events, start.depth), (initial) =>
      runPool<Work, EventFailure>({
        concurrency,
        initial,
        run: ({ flow, item }) =>
          item instanceof Turn
            ? publish(item, flow)
            : isBatch(item)
            ? publish(order.enter(item), flow)
            : Effect.flatMap(emit(item, flow), (followUps) => toWork(followUps, flow.depth))
      }))
    return Effect.onExitPrimitive(drained, () => {
      for (const level of levels) level?.release()
      return undefined
    })
  })
