/**
 * The delays of every airport, as they add up.
 */
import { Context, Effect, Layer } from "effect"
import type { Flight } from "./domain.ts"

/** From how many minutes a flight counts as delayed. */
export const delayedFrom = 15

/** Some flights, added up. Delays are in minutes. */
export interface Tally {
  readonly flights: number
  readonly delayed: number
  readonly totalDelay: number
  /** The largest delay; -Infinity without a flight. */
  readonly worst: number
}

export const emptyTally: Tally = { flights: 0, delayed: 0, totalDelay: 0, worst: -Infinity }

export const meanDelay = (tally: Tally): number => tally.totalDelay / tally.flights

/** Two tallies as one. */
export const combine = (a: Tally, b: Tally): Tally => ({
  flights: a.flights + b.flights,
  delayed: a.delayed + b.delayed,
  totalDelay: a.totalDelay + b.totalDelay,
  worst: Math.max(a.worst, b.worst)
})

/** What is known of an airport: a flight counts at both of its ends. */
export interface AirportStatistics {
  readonly airport: string
  readonly departures: Tally
  readonly arrivals: Tally
}

export class Statistics extends Context.Service<Statistics, {
  readonly record: (flight: Flight) => Effect.Effect<void>
  /** The flights so far. */
  readonly total: Effect.Effect<Tally>
  readonly airports: Effect.Effect<ReadonlyArray<AirportStatistics>>
}>()("examples/flights/Statistics") {
  static readonly layer = Layer.sync(Statistics, () => {
    // One thread, no await between read and write: plain maps are safe here.
    const departures = new Map<string, Tally>()
    const arrivals = new Map<string, Tally>()
    let total = emptyTally

    const add = (tallies: Map<string, Tally>, airport: string, flight: Tally) =>
      tallies.set(airport, combine(tallies.get(airport) ?? emptyTally, flight))

    return Statistics.of({
      record: ({ delay, destination, origin }) =>
        Effect.sync(() => {
          const flight: Tally = { flights: 1, delayed: delay >= delayedFrom ? 1 : 0, totalDelay: delay, worst: delay }
          add(departures, origin, flight)
          add(arrivals, destination, flight)
          total = combine(total, flight)
        }),
      total: Effect.sync(() => total),
      airports: Effect.sync(() =>
        Array.from(new Set([...departures.keys(), ...arrivals.keys()]), (airport) => ({
          airport,
          departures: departures.get(airport) ?? emptyTally,
          arrivals: arrivals.get(airport) ?? emptyTally
        }))
      )
    })
  })
}
