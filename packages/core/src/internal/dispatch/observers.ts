/**
 * The observers of a flow. Each is in the context of its layer under a key of
 * its own, so that they add up however their layers are joined.
 */
import type * as Context from "effect/Context"
import type * as FlowObserver from "../../FlowObserver.ts"
import { prefix } from "./observerKeys.ts"

/** What watches a flow: whoever was asked, and those of them that want to see it. */
export interface Watching {
  readonly asked: Observers
  /** Undefined: nobody does. */
  readonly observer: FlowObserver.FlowObserver | undefined
}

/** What an observer is asked about. */
type Work = Parameters<FlowObserver.FlowObserver["isSampled"]>[0]

export class Observers {
  readonly #all: ReadonlyArray<FlowObserver.FlowObserver>
  readonly #together: FlowObserver.FlowObserver | undefined

  constructor(all: ReadonlyArray<FlowObserver.FlowObserver>) {
    this.#all = all
    this.#together = joined(all)
  }

  /** The observers that a layer finds in its context. */
  static in(context: Context.Context<never>): Observers {
    const found: Array<FlowObserver.FlowObserver> = []
    for (const [key, service] of context.mapUnsafe) {
      // Only `addObserver` writes such keys
      if (key.startsWith(prefix)) found.push(service as FlowObserver.FlowObserver)
    }
    return new Observers(found)
  }

  get isEmpty(): boolean {
    return this.#all.length === 0
  }

  /**
   * Asks who wants to see a piece of work. What a watched flow leads to follows
   * it, unasked; where that is watched by others too, they are asked and join.
   */
  watching(outer: Watching | undefined, work: () => Work): Watching | undefined {
    if (outer === undefined) return this.#all.length === 0 ? undefined : this.#ask(work())
    if (outer.asked === this) return outer
    const unasked = this.#all.filter((observer) => !outer.asked.#all.includes(observer))
    if (unasked.length === 0) return outer
    const asked = work()
    const more = unasked.filter((observer) => observer.isSampled(asked))
    return {
      asked: new Observers([...outer.asked.#all, ...unasked]),
      observer: joined([...partsOf(outer.observer), ...more])
    }
  }

  #ask(work: Work): Watching {
    const sampling = this.#all.filter((observer) => observer.isSampled(work))
    return { asked: this, observer: sampling.length === this.#all.length ? this.#together : joined(sampling) }
  }
}

/** Of which observers a joined one is made. */
const parts = new WeakMap<FlowObserver.FlowObserver, ReadonlyArray<FlowObserver.FlowObserver>>()

const partsOf = (observer: FlowObserver.FlowObserver | undefined): ReadonlyArray<FlowObserver.FlowObserver> =>
  observer === undefined ? [] : parts.get(observer) ?? [observer]

/** One observer that calls several, in their order. */
const joined = (observers: ReadonlyArray<FlowObserver.FlowObserver>): FlowObserver.FlowObserver | undefined => {
  if (observers.length < 2) return observers[0]
  const call = <K extends keyof FlowObserver.FlowObserver>(name: K) => (...args: Array<unknown>): void => {
    for (const observer of observers) {
      // The arguments are those of the method of this name
      const method = observer[name] as (...args: Array<unknown>) => unknown
      method.apply(observer, args)
    }
  }
  const all: FlowObserver.FlowObserver = {
    isSampled: () => true,
    commandStarted: call("commandStarted"),
    commandHandling: call("commandHandling"),
    commandHandled: call("commandHandled"),
    commandEnded: call("commandEnded"),
    handlerStarted: call("handlerStarted"),
    handlerEnded: call("handlerEnded"),
    collected: call("collected"),
    published: call("published"),
    publishEnded: call("publishEnded"),
    deliveryStarted: call("deliveryStarted"),
    deliveryDecoded: call("deliveryDecoded"),
    deliveryEnded: call("deliveryEnded")
  }
  parts.set(all, observers)
  return all
}
