/**
 * Metrics with attributes. Making the key of a metric takes longer than an
 * update, so each set of attributes has one handle, made once.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import { inMessages, inSeconds } from "./units.ts"

type Attributes = Readonly<Record<string, string>>

/** What is updated, and from which values its attributes follow. */
type HandleOf<M> = (values: ReadonlyArray<string>) => M

const handles = <M>(make: (values: ReadonlyArray<string>) => M): HandleOf<M> => {
  const made = new Map<string, M>()
  return (values) => {
    const key = values.length === 1 ? values[0]! : values.join("\u0000")
    let handle = made.get(key)
    if (handle === undefined) made.set(key, handle = make(values))
    return handle
  }
}

/** The histograms of a duration metric. */
export const durations = (
  metric: { readonly id: string; readonly description: string | undefined },
  attributes: (values: ReadonlyArray<string>) => Attributes
): HandleOf<Metric.Histogram<number>> =>
  handles((values) =>
    Metric.histogram(metric.id, {
      description: metric.description,
      boundaries: inSeconds.boundaries,
      attributes: { ...inSeconds.attributes, ...attributes(values) }
    })
  )

/** The counters of a metric of messages. */
export const counters = (
  metric: { readonly id: string; readonly description: string | undefined },
  attributes: (values: ReadonlyArray<string>) => Attributes
): HandleOf<Metric.Counter<number>> =>
  handles((values) =>
    Metric.counter(metric.id, {
      description: metric.description,
      incremental: true,
      attributes: { ...inMessages.attributes, ...attributes(values) }
    })
  )

/** Takes the time of something that starts in this fiber. */
export class Timer {
  readonly #fiber: Fiber.Fiber<unknown, unknown>
  readonly #clock: Clock.Clock
  readonly #start: bigint

  constructor(fiber: Fiber.Fiber<unknown, unknown>) {
    this.#fiber = fiber
    this.#clock = Context.get(fiber.context, Clock.Clock)
    this.#start = this.#clock.currentTimeNanosUnsafe()
  }

  /** Updates a histogram with the seconds since the start. */
  end(histogram: Metric.Histogram<number>): void {
    const nanos = Number(this.#clock.currentTimeNanosUnsafe() - this.#start)
    histogram.updateUnsafe(nanos / 1e9, this.#fiber.context)
  }
}

/** Updates the histogram that belongs to the exit with the duration of an effect. */
export const measured = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  histogramOf: (exit: Exit.Exit<A, E>) => Metric.Histogram<number>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const timer = new Timer(fiber)
    return Effect.onExitPrimitive(effect, (exit) => {
      timer.end(histogramOf(exit))
      return undefined
    })
  })
