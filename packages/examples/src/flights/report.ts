/**
 * What a run has found, as text for people.
 */
import { Array, Duration, Order } from "effect"
import type { BoardEntry } from "./board.ts"
import { troubleFrom } from "./board.ts"
import type { Counts } from "./counts.ts"
import type { BadRecord } from "./source.ts"
import { type AirportStatistics, combine, delayedFrom, meanDelay, type Tally } from "./statistics.ts"
import { type Part, parts, type Times } from "./stopwatch.ts"

export interface Summary {
  readonly broker: string
  /** Why the run ended before the file did; undefined when it did not. */
  readonly endedEarly: string | undefined
  readonly elapsed: Duration.Duration
  /** What the first flow has found; undefined where it runs in another process. */
  readonly recorded: Recorded | undefined
  /** The same for the delay board. */
  readonly board: Board | undefined
  readonly counts: Counts
}

export interface Recorded {
  readonly source: string
  readonly recordsRead: number
  /** Milliseconds from the start of the process to its first record. */
  readonly startup: number
  readonly times: Times
  readonly badRecords: { readonly count: number; readonly first: ReadonlyArray<BadRecord> }
  readonly total: Tally
  readonly airports: ReadonlyArray<AirportStatistics>
}

export interface Board {
  readonly entries: ReadonlyArray<BoardEntry>
  readonly alarms: ReadonlyArray<string>
}

export interface Options {
  /** How many airports to show. */
  readonly top: number
  /** How many flights an airport must have to be ranked. Default: one in 200 of all. */
  readonly minFlights: number | undefined
  readonly longDelayFrom: number
  /** The width of the terminal; undefined where there is none. */
  readonly columns: number | undefined
  readonly color: boolean
}

export const render = (summary: Summary, options: Options): string => {
  const style = styles(options.color)
  const { board, broker, counts, recorded } = summary
  return [
    headline(summary, style),
    ...(recorded === undefined ? [] : worstAirports(recorded, options, style)),
    ...(board === undefined ? [] : [delayBoard(board, options, style)]),
    flows(counts, style),
    ...(recorded === undefined || recorded.recordsRead === 0 ? [] : [timeSpent(recorded, broker, style)]),
    ...(recorded === undefined || recorded.badRecords.count === 0
      ? []
      : [badRecords(recorded.badRecords, options, style)])
  ].map((section) => section.join("\n")).join("\n\n") + "\n"
}

// --- sections ---

const headline = ({ board, broker, elapsed, endedEarly, recorded }: Summary, style: Style): ReadonlyArray<string> => {
  const seconds = Duration.toSeconds(elapsed)
  const lines = recorded === undefined
    ? [
      style.title(`${count(longDelays(board?.entries ?? []), "long delay")} consumed`),
      `${seconds.toFixed(2)} s, broker: ${broker}`
    ]
    : [
      style.title(`${count(recorded.total.flights, "flight")} recorded`) +
      ` of ${count(recorded.recordsRead, "record")} in ${recorded.source}`,
      `${seconds.toFixed(2)} s, ${number(seconds > 0 ? Math.round(recorded.recordsRead / seconds) : 0)} records/s, ` +
      `broker: ${broker}`,
      ...(recorded.recordsRead === 0 ? [] : [`${(recorded.startup / 1000).toFixed(2)} s from start to first record`])
    ]
  return endedEarly === undefined
    ? lines
    : [style.warning(`Ended early: ${endedEarly}. This is the result so far.`), ...lines]
}

const worstAirports = (recorded: Recorded, options: Options, style: Style): ReadonlyArray<ReadonlyArray<string>> => {
  const minFlights = options.minFlights ?? Math.ceil(recorded.total.flights / 200)
  const ranked = rank(recorded.airports, minFlights)
  const shown = ranked.slice(0, options.top)
  return shown.length === 0
    ? [[`No airport has ${count(minFlights, "flight")}.`]]
    : [
      [
        style.title(`The ${shown.length} worst airports by mean delay`) +
        style.dim(` (of ${number(ranked.length)} with at least ${count(minFlights, "flight")})`),
        "",
        ...airportTable(shown, recorded.total, style)
      ],
      [style.title("Mean delay in minutes"), "", ...barChart(shown, options, style)]
    ]
}

