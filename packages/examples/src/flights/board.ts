/**
 * The second flow: a delay board. It shares no code with the first but the definition of
 * `LongDelay`, and could as well be another program on another machine.
 *
 *     broker ─── LongDelay ─── ShowDelay ─── AirportInTrouble ─── RaiseAlarm
 */
import { EventConsumer, EventFlow, EventHandler, Inbox } from "@event-flow/core"
import { Context, Effect, Layer } from "effect"
import { AirportInTrouble, type Flight, LongDelay } from "./domain.ts"

/** With how many long delays an airport is in trouble. */
export const troubleFrom = 10

/** The long delays of an airport of departure. */
export interface BoardEntry {
  readonly airport: string
  readonly longDelays: number
  readonly longest: Flight
}

export class DelayBoard extends Context.Service<DelayBoard, {
  /** Shows a delay; gives how many the airport has now. */
  readonly show: (flight: Flight) => Effect.Effect<number>
  readonly alarm: (airport: string) => Effect.Effect<void>
  readonly entries: Effect.Effect<ReadonlyArray<BoardEntry>>
  readonly alarms: Effect.Effect<ReadonlyArray<string>>
}>()("examples/flights/DelayBoard") {
  static readonly layer = Layer.sync(DelayBoard, () => {
    const entries = new Map<string, BoardEntry>()
    const alarms: Array<string> = []
    return DelayBoard.of({
      show: (flight) =>
        Effect.sync(() => {
          const { longDelays, longest } = entries.get(flight.origin) ?? { longDelays: 0, longest: flight }
          entries.set(flight.origin, {
            airport: flight.origin,
            longDelays: longDelays + 1,
            longest: flight.delay > longest.delay ? flight : longest
          })
          return longDelays + 1
        }),
      alarm: (airport) => Effect.sync(() => alarms.push(airport)),
      entries: Effect.sync(() => Array.from(entries.values())),
      alarms: Effect.sync(() => alarms.slice())
    })
  })
}

const ShowDelay = EventHandler.make("ShowDelay", { on: LongDelay, emits: [AirportInTrouble] })

const ShowDelayLive = ShowDelay.toLayer(Effect.gen(function*() {
  const board = yield* DelayBoard
  return Effect.fn("ShowDelay")(function*(delay, { collect }) {
    const longDelays = yield* board.show(delay)
    if (longDelays === troubleFrom) yield* collect(new AirportInTrouble({ airport: delay.origin, longDelays }))
  })
}))

const RaiseAlarm = EventHandler.make("RaiseAlarm", { on: AirportInTrouble })

const RaiseAlarmLive = RaiseAlarm.toLayer(
  Effect.map(DelayBoard, (board) => ({ airport }) => board.alarm(airport))
)

/** Consumes `LongDelay` in the background; needs a broker and its subscriber. */
export const DelayBoardFlow = EventConsumer.layer({ group: "delay-board", concurrency: 8, dedupe: true }).pipe(
  Layer.provide(EventFlow.layer({ handlers: [ShowDelay, RaiseAlarm] })),
  Layer.provide([ShowDelayLive, RaiseAlarmLive, Inbox.layerMemory()]),
  Layer.provideMerge(DelayBoard.layer)
)
