/**
 * A run: both flows on one broker, the records of a file through them, and the report.
 */
import { EventConsumer, Mediator } from "@event-flow/core"
import { Cause, Console, Effect, Exit, FileSystem, Layer, Path, Result, Stream, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { DelayBoard, DelayBoardFlow } from "./board.ts"
import * as Broker from "./broker.ts"
import { FlowCounts } from "./counts.ts"
import { FlightsFlow, LongDelayFrom } from "./handlers.ts"
import { withProgress } from "./progress.ts"
import { render } from "./report.ts"
import { type BadRecord, type RawRecord, readRecords, toCommand } from "./source.ts"
import { Statistics } from "./statistics.ts"

export interface Options {
  readonly file: string
  readonly broker: Broker.BrokerName
  readonly top: number
  readonly concurrency: number
  readonly delayThreshold: number
  readonly minFlights: number | undefined
}

/** How many bad records are shown; the others are counted. */
const badRecordsShown = 10

/** Everything that a run is made of, the broker at the bottom. */
const layer = (options: Options) =>
  Layer.merge(FlightsFlow, DelayBoardFlow).pipe(
    Layer.provideMerge([
      Broker.layer(options.broker),
      FlowCounts.layer,
      Layer.succeed(LongDelayFrom)(options.delayThreshold)
    ])
  )

export const run = (options: Options) => Effect.provide(record(options), layer(options))

const record = Effect.fn("record")(function*(options: Options) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const statistics = yield* Statistics
  const delivered = yield* Broker.Delivered
  const consumer = yield* EventConsumer.EventConsumer
  const fileSize = yield* fs.stat(options.file).pipe(
    Effect.map((info) => Number(info.size)),
    Effect.orElseSucceed(() => 0)
  )

  let bytesRead = 0
  let recordsRead = 0
  const bad = { count: 0, first: new Array<BadRecord>() }

  const refuse = (record: BadRecord) =>
    Effect.sync(() => {
      bad.count++
      if (bad.first.length < badRecordsShown) bad.first.push(record)
    })

  const recordOne = (raw: RawRecord) =>
    Effect.suspend(() => {
      recordsRead++
      const command = toCommand(raw)
      return Result.isFailure(command) ? refuse(command.failure) : Mediator.send(command.success).pipe(
        Effect.catchTag("ImpossibleFlight", ({ message }) =>
          refuse({ index: raw.index, line: raw.line, reason: message })),
        // What has begun is finished, also when the run is interrupted.
        Effect.uninterruptible
      )
    })

  const recordAll = readRecords(options.file, (bytes) => bytesRead += bytes).pipe(
    Stream.mapEffect(recordOne, { concurrency: options.concurrency, unordered: true }),
    Stream.runDrain,
    withProgress(() => ({
      fraction: fileSize === 0 ? 0 : bytesRead / fileSize,
      label: `${recordsRead.toLocaleString("en-US")} records`
    }))
  )

  // Fails when the consumer has ended by itself, since it would not deliver any more.
  const awaitDelivered = Effect.raceFirst(delivered.awaitAll, consumer.join)

  // An interruption (Ctrl-C) or a failure ends the reading. The board still gets what was published,
  // and the result so far is printed, before the process ends.
  return yield* Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const [elapsed, exit] = yield* restore(Effect.andThen(recordAll, awaitDelivered)).pipe(
      Effect.tapCause(() => Effect.ignore(Effect.timeout(awaitDelivered, "10 seconds"))),
      Effect.exit,
      Effect.timed
    )
    if (Exit.isSuccess(exit) || recordsRead > 0 || Cause.hasInterruptsOnly(exit.cause)) {
      const board = yield* DelayBoard
      const counts = yield* FlowCounts
      const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
      const { columns } = yield* Terminal.Terminal
      yield* Console.log(render({
        source: path.basename(options.file),
        broker: options.broker,
        endedEarly: Exit.isSuccess(exit) ? undefined : endedEarly(exit.cause),
        elapsed,
        recordsRead,
        badRecords: { count: bad.count, first: bad.first.sort((a, b) => a.index - b.index) },
        total: yield* statistics.total,
        airports: yield* statistics.airports,
        board: yield* board.entries,
        alarms: yield* board.alarms,
        counts: yield* counts.get
      }, {
        top: options.top,
        minFlights: options.minFlights,
        longDelayFrom: options.delayThreshold,
        columns: (yield* columns) || undefined,
        color: canColor
      }))
    }
    return yield* exit
  }))
})

const endedEarly = (cause: Cause.Cause<Error>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "interrupted"
  const error = Cause.squash(cause)
  return error instanceof Error ? error.message : String(error)
}
