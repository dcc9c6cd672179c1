/**
 * Metrics with attributes. Making the key of a metric takes longer than an
 * update, so each set of attributes has one handle, made once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import { inMessages, inSeconds } from "./units.ts"

type Attributes = Readonly<Record<string, string>>

/** What is updated, and from which values its attributes follow. */
type HandleOf<M> = (values: ReadonlyArray<string>) => M

const handles = <M>(make: (values: ReadonlyArray<string>) => M): HandleOf<M> => {
  const made = new Map<string, M>()
  return (values) => {
    const key = values.join("\u0000")
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

/** Updates the histogram that belongs to the exit with the duration of an effect, in seconds. */
export const measured = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  histogramOf: (exit: Exit.Exit<A, E>) => Metric.Histogram<number>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const clock = fiber.getRef(Clock.Clock)
    const start = clock.currentTimeNanosUnsafe()
    return Effect.onExitPrimitive(effect, (exit) => {
      histogramOf(exit).updateUnsafe(Number(clock.currentTimeNanosUnsafe() - start) / 1e9, fiber.context)
      return undefined
    })
  })
