import { NodeServices } from "@effect/platform-node"
import { assert, it, vi } from "@effect/vitest"
import { Broker, EventConsumer, Ids, Mediator, MemoryBroker, Message, MessageCodec } from "@event-flow/core"
import { Flow, Tracker } from "@event-flow/core/testing"
import { Cause, Clock, Console, Deferred, Effect, Exit, Fiber, FileSystem, Layer, Stream } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { BoardLive, DelayBoard } from "../src/flights/board.ts"
import { FlowCounts } from "../src/flights/counts.ts"
import { LongDelay, RecordFlight } from "../src/flights/domain.ts"
import { FlightsLive } from "../src/flights/handlers.ts"
import { run as runFlights } from "../src/flights/run.ts"
import { fixture, realFlights, run, start } from "./support.ts"

// Each test starts a process or more, all at once.
vi.setConfig({ testTimeout: 180_000 })

const flights = (...args: ReadonlyArray<string>) => run("flights/main.ts", args)

// --- an independent count, in plain JavaScript over the file itself ---

interface Flight {
  readonly date: string
  readonly delay: number
  readonly origin: string
  readonly destination: string
}

const thousands = (n: number) => String(n).replace(/\B(?=(\d{3})+$)/g, ",")

const expected = (flights: ReadonlyArray<Flight>, options: { readonly top: number; readonly threshold: number }) => {
  const minimum = Math.ceil(flights.length / 200)
  const codes = [...new Set(flights.flatMap((flight) => [flight.origin, flight.destination]))]
  const mean = (of: ReadonlyArray<Flight>) => of.map((flight) => flight.delay).reduce((a, b) => a + b) / of.length
  const row = (of: ReadonlyArray<Flight>) => [
    `${(100 * of.filter((flight) => flight.delay >= 15).length / of.length).toFixed(1)} %`,
    mean(of).toFixed(1),
    thousands(Math.max(...of.map((flight) => flight.delay)))
  ]
  const worst = codes
    .map((code) => {
      const departures = flights.filter((flight) => flight.origin === code)
      const arrivals = flights.filter((flight) => flight.destination === code)
      return { code, departures, arrivals, all: [...departures, ...arrivals] }
    })
    .filter(({ all }) => all.length >= minimum)
    .sort((a, b) => mean(b.all) - mean(a.all))
  const long = flights.filter((flight) => flight.delay >= options.threshold)
  const longAt = (code: string) => long.filter((flight) => flight.origin === code).length
  return {
    table: [
      ...worst.slice(0, options.top).map(({ all, arrivals, code, departures }) => [
        code,
        ...[all, departures, arrivals].map((of) => thousands(of.length)),
        ...row(all)
      ]),
      ["All", thousands(flights.length), ...row(flights)]
    ],
    ranked: worst.length,
    long: long.length,
    airportsWithLong: codes.filter((code) => longAt(code) > 0).length,
    inTrouble: codes.filter((code) => longAt(code) >= 10).length,
    longest: Math.max(...long.map((flight) => flight.delay))
  }
}

const section = (stdout: string, title: RegExp): ReadonlyArray<string> => {
  const lines = stdout.split("\n")
  const start = lines.findIndex((line) => title.test(line))
  assert.notStrictEqual(start, -1, `${title} in\n${stdout}`)
  const end = lines.indexOf("", start + 2)
  return lines.slice(start + 2, end === -1 ? lines.length : end)
}

const cells = (lines: ReadonlyArray<string>) => lines.map((line) => line.trim().split(/\s{2,}/))

