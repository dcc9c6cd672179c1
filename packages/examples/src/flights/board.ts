/**
 * The second flow: a delay board. It shares no code with the first but the definitions
 * of notification events, and can as well be another program on another machine (`--role consume`).
 *
 *     broker ─── LongDelay ─── ShowDelay ─── AirportInTrouble ─── RaiseAlarm
 *            ─── RunEnded ─── NoteEnd
 */
import { EventConsumer, EventFlow, EventHandler, Inbox } from "@event-flow/core"
import { Context, Deferred, Effect, Layer } from "effect"
import { AirportInTrouble, type Flight, LongDelay, RunEnded } from "./domain.ts"

/** With how many long delays an airport is in trouble. */
export const troubleFrom = 10

/** The consumer group. */
export const boardGroup = "delay-board"

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
  /** The program that publishes says that it has ended, after so many long delays. */
  readonly end: (longDelays: number) => Effect.Effect<void>
  /** Waits for that. Long delays may still be on their way: only those of one airport keep their order. */
  readonly awaitEnd: Effect.Effect<number>
  readonly entries: Effect.Effect<ReadonlyArray<BoardEntry>>
  readonly alarms: Effect.Effect<ReadonlyArray<string>>
}>()("examples/flights/DelayBoard") {
  static readonly layer = Layer.sync(DelayBoard, () => {
    const entries = new Map<string, BoardEntry>()
    const alarms: Array<string> = []
    const ended = Deferred.makeUnsafe<number>()
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
      end: (longDelays) => Effect.asVoid(Deferred.succeed(ended, longDelays)),
      awaitEnd: Deferred.await(ended),
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

const NoteEnd = EventHandler.make("NoteEnd", { on: RunEnded })

const NoteEndLive = NoteEnd.toLayer(
  Effect.map(DelayBoard, (board) => ({ longDelays }) => board.end(longDelays))
)

class Board extends EventFlow.make("Board", { handlers: [ShowDelay, RaiseAlarm, NoteEnd] }) {}

/** Consumes notification events in the background; needs a broker and its subscriber. */
export const BoardLive = EventConsumer.layer(Board, { group: boardGroup, concurrency: 8, dedupe: true }).pipe(
  Layer.provide(Board.layer()),
  Layer.provide([ShowDelayLive, RaiseAlarmLive, NoteEndLive, Inbox.layerMemory()]),
  Layer.provideMerge(DelayBoard.layer)
)