interface Ranked extends Tally {
  readonly airport: string
  readonly departures: number
  readonly arrivals: number
}

const rank = (airports: ReadonlyArray<AirportStatistics>, minFlights: number): ReadonlyArray<Ranked> =>
  airports
    .map(({ airport, arrivals, departures }): Ranked => ({
      ...combine(departures, arrivals),
      airport,
      departures: departures.flights,
      arrivals: arrivals.flights
    }))
    .filter(({ flights }) => flights > 0 && flights >= minFlights)
    .sort((a, b) => meanDelay(b) - meanDelay(a) || a.airport.localeCompare(b.airport))

const airportTable = (airports: ReadonlyArray<Ranked>, total: Tally, style: Style): ReadonlyArray<string> => {
  const row = (name: string, departures: string, arrivals: string, tally: Tally) => [
    name,
    number(tally.flights),
    departures,
    arrivals,
    percent(tally.delayed / tally.flights),
    meanDelay(tally).toFixed(1),
    number(tally.worst)
  ]
  const rows = [
    ["Airport", "Flights", "Departures", "Arrivals", `${delayedFrom}+ min late`, "Mean", "Worst"],
    ...airports.map((airport) => row(airport.airport, number(airport.departures), number(airport.arrivals), airport)),
    row("All", "", "", total)
  ]
  const lines = alignColumns(rows).map((line) => `  ${line}`)
  return [style.dim(lines[0]!), ...lines.slice(1, -1), style.dim(lines.at(-1)!)]
}

const barChart = (airports: ReadonlyArray<Ranked>, options: Options, style: Style): ReadonlyArray<string> => {
  const largest = Math.max(...airports.map(meanDelay))
  const width = Math.max(10, Math.min(options.columns ?? 80, 100) - 14)
  return airports.map((airport) => {
    const mean = meanDelay(airport)
    const bar = largest > 0 && mean > 0 ? blocks((mean / largest) * width) : ""
    return `  ${airport.airport} ${style.bar(bar)} ${mean.toFixed(1)}`
  })
}

const delayBoard = ({ alarms, entries }: Board, options: Options, style: Style): ReadonlyArray<string> => {
  // The airports are in the order in which their first messages came: any order, with a real broker
  const most = Array.sort(entries, mostDelays).slice(0, 5)
  const longest = Array.sort(entries, longestDelay)[0]?.longest
  return [
    style.title("The delay board") + style.dim(` (departures ${options.longDelayFrom} minutes late or more)`),
    "",
    `  ${count(longDelays(entries), "long delay")} at ${count(entries.length, "airport")}`,
    ...(most.length === 0 ? [] : [
      `  Most:       ${most.map(({ airport, longDelays }) => `${airport} ${longDelays}`).join(", ")}`
    ]),
    ...(longest === undefined ? [] : [
      `  Longest:    ${longest.delay} min, ${longest.origin} to ${longest.destination}, ${longest.date}`
    ]),
    `  In trouble: ${count(alarms.length, "airport")} with ${troubleFrom} or more`
  ]
}

const longDelays = (entries: ReadonlyArray<BoardEntry>): number =>
  Array.reduce(entries, 0, (sum, entry) => sum + entry.longDelays)

const byAirport = Order.mapInput(Order.String, ({ airport }: BoardEntry) => airport)
const mostDelays = Order.combine(Order.mapInput(Order.Number, (entry: BoardEntry) => -entry.longDelays), byAirport)
const longestDelay = Order.combine(Order.mapInput(Order.Number, (entry: BoardEntry) => -entry.longest.delay), byAirport)