for (
  const { args, threshold, top } of [
    { args: [], top: 10, threshold: 60 },
    { args: ["--top", "3", "--delay-threshold", "120", "--concurrency", "1"], top: 3, threshold: 120 }
  ]
) {
  it(`flights agrees with a count of the file: ${args.join(" ")}`, async () => {
    const records: ReadonlyArray<Flight> = JSON.parse(readFileSync(realFlights, "utf8"))
    const want = expected(records, { top, threshold })
    const { code, stderr, stdout } = await flights(...args)
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
    assert.match(stdout, /^20,000 flights recorded of 20,000 records in flights-20k\.json\n/)
    assert.match(stdout, /\n\d+\.\d\d s, [\d,]+ records\/s, broker: memory\n/)
    assert.match(stdout, /\n\d+\.\d\d s from start to first record\n/)
    assert.notInclude(stdout, "\u001b")

    assert.include(stdout, `(of ${want.ranked} with at least 100 flights)`)
    const table = cells(section(stdout, /worst airports by mean delay/))
    assert.deepStrictEqual(table.slice(1), want.table)
    const chart = section(stdout, /^Mean delay in minutes/)
    assert.deepStrictEqual(
      chart.map((line) => /^ {2}([A-Z]{3}) [█▏▎▍▌▋▊▉]+ (-?[\d.]+)$/.exec(line)?.slice(1)),
      want.table.slice(0, -1).map((row) => [row[0]!, row[5]!])
    )

    const board = section(stdout, /^The delay board/).join("\n")
    assert.include(board, `${thousands(want.long)} long delays at ${want.airportsWithLong} airports`)
    assert.match(board, new RegExp(`Longest: +${want.longest} min`))
    assert.match(board, new RegExp(`In trouble: ${want.inTrouble} airports`))

    const long = thousands(want.long)
    assert.deepStrictEqual(cells(section(stdout, /^What went through/)), [
      ["Command", "RecordFlight", "20,000 sent", "20,000 succeeded", "0 failed"],
      ["Event", "FlightRecorded", "20,000 collected", "20,000 UpdateStatistics", "20,000 FindLongDelays"],
      ["Event", "LongDelay", `${long} collected`, `${long} ShowDelay`],
      ["Event", "AirportInTrouble", `${want.inTrouble} collected`, `${want.inTrouble} RaiseAlarm`],
      ["Message", "LongDelay.v1", `${long} published`, `${long} consumed`, `${long} handled`],
      ["0 duplicates", "0 dead letters", "0 skipped"]
    ])

    const times = cells(section(stdout, /^Where the time of a record went \([\d.]+ µs of it the processor's\)/))
    assert.deepStrictEqual(
      times.map(([part]) => part),
      ["Event Flow", "Handlers", "Broker (memory)", "Decoding", "Reading, streams, waiting", "All"]
    )
    // Each part has taken some time, and the parts make up the whole
    const micros = times.map(([, time]) => Number.parseFloat(time!))
    for (const time of micros) assert.isAbove(time, 0)
    assert.approximately(micros.slice(0, -1).reduce((a, b) => a + b), micros.at(-1)!, 0.5)
  })
}

const badRecords = [
  [2, 3, "delay: Expected number, got \"5\""],
  [3, 4, "delay: Expected an integer, got 12.5"],
  [4, 5, "delay: Expected number, got null"],
  [5, 6, "delay: Missing key"],
  [6, 7, "date: Expected a local time such as 2001/01/31 23:59, got \"2001/02/30 12:00\""],
  [7, 8, "date: Expected a local time such as 2001/01/31 23:59, got \"yesterday\""],
  [9, 10, "distance: Expected a value between 1 and 12500, got -300"],
  [10, 11, "origin: Expected an airport code of three capital letters, got \"aaa\"; destination: Expected"],
  [11, 12, "origin and destination are the same airport, AAA"],
  [12, 13, "delay: Expected a value between -1440 and 2880, got 99999"]
] as const

it("flights counts bad records, says where they are and why, and goes on", async () => {
  const { code, stderr, stdout } = await flights("--file", fixture("dirty.json"))
  assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
  // 23 elements, of which four are flights.
  assert.match(stdout, /^4 flights recorded of 23 records in dirty\.json\n/)
  const want = expected([
    { date: "", delay: 5, origin: "AAA", destination: "BBB" },
    { date: "", delay: 70, origin: "BBB", destination: "CCC" },
    { date: "", delay: -7, origin: "CCC", destination: "AAA" },
    { date: "", delay: 120, origin: "BBB", destination: "AAA" }
  ], { top: 10, threshold: 60 })
  assert.deepStrictEqual(cells(section(stdout, /worst airports/)).slice(1), want.table)
  const reported = section(stdout, /^19 bad records/)
  assert.strictEqual(reported.length, 11)
  for (const [i, [index, line, reason]] of badRecords.entries()) {
    assert.match(reported[i]!, new RegExp(`^  record ${index}, line ${line}: `))
    assert.include(reported[i]!, reason)
  }
  assert.strictEqual(reported[10], "  and 9 more")
  // The one that no schema refuses is refused by the command's handler.
  assert.match(stdout, /RecordFlight +5 sent +4 succeeded +1 failed/)
})

/** A directory of its own, for files that a test writes. */
const inTemporary = async (test: (path: (name: string) => string) => Promise<void>) => {
  const directory = mkdtempSync(join(tmpdir(), "event-flow-flights-"))
  try {
    await test((name) => join(directory, name))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const flight = (delay: number, origin = "AAA") =>
  JSON.stringify({ date: "2001/01/01 08:00", delay, distance: 300, origin, destination: "BBB" })

it("flights reads newline-delimited JSON too", () =>
  inTemporary(async (path) => {
    writeFileSync(path("f.ndjson"), `${flight(1)}\n\n${flight(200)}\nnonsense\n${flight(3)}`)
    const { code, stdout } = await flights("--file", path("f.ndjson"))
    assert.strictEqual(code, 0)
    assert.match(stdout, /^3 flights recorded of 4 records in f\.ndjson\n/)
    assert.match(stdout, /record 3, line 4: Expected a valid JSON string/)
  }))

it("flights says that a file of no flights has none", () =>
  inTemporary(async (path) => {
    writeFileSync(path("empty.json"), " [ ] \n")
    const { code, stderr, stdout } = await flights("--file", path("empty.json"))
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
    assert.match(stdout, /^0 flights recorded of 0 records in empty\.json\n/)
    assert.include(stdout, "0 long delays")
  }))

it("flights ends with exit code 1 and one line for a file that it cannot use", () =>
  inTemporary(async (path) => {
    writeFileSync(path("object.json"), "{\"flights\": []}")
    writeFileSync(path("empty.json"), "")
    writeFileSync(path("text.json"), "no JSON")
    for (
      const [name, message] of [
        ["missing.json", /Cannot read .*missing\.json: there is no such file/],
        ["", /Cannot read .*: it is not a file/],
        ["object.json", /object\.json is not a JSON array of flights: it starts with "\{"/],
        ["empty.json", /empty\.json is not a JSON array of flights: it is empty/],
        ["text.json", /text\.json is not a JSON array of flights: it starts with "n"/]
      ] as const
    ) {
      const { code, stderr, stdout } = await flights("--file", path(name))
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" }, name)
      assert.match(stderr, message)
      assert.notInclude(stderr, "    at ", "no stack trace")
    }
  }))

it("flights prints the result so far when the file breaks off", () =>
  inTemporary(async (path) => {
    for (
      const [text, message] of [
        [`[${flight(1)},\n${flight(2)},\n{"date": "20`, "it ends within record 3, on line 3"],
        [`[${flight(1)},\n${flight(2)}]\n[`, "line 3: there is more after the end of the array"],
        [`[${flight(1)},\n${flight(2)},{"a": [${"x".repeat(100_000)}`, "record 3, which starts on line 2, does not end"]
      ] as const
    ) {
      writeFileSync(path("f.json"), text)
      const { code, stderr, stdout } = await flights("--file", path("f.json"))
      assert.strictEqual(code, 1)
      assert.include(stderr, message)
      assert.match(stdout, /^Ended early: .* This is the result so far\.\n2 flights recorded of 2 records/)
    }
  }))

it("flights names the options that it does not know, and those that do not go together", async () => {
  const unknown = await flights("--broker", "pigeon")
  assert.strictEqual(unknown.code, 1)
  assert.include(unknown.stderr, "pigeon")
  for (
    const [args, message] of [
      [["--role", "publish"], "--role publish needs a broker outside of this process"],
      [["--role", "consume", "--broker", "kafka"], "--role consume needs --run"],
      [["--run", "a"], "--run goes with --role publish or --role consume"],
      [["--run", "a b", "--broker", "kafka", "--role", "publish"], "letters, digits, _ and -"]
    ] as const
  ) {
    const { code, stderr } = await flights(...args)
    assert.strictEqual(code, 1, message)
    assert.include(stderr, message)
  }
})

it("flights says which setting a broker needs, and how to start one", async () => {
  for (
    const [broker, setting] of [["kafka", "KAFKA_BOOTSTRAP_SERVERS"], ["rabbitmq", "RABBITMQ_URL"]] as const
  ) {
    const { code, stderr, stdout } = await start("flights/main.ts", ["--broker", broker], { [setting]: "" }).ended
    assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
    assert.include(stderr, `--broker ${broker} needs ${setting}`)
    assert.include(stderr, `npm run ${broker}`)
    assert.notInclude(stderr, "    at ", "no stack trace")
  }
})

// --- interruption ---

it("flights prints the result so far on Ctrl-C, and finishes what has begun", async () => {
  // Sends the process a SIGINT when it reads the third part of its file.
  const interrupting = start("flights/main.ts", [], { NODE_OPTIONS: `--import ${fixture("interrupt.mjs")}` })
  const { code, stderr, stdout } = await interrupting.ended
  assert.deepStrictEqual({ code, stderr }, { code: 130, stderr: "" })
  const [, recorded, read] =
    /^Ended early: interrupted\. This is the result so far\.\n([\d,]+) flights recorded of ([\d,]+) records/.exec(
      stdout
    ) ?? []
  assert.isDefined(read, stdout)
  assert.strictEqual(recorded, read)
  const records: ReadonlyArray<Flight> = JSON.parse(readFileSync(realFlights, "utf8"))
  const done = Number(read!.replaceAll(",", ""))
  assert.isBelow(done, records.length)
  assert.isAbove(done, 0)
  const want = expected(records.slice(0, done), { top: 10, threshold: 60 })
  assert.deepStrictEqual(cells(section(stdout, /worst airports by mean delay/)).slice(1), want.table)
  assert.include(stdout, `${thousands(want.long)} long delays at ${want.airportsWithLong} airports`)
})

/** A console that keeps what is printed. */
const capturing = () => {
  const lines: Array<string> = []
  const console: Console.Console = { ...globalThis.console, log: (...args) => void lines.push(args.join(" ")) }
  return { lines, layer: Layer.succeed(Console.Console)(console) }
}

const options = {
  file: "some.json",
  broker: "memory",
  role: "all",
  run: undefined,
  top: 10,
  concurrency: 1,
  delayThreshold: 60,
  minFlights: undefined
} as const

it.live("flights delivers what it has published before it prints the result of an interrupted run", () =>
  Effect.gen(function*() {
    const waiting = yield* Deferred.make<void>()
    const text = new TextEncoder().encode(`[${flight(61)},${flight(62)},${flight(1)},`)
    const fs = FileSystem.layerNoop({
      stream: () =>
        Stream.concat(
          Stream.make(text),
          Stream.fromEffect(Effect.andThen(Deferred.succeed(waiting, undefined), Effect.never))
        )
    })
    const { layer, lines } = capturing()
    const fiber = yield* Effect.forkChild(
      runFlights(options).pipe(Effect.provide([layer, Layer.provideMerge(fs, NodeServices.layer)]))
    )
    yield* Deferred.await(waiting)
    const exit = yield* Fiber.interrupt(fiber).pipe(Effect.andThen(Fiber.await(fiber)))
    assert(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    const stdout = lines.join("\n")
    assert.match(stdout, /^Ended early: interrupted\..*\n3 flights recorded of 3 records in some\.json\n/)
    assert.match(stdout, /LongDelay\.v1 +2 published +2 consumed +2 handled/)
  }))

// --- the parts ---

it.live("the delay board drops duplicates, and dead-letters what it cannot read", () =>
  Effect.gen(function*() {
    const codec = yield* MessageCodec.MessageCodec
    const broker = yield* Broker.Broker
    const event = new LongDelay({
      date: "2001/01/01 08:00",
      delay: 90,
      distance: 300,
      origin: "AAA",
      destination: "BBB"
    })
    const message = yield* codec.encode(event, {
      correlation: undefined,
      traceparent: undefined,
      tracestate: undefined,
      baggage: undefined,
      clock: yield* Clock.Clock,
      ids: yield* Ids.Ids
    })
    const garbage = Message.make({
      ...message,
      attributes: { ...message.attributes, id: "2" },
      body: new Uint8Array([1])
    })
    yield* broker.publish([message, message, garbage])
    yield* (yield* MemoryBroker.MemoryBroker).awaitIdle
    const counts = (yield* (yield* FlowCounts).get).messages.get("LongDelay.v1")
    assert.deepStrictEqual(counts, {
      published: 0,
      consumed: 3,
      outcomes: { handled: 1, duplicate: 1, skipped: 0, postponed: 0, dead_lettered: 1, returned: 0, held: 0 }
    })
    const [entry] = yield* (yield* DelayBoard).entries
    assert.strictEqual(entry?.longDelays, 1)
    const [dead] = yield* (yield* MemoryBroker.MemoryBroker).messages("flights.long-delays.dead-letter")
    assert.strictEqual(dead?.headers["dead-letter-reason"], "Undecodable")
    assert.strictEqual((yield* EventConsumer.EventConsumer).group, "delay-board")
  }).pipe(Effect.provide(
    BoardLive.pipe(Layer.provideMerge([MemoryBroker.layer(), FlowCounts.layer]))
  )))

it.effect("both flows are tracked as one, and counted beside that", () =>
  Effect.gen(function*() {
    const late = { date: "2001/01/01 08:00", delay: 90, distance: 300, origin: "AAA", destination: "BBB" }
    const { flow } = yield* Tracker.run(Mediator.send(new RecordFlight(late)))
    const fields = JSON.stringify(late)
    assert.deepStrictEqual(Flow.toTree(flow).split("\n"), [
      `✓ RecordFlight ${fields}`,
      `└─ • FlightRecorded ${fields}`,
      "   ├─ ✓ UpdateStatistics",
      "   └─ ✓ FindLongDelays",
      `      └─ • LongDelay ${fields}`,
      "         └─ ✓ published to \"flights.long-delays\" with key \"AAA\"",
      "            └─ ✓ delivered to \"delay-board\": handled",
      "               └─ ✓ ShowDelay"
    ])
    const { commands, messages } = yield* (yield* FlowCounts).get
    assert.deepStrictEqual(commands.get("RecordFlight"), { sent: 1, succeeded: 1, failed: 0 })
    assert.strictEqual(messages.get("LongDelay.v1")?.consumed, 1)
  }).pipe(Effect.provide(
    FlightsLive.pipe(Layer.provideMerge(BoardLive), Layer.provideMerge([Tracker.layerMemoryBroker(), FlowCounts.layer]))
  )))

it.live("the report has colour on a terminal", () =>
  Effect.gen(function*() {
    const { layer, lines } = capturing()
    yield* runFlights({ ...options, file: fixture("dirty.json") }).pipe(
      Effect.provide([layer, NodeServices.layer]),
      Effect.provideService(TerminalCapabilities.TerminalCapabilities, {
        canColor: true,
        canAnimate: true,
        canPrompt: false
      })
    )
    assert.include(lines.join("\n"), "\u001b[36m█")
  }))
