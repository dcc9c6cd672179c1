/**
 * A run: both flows on one broker, or one of them where another process runs the other; the records
 * of a file through them, and the report.
 */
import { EventConsumer, Mediator, MessageCodec } from "@event-flow/core"
import { Cause, Console, Effect, Exit, FileSystem, Layer, Path, Result, Schema, Stream, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { SecureRandom } from "effect/crypto"
import { BoardLive, DelayBoard } from "./board.ts"
import * as Broker from "./broker.ts"
import { FlowCounts } from "./counts.ts"
import { EndRun, LongDelay, RunEnded } from "./domain.ts"
import { FlightsLive, LongDelayFrom } from "./handlers.ts"
import { withProgress } from "./progress.ts"
import { type Recorded, render, type Summary } from "./report.ts"
import { type BadRecord, type RawRecord, readRecords, toCommand } from "./source.ts"
import { Statistics } from "./statistics.ts"
import { Stopwatch } from "./stopwatch.ts"

export const roles = ["all", "publish", "consume"] as const

export interface Options {
  readonly file: string
  readonly broker: Broker.BrokerName
  /** `"publish"` runs the first flow alone, `"consume"` the delay board. */
  readonly role: (typeof roles)[number]
  /** The name by which the processes of a run find each other; undefined: a new one. */
  readonly run: string | undefined
  readonly top: number
  readonly concurrency: number
  readonly delayThreshold: number
  readonly minFlights: number | undefined
}

/** The options do not go together. */
export class UsageError extends Schema.TaggedError<UsageError>()("UsageError", { message: Schema.String }) {}

/** How many bad records are shown; the others are counted. */
const badRecordsShown = 10

export const run = Effect.fnUntraced(function*(options: Options) {
  if (options.role !== "all" && options.broker === "memory") {
    return yield* new UsageError({
      message: `--role ${options.role} needs a broker outside of this process: --broker kafka or --broker rabbitmq`
    })
  }
  if (options.role === "all" && options.run !== undefined) {
    return yield* new UsageError({ message: "--run goes with --role publish or --role consume" })
  }
  if (options.role === "consume" && options.run === undefined) {
    return yield* new UsageError({ message: "--role consume needs --run, which --role publish prints" })
  }
  const name = options.run ?? `flights-${SecureRandom.uuidV7Unsafe().slice(-8)}`
  // What both flows stand on, the broker at the bottom
  const ground = Layer.mergeAll(
    Broker.layer(options.broker, name),
    FlowCounts.layer,
    Stopwatch.layer,
    Layer.succeed(LongDelayFrom)(options.delayThreshold)
  )
  switch (options.role) {
    case "all":
      return yield* Effect.provide(
        recordAndShow(options),
        // The board is below: it closes when the flow that publishes to it has
        FlightsLive.pipe(Layer.provideMerge(BoardLive), Layer.provideMerge(ground))
      )
    case "publish":
      return yield* Effect.provide(recordAndPublish(options, name), Layer.provideMerge(FlightsLive, ground))
    case "consume":
      return yield* Effect.provide(show(options, name), Layer.provideMerge(BoardLive, ground))
  }
})

// --- roles ---

const recordAndShow = Effect.fn("recordAndShow")(function*(options: Options) {
  const counts = yield* FlowCounts
  const recording = yield* makeRecording(options)
  const board = yield* boardSummary
  const delivered = Effect.flatMap(counts.published(LongDelay), (count) => counts.awaitConsumed(LongDelay, count))
  return yield* reported(options, {
    work: recording.recordAll,
    finish: yield* unlessConsumerEnds(delivered),
    hasResult: recording.hasBegun,
    summary: Effect.all({ recorded: recording.summary, board })
  })
})

const recordAndPublish = Effect.fn("recordAndPublish")(function*(options: Options, name: string) {
  const counts = yield* FlowCounts
  const recording = yield* makeRecording(options)
  yield* Console.log(
    `Run ${name}. To consume it, now or later:\n\n` +
      `  npm start -- --broker ${options.broker} --role consume --run ${name}\n`
  )
  return yield* reported(options, {
    work: recording.recordAll,
    finish: Effect.flatMap(
      counts.published(LongDelay),
      (longDelays) => Mediator.send(new EndRun({ longDelays }))
    ),
    hasResult: recording.hasBegun,
    summary: Effect.map(recording.summary, (recorded) => ({ recorded, board: undefined }))
  })
})

const show = Effect.fn("show")(function*(options: Options, name: string) {
  const counts = yield* FlowCounts
  const { awaitEnd } = yield* DelayBoard
  const board = yield* boardSummary
  const { messages } = yield* counts.get
  const consumed = () => messages.get(MessageCodec.typeOf(LongDelay))?.consumed ?? 0
  return yield* reported(options, {
    work: (yield* unlessConsumerEnds(
      Effect.flatMap(awaitEnd, (longDelays) => counts.awaitConsumed(LongDelay, longDelays)).pipe(
        Effect.andThen(counts.awaitConsumed(RunEnded, 1))
      )
    )).pipe(
      withProgress(() => ({ fraction: 0, label: `${consumed().toLocaleString("en-US")} long delays of run ${name}` }))
    ),
    finish: Effect.void,
    hasResult: () => true,
    summary: Effect.map(board, (board) => ({ recorded: undefined, board }))
  })
})

// --- parts of them ---

const makeRecording = Effect.fnUntraced(function*(options: Options) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const statistics = yield* Statistics
  const stopwatch = yield* Stopwatch
  const fileSize = yield* fs.stat(options.file).pipe(
    Effect.map((info) => Number(info.size)),
    Effect.orElseSucceed(() => 0)
  )

  let bytesRead = 0
  let recordsRead = 0
  let startup = 0
  const bad = { count: 0, first: new Array<BadRecord>() }

  const refuse = (record: BadRecord) =>
    Effect.sync(() => {
      bad.count++
      if (bad.first.length < badRecordsShown) bad.first.push(record)
    })

  const recordOne = (raw: RawRecord) =>
    Effect.suspend(() => {
      if (++recordsRead === 1) startup = performance.now()
      stopwatch.begin("decoding")
      const command = toCommand(raw)
      stopwatch.begin("rest")
      return Result.isFailure(command) ? refuse(command.failure) : Mediator.send(command.success).pipe(
        stopwatch.sending,
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

  const summary = Effect.gen(function*() {
    return {
      source: path.basename(options.file),
      recordsRead,
      startup,
      times: yield* stopwatch.times,
      badRecords: { count: bad.count, first: bad.first.sort((a, b) => a.index - b.index) },
      total: yield* statistics.total,
      airports: yield* statistics.airports
    } satisfies Recorded
  })

  return { recordAll, summary, hasBegun: () => recordsRead > 0 }
})

const boardSummary = Effect.map(DelayBoard, (board) => Effect.all({ entries: board.entries, alarms: board.alarms }))

/** Fails when the consumer has ended by itself, since it would not deliver any more. */
const unlessConsumerEnds = <A>(effect: Effect.Effect<A>) =>
  Effect.map(EventConsumer.EventConsumer, (consumer) => Effect.raceFirst(effect, consumer.join))

/**
 * An interruption (Ctrl-C) or a failure ends the work. What has begun is finished, and the result so
 * far is printed, before the process ends.
 */
const reported = Effect.fnUntraced(function*<E1 extends Error, E2 extends Error, R1, R2, R3>(options: Options, run: {
  readonly work: Effect.Effect<void, E1, R1>
  readonly finish: Effect.Effect<void, E2, R2>
  readonly hasResult: () => boolean
  readonly summary: Effect.Effect<Pick<Summary, "recorded" | "board">, never, R3>
}) {
  return yield* Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const [elapsed, exit] = yield* restore(Effect.andThen(run.work, run.finish)).pipe(
      Effect.tapCause(() => Effect.ignore(Effect.timeout(run.finish, "10 seconds"))),
      Effect.exit,
      Effect.timed
    )
    if (Exit.isSuccess(exit) || run.hasResult() || Cause.hasInterruptsOnly(exit.cause)) {
      const counts = yield* FlowCounts
      const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
      const { columns } = yield* Terminal.Terminal
      yield* Console.log(render({
        ...(yield* run.summary),
        broker: options.broker,
        endedEarly: Exit.isSuccess(exit) ? undefined : endedEarly(exit.cause),
        elapsed,
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
