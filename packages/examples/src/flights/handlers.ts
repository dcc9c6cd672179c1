/**
 * The first flow: what recording a flight does.
 *
 *     RecordFlight ─── FlightRecorded ─┬─ UpdateStatistics
 *                                      └─ FindLongDelays ─── LongDelay ─── broker
 *     EndRun ─── RunEnded ─── broker
 */
import { EventFlow, EventHandler } from "@event-flow/core"
import { Context, Effect, Layer } from "effect"
import { EndRun, FlightRecorded, ImpossibleFlight, LongDelay, RecordFlight, RunEnded } from "./domain.ts"
import { Statistics } from "./statistics.ts"

/** From how many minutes a delay is a long one. */
export const LongDelayFrom = Context.Reference<number>("examples/flights/LongDelayFrom", {
  defaultValue: () => 60
})

const RecordFlightLive = RecordFlight.toLayer(
  Effect.fn("RecordFlight")(function*({ date, delay, destination, distance, origin }, { collect }) {
    if (origin === destination) return yield* new ImpossibleFlight({ airport: origin })
    yield* collect(new FlightRecorded({ date, delay, destination, distance, origin }))
  })
)

const UpdateStatistics = EventHandler.make("UpdateStatistics", { on: FlightRecorded })

const UpdateStatisticsLive = UpdateStatistics.toLayer(
  Effect.map(Statistics, (statistics) => (flight) => statistics.record(flight))
)

const FindLongDelays = EventHandler.make("FindLongDelays", { on: FlightRecorded, emits: [LongDelay] })

const FindLongDelaysLive = FindLongDelays.toLayer(
  Effect.map(
    LongDelayFrom,
    (threshold) => ({ date, delay, destination, distance, origin }, { collect }) =>
      delay < threshold
        ? Effect.void
        : collect(new LongDelay({ date, delay, destination, distance, origin }))
  )
)

const EndRunLive = EndRun.toLayer(({ longDelays }, { collect }) => collect(new RunEnded({ longDelays })))

class Flights extends EventFlow.make("Flights", {
  commands: [RecordFlight, EndRun],
  handlers: [UpdateStatistics, FindLongDelays]
}) {}

/** Handles `RecordFlight` and `EndRun`; needs a broker. */
export const FlightsLive = Flights.layer().pipe(
  Layer.provide([RecordFlightLive, EndRunLive, UpdateStatisticsLive, FindLongDelaysLive]),
  Layer.provideMerge(Statistics.layer)
)
