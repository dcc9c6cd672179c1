/**
 * What the example talks about: flights, the command that records one, and the events that follow.
 */
import { Command, DomainEvent, NotificationEvent } from "@event-flow/core"
import { Schema } from "effect"

const daysOfMonth = (year: number, month: number): number =>
  month === 2
    ? (year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28)
    : [4, 6, 9, 11].includes(month)
    ? 30
    : 31

const isLocalTime = Schema.makeFilter(
  (text: string) => {
    const match = /^(\d{4})\/(\d\d)\/(\d\d) (\d\d):(\d\d)$/.exec(text)
    if (match === null) return false
    const [year, month, day, hour, minute] = match.slice(1).map(Number) as [number, number, number, number, number]
    return month >= 1 && month <= 12 && day >= 1 && day <= daysOfMonth(year, month) && hour < 24 && minute < 60
  },
  { expected: "a local time such as 2001/01/31 23:59" }
)

/** A time as the file writes it: local to the airport, without a zone. */
export const LocalTime = Schema.String.check(isLocalTime)

/** The code of an airport. */
export const Airport = Schema.String.check(
  Schema.isPattern(/^[A-Z]{3}$/, { expected: "an airport code of three capital letters" })
)

/** The fields of a flight; commands and events that carry a flight spread them. */
export const flightFields = {
  date: LocalTime,
  /** Minutes; negative when the flight was early. */
  delay: Schema.Int.check(Schema.isBetween({ minimum: -1440, maximum: 2880 })),
  /** Miles. */
  distance: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 12_500 })),
  origin: Airport,
  destination: Airport
}

export const Flight = Schema.Struct(flightFields)
export type Flight = typeof Flight.Type

/** A flight that no schema of a single field can refuse. */
export class ImpossibleFlight extends Schema.TaggedError<ImpossibleFlight>()("ImpossibleFlight", {
  airport: Airport
}) {
  override get message() {
    return `origin and destination are the same airport, ${this.airport}`
  }
}

/** A flight has been recorded. */
export class FlightRecorded extends DomainEvent.Class<FlightRecorded>()("FlightRecorded", flightFields) {}

/** News for other programs: this flight was very late. In order for each airport of departure. */
export class LongDelay extends NotificationEvent.Class<LongDelay>()("LongDelay", flightFields, {
  topic: "flights.long-delays",
  key: (event) => event.origin
}) {}

/** News for other programs: all flights of a run are recorded. */
export class RunEnded extends NotificationEvent.Class<RunEnded>()("RunEnded", {
  /** How many `LongDelay` have been published. */
  longDelays: Schema.Int
}, { topic: LongDelay.route.topic }) {}

/** An airport has had a number of long delays. */
export class AirportInTrouble extends DomainEvent.Class<AirportInTrouble>()("AirportInTrouble", {
  airport: Airport,
  longDelays: Schema.Int
}) {}

/** Records one flight. */
export class RecordFlight extends Command.Class<RecordFlight>()("RecordFlight", {
  payload: flightFields,
  error: ImpossibleFlight,
  emits: [FlightRecorded]
}) {}

/** Tells other programs that a run has ended. */
export class EndRun extends Command.Class<EndRun>()("EndRun", {
  payload: { longDelays: Schema.Int },
  emits: [RunEnded]
}) {}