const flows = (counts: Counts, style: Style): ReadonlyArray<string> => {
  const rows = [
    ...Array.map([...counts.commands], ([tag, { failed, sent, succeeded }]) => [
      "Command",
      tag,
      `${number(sent)} sent`,
      `${number(succeeded)} succeeded`,
      `${number(failed)} failed`
    ]),
    ...Array.map([...counts.events], ([tag, { collected, handlerRuns }]) => [
      "Event",
      tag,
      `${number(collected)} collected`,
      ...Array.map([...handlerRuns], ([handler, runs]) => `${number(runs)} ${handler}`)
    ]),
    ...Array.flatMap([...counts.messages], ([type, { consumed, outcomes, published }]) => [
      [
        "Message",
        type,
        `${number(published)} published`,
        `${number(consumed)} consumed`,
        `${number(outcomes.handled)} handled`
      ],
      [
        "",
        "",
        count(outcomes.duplicate, "duplicate"),
        count(outcomes.dead_lettered, "dead letter"),
        `${number(outcomes.skipped)} skipped`
      ]
    ])
  ]
  const numberWidth = Math.max(0, ...rows.flatMap((row) => row.slice(2)).map((cell) => cell.indexOf(" ")))
  const aligned = rows.map((row) =>
    row.map((cell, i) => i < 2 ? cell : " ".repeat(numberWidth - cell.indexOf(" ")) + cell)
  )
  const widths = columnWidths(aligned)
  return [
    style.title("What went through"),
    "",
    ...aligned.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ")}`.trimEnd())
  ]
}

const timeSpent = ({ recordsRead, times }: Recorded, broker: string, style: Style): ReadonlyArray<string> => {
  const names: Record<Part, string> = {
    eventFlow: "Event Flow",
    handlers: "Handlers",
    broker: `Broker (${broker})`,
    decoding: "Decoding",
    rest: "Reading, streams, waiting"
  }
  const total = Array.reduce(parts, 0, (sum, part) => sum + times.parts[part])
  const each = (nanos: number) => `${(nanos / 1000 / recordsRead).toFixed(1)} µs`
  const rows = [...parts.map((part) => [names[part], times.parts[part]] as const), ["All", total] as const]
    .map(([name, nanos]) => [name, each(nanos), percent(nanos / Math.max(1, total))])
  return [
    style.title("Where the time of a record went") + style.dim(` (${each(times.processor)} of it the processor's)`),
    "",
    ...alignColumns(rows).map((line) => `  ${line}`)
  ]
}

const badRecords = (bad: Recorded["badRecords"], options: Options, style: Style): ReadonlyArray<string> => {
  const more = bad.count - bad.first.length
  return [
    style.warning(`${count(bad.count, "bad record")}`) + style.dim(" (left out of everything above)"),
    "",
    ...bad.first.map(({ index, line, reason }) =>
      shorten(`  record ${number(index)}, line ${number(line)}: ${reason}`, Math.max(60, options.columns ?? 200))
    ),
    ...(more === 0 ? [] : [`  and ${number(more)} more`])
  ]
}

// --- text ---

interface Style {
  readonly title: (text: string) => string
  readonly dim: (text: string) => string
  readonly bar: (text: string) => string
  readonly warning: (text: string) => string
}

const styles = (color: boolean): Style => {
  const sgr = (code: number) => (text: string) => color ? `\u001b[${code}m${text}\u001b[0m` : text
  return { title: sgr(1), dim: sgr(2), bar: sgr(36), warning: sgr(33) }
}

const number = (value: number): string => value.toLocaleString("en-US")

const percent = (value: number): string => `${(value * 100).toFixed(1)} %`

const count = (value: number, noun: string): string => `${number(value)} ${noun}${value === 1 ? "" : "s"}`

const shorten = (text: string, width: number): string => text.length <= width ? text : `${text.slice(0, width - 1)}…`

/** A bar of this many columns, to an eighth of one. */
const blocks = (length: number): string => {
  const eighths = Math.max(1, Math.round(length * 8))
  return "█".repeat(Math.floor(eighths / 8)) + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
}

const columnWidths = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<number> =>
  Array.makeBy(
    Math.max(...rows.map((row) => row.length)),
    (column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))
  )

/** The first column to the left, the others, which are numbers, to the right. */
const alignColumns = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = columnWidths(rows)
  return rows.map((row) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join("  ")
  )
}
