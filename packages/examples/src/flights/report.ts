/**
 * What a run has found, as text for people.
 */
import { Array, Duration, Order } from "effect"
import type { BoardEntry } from "./board.ts"
import { troubleFrom } from "./board.ts"
import type { Counts } from "./counts.ts"
import type { BadRecord } from "./source.ts"
import { type AirportStatistics, combine, delayedFrom, meanDelay, type Tally } from "./statistics.ts"

export interface Summary {
  readonly source: string
  readonly broker: string
  /** Why the run ended before the file did; undefined when it did not. */
  readonly endedEarly: string | undefined
  readonly elapsed: Duration.Duration
  readonly recordsRead: number
  readonly badRecords: { readonly count: number; readonly first: ReadonlyArray<BadRecord> }
  readonly total: Tally
  readonly airports: ReadonlyArray<AirportStatistics>
  readonly board: ReadonlyArray<BoardEntry>
  readonly alarms: ReadonlyArray<string>
  readonly counts: Counts
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
  const minFlights = options.minFlights ?? Math.ceil(summary.total.flights / 200)
  const ranked = worstAirports(summary.airports, minFlights)
  const shown = ranked.slice(0, options.top)
  return [
    headline(summary, style),
    ...(shown.length === 0
      ? [[`No airport has ${count(minFlights, "flight")}.`]]
      : [
        [
          style.title(`The ${shown.length} worst airports by mean delay`) +
          style.dim(` (of ${number(ranked.length)} with at least ${count(minFlights, "flight")})`),
          "",
          ...airportTable(shown, summary.total, style)
        ],
        [style.title("Mean delay in minutes"), "", ...barChart(shown, options, style)]
      ]),
    board(summary, options, style),
    flows(summary.counts, style),
    ...(summary.badRecords.count === 0 ? [] : [badRecords(summary.badRecords, options, style)])
  ].map((section) => section.join("\n")).join("\n\n") + "\n"
}

// --- sections ---

const headline = (summary: Summary, style: Style): ReadonlyArray<string> => {
  const seconds = Duration.toSeconds(summary.elapsed)
  const rate = seconds > 0 ? Math.round(summary.recordsRead / seconds) : 0
  const lines = [
    style.title(`${count(summary.total.flights, "flight")} recorded`) +
    ` of ${count(summary.recordsRead, "record")} in ${summary.source}`,
    `${seconds.toFixed(2)} s, ${number(rate)} records/s, broker: ${summary.broker}`
  ]
  return summary.endedEarly === undefined
    ? lines
    : [style.warning(`Ended early: ${summary.endedEarly}. This is the result so far.`), ...lines]
}

interface Ranked extends Tally {
  readonly airport: string
  readonly departures: number
  readonly arrivals: number
}

const worstAirports = (airports: ReadonlyArray<AirportStatistics>, minFlights: number): ReadonlyArray<Ranked> =>
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

const board = (summary: Summary, options: Options, style: Style): ReadonlyArray<string> => {
  const total = Array.reduce(summary.board, 0, (sum, entry) => sum + entry.longDelays)
  const most = Array.sortWith(summary.board, (entry) => -entry.longDelays, Order.Number).slice(0, 5)
  const longest = Array.sortWith(summary.board, (entry) => -entry.longest.delay, Order.Number)[0]?.longest
  return [
    style.title("The delay board") + style.dim(` (departures ${options.longDelayFrom} minutes late or more)`),
    "",
    `  ${count(total, "long delay")} at ${count(summary.board.length, "airport")}`,
    ...(most.length === 0 ? [] : [
      `  Most:       ${most.map(({ airport, longDelays }) => `${airport} ${longDelays}`).join(", ")}`
    ]),
    ...(longest === undefined ? [] : [
      `  Longest:    ${longest.delay} min, ${longest.origin} to ${longest.destination}, ${longest.date}`
    ]),
    `  In trouble: ${count(summary.alarms.length, "airport")} with ${troubleFrom} or more`
  ]
}

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

const badRecords = (bad: Summary["badRecords"], options: Options, style: Style): ReadonlyArray<string> => {
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
