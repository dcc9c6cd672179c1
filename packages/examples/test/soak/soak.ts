/**
 * A soak of the whole system: the orders example in five processes, a database and a broker, and faults by a schedule.
 * At the end all faults are lifted, the system drains, and the books must balance.
 */
import { PgClient } from "@effect/sql-pg"
import { Clock, Console, Data, type Duration, Effect, Redacted, Schedule as Repeat, Semaphore } from "effect"
import { SqlClient } from "effect/sql"
import { appendFileSync, mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Books from "../../src/orders/books.ts"
import * as Database from "../../src/orders/database.ts"
import { topic } from "../../src/orders/domain.ts"
import { totalsGroup } from "../../src/orders/totals.ts"
import * as Schedule from "./schedule.ts"
import * as Stage from "./stage.ts"
import * as Supervisor from "./supervisor.ts"

export const brokers = ["kafka", "rabbitmq"] as const
export type BrokerName = (typeof brokers)[number]

export interface Options extends Schedule.Options {
  readonly broker: BrokerName
  /** Orders a second. */
  readonly rate: number
}

export interface Report {
  /** How often each fault was done, and which ones this machine does not allow. */
  readonly faults: Readonly<Record<string, number>>
  readonly skipped: number
  readonly orders: number
  /** Events in committed transactions. */
  readonly committed: number
  /** Different events on the broker, and messages beyond these. */
  readonly published: number
  readonly publishedTwice: number
  /** Different events that were counted. */
  readonly handled: number
  readonly lost: number
  readonly outOfOrder: number
  /** The longest time without an event that was counted, in milliseconds, and when it was over. */
  readonly longestPause: Pause
  /** How long the system took from the last fault to the last event, in milliseconds. */
  readonly drained: number
  /** Processes that have ended by themselves: after their start, or before it was complete. */
  readonly ended: number
  readonly notStarted: number
  /** What is wrong; nothing when the books balance. */
  readonly problems: ReadonlyArray<string>
  /** The directory with the logs of the processes and of the driver. */
  readonly logs: string
}

export interface Pause {
  readonly lasted: number
  /** Milliseconds from the beginning of the faults. */
  readonly until: number
}

/** The system came to a stop. */
class Stuck extends Data.TaggedError("Stuck")<{ readonly what: string }> {}

const load = { brokers: { kafka: () => import("./kafka.ts"), rabbitmq: () => import("./rabbitmq.ts") } }

export const run = Effect.fnUntraced(function*(options: Options) {
  const logs = mkdtempSync(join(tmpdir(), `event-flow-soak-${options.broker}-`))
  const problems: Array<string> = []
  const ends = { ended: 0, notStarted: 0 }
  // The faults begin when the shop is open
  let began = performance.now()
  const say = (text: string) =>
    Effect.suspend(() => {
      const line = `${((performance.now() - began) / 1000).toFixed(1).padStart(6)} ${text}`
      appendFileSync(join(logs, "driver.log"), `${new Date().toISOString()} ${line}\n`)
      return Console.log(line)
    })

  const { start } = yield* Effect.promise(load.brokers[options.broker])
  const stage = yield* Effect.acquireRelease(
    Effect.promise(() => Stage.make(start)),
    ({ dispose }) => Effect.promise(dispose)
  )
  const database = <A, E, R>(use: Effect.Effect<A, E, R>) =>
    Effect.provide(use, Database.layer(Redacted.make(stage.databaseUrl), { maxConnections: 2 }))
  const own = yield* database(Database.ownName)
  const names = { topic: own(topic), group: own(totalsGroup) }
  yield* Effect.promise(() => stage.broker.prepare(names))

  const fork = Effect.runForkWith(yield* Effect.context())
  const supervise = (name: Schedule.Process) =>
    Supervisor.make({
      name,
      args: argumentsOf(name, options),
      env: stage.environment(name),
      log: join(logs, `${name}.log`),
      onEnd: (how, wasReady) => {
        ends[wasReady ? "ended" : "notStarted"]++
        // A customer may give up; a relay or a consumer waits until what it needs is back
        if (wasReady && name !== "shop") problems.push(`${name} has ended by itself, with ${how}`)
        fork(say(`  ${name} has ended ${wasReady ? "by itself" : "before it was ready"}, with ${how}`))
      },
      onStuck: (patience) => problems.push(`${name} did not end within ${patience} after SIGTERM`)
    })
  const processes = {} as Record<Schedule.Process, Supervisor.Supervised>
  for (const name of Schedule.processes) processes[name] = yield* supervise(name)

  /** Waits until this many orders more were settled than when it began. */
  const settled = SqlClient.SqlClient.use((sql) =>
    Effect.map(sql<{ n: number }>`SELECT count(*)::int AS n FROM shop.orders WHERE state <> 'open'`, ([row]) => row!.n)
  )
  const within = <A, E>(what: string, duration: Duration.Input, effect: Effect.Effect<A, E>) =>
    Effect.timeoutOrElse(effect, { duration, orElse: () => Effect.fail(new Stuck({ what })) })
  const moreOrders = (what: string, count: number) =>
    within(
      what,
      "2 minutes",
      database(Effect.flatMap(settled, (before) =>
        Effect.repeat(settled, {
          until: (now) => now >= before + count,
          schedule: Repeat.spaced("500 millis")
        })))
    )

  const allReady = within(
    "every process completes its start",
    "2 minutes",
    Effect.sync(() => Schedule.processes.every((name) => processes[name].isReady())).pipe(
      Effect.repeat({ until: (ready) => ready, schedule: Repeat.spaced("200 millis") })
    )
  )

  // --- faults ---

  const locks = new Map<string, Semaphore.Semaphore>()
  const lockOf = (target: string) => {
    const lock = locks.get(target) ?? Semaphore.makeUnsafe(1)
    locks.set(target, lock)
    return lock
  }
  const counts: Record<string, number> = {}
  let skipped = 0
  /** Gives what lifts it. */
  const begin = (fault: Schedule.Fault): Effect.Effect<Effect.Effect<void> | undefined> => {
    switch (fault.kind) {
      case "kill":
      case "terminate": {
        const { down, up } = processes[fault.target]
        return Effect.as(down(fault.kind === "kill" ? "SIGKILL" : "SIGTERM"), up)
      }
      case "freeze": {
        const { signal } = processes[fault.target]
        return Effect.as(signal("SIGSTOP"), signal("SIGCONT"))
      }
      default:
        return Effect.map(
          Effect.promise(() => stage.begin(fault, names)),
          (lift) => lift && Effect.promise(lift)
        )
    }
  }
  const apply = (fault: Schedule.Fault) =>
    Effect.acquireUseRelease(
      begin(fault),
      (lift) =>
        Effect.gen(function*() {
          if (lift === undefined) {
            skipped++
            return yield* say(`skipped, this machine does not allow it: ${Schedule.describe(fault)}`)
          }
          counts[fault.kind] = (counts[fault.kind] ?? 0) + 1
          yield* say(Schedule.describe(fault))
          yield* Effect.sleep(fault.lasts)
        }),
      (lift) => lift === undefined ? Effect.void : Effect.andThen(lift, say(`  lifted: ${fault.kind} ${fault.target}`))
    ).pipe(lockOf(fault.target).withPermits(1))

  const hurt = Effect.andThen(
    Effect.forEach(Schedule.make(options), (fault) => Effect.delay(apply(fault), fault.at), {
      concurrency: "unbounded",
      discard: true
    }),
    Effect.suspend(() => Effect.sleep(Math.max(0, began + options.minutes * 60_000 - performance.now())))
  )

  // --- the end ---

  const survivor = options.seed.length % 2 === 0 ? 1 : 2
  const drain = Effect.gen(function*() {
    yield* allReady
    yield* moreOrders("the shop goes on after the last fault", 20)
    // One of each has to do it alone, so a relay or a consumer that hangs shows
    const others = [`relay-${3 - survivor}`, `totals-${3 - survivor}`] as const
    for (const name of others) yield* processes[name as Schedule.Process].down("SIGTERM")
    yield* moreOrders("the shop goes on with one relay", 20)
    yield* processes.shop.down("SIGTERM")
    yield* within(
      `relay-${survivor} publishes and totals-${survivor} counts what is left`,
      "3 minutes",
      database(Effect.repeat(Books.read, { until: Books.isCaughtUp, schedule: Repeat.spaced("500 millis") }))
    )
  }).pipe(Effect.catchTag("Stuck", ({ what }) => {
    problems.push(`did not happen: ${what}`)
    return database(sessions).pipe(
      Effect.map((rows) => appendFileSync(join(logs, "stuck.json"), JSON.stringify(rows, undefined, 2)))
    )
  }))

  yield* Effect.andThen(allReady, moreOrders("the first orders", 5)).pipe(
    Effect.catchTag("Stuck", ({ what }) => Effect.die(new Error(`did not happen: ${what}, see ${logs}`)))
  )
  began = performance.now()
  yield* say(`the shop is open; logs in ${logs}`)
  const longestPause = yield* watchPauses(stage.databaseUrl)
  yield* hurt
  const lifted = performance.now()
  yield* say("all faults are lifted")
  yield* drain
  const drained = Math.round(performance.now() - lifted)
  for (const name of Schedule.processes) yield* processes[name].down("SIGTERM")

  // --- the books ---

  const books = yield* database(Books.read)
  problems.push(...Books.differences(books))
  const handled = yield* database(
    SqlClient.SqlClient.use((sql) =>
      Effect.map(sql<{ n: number }>`SELECT count(*)::int AS n FROM event_flow_inbox`, ([row]) => row!.n)
    )
  )
  const published = audit(yield* Effect.promise(() => stage.broker.published(names)))
  const deadLetters = yield* Effect.promise(() => stage.broker.deadLetters(names))
  const committed = books.announced
  if (published.different !== committed) {
    problems.push(`events committed, published: ${committed}, ${published.different}`)
  }
  if (handled !== committed) problems.push(`events committed, handled: ${committed}, ${handled}`)
  if (published.late > 0) problems.push(`events published after a later one: ${published.late}`)
  if (deadLetters > 0) problems.push(`dead letters: ${deadLetters}`)
  const report: Report = {
    faults: counts,
    skipped,
    orders: books.orders,
    committed,
    published: published.different,
    publishedTwice: published.twice,
    handled,
    lost: Math.max(committed - published.different, committed - handled),
    outOfOrder: published.late + books.lateCounted,
    longestPause: longestPause(),
    drained,
    ...ends,
    problems,
    logs
  }
  return report
}, Effect.scoped)

export const render = (options: Options, report: Report): string => {
  const number = (value: number) => value.toLocaleString("en-US")
  const faults = Object.entries(report.faults).map(([kind, count]) => `${kind} ${count}`).join(", ")
  const count = Object.values(report.faults).reduce((a, b) => a + b, 0)
  return [
    [
      "Soak",
      `${options.broker}, seed ${options.seed}, ${options.minutes} minutes, ${options.faultsPerMinute} faults a minute`
    ],
    ["Faults", `${count}: ${faults}${report.skipped === 0 ? "" : `; ${report.skipped} skipped`}`],
    ["Orders", number(report.orders)],
    ["Committed", `${number(report.committed)} events`],
    ["Published", `${number(report.published)}, and ${number(report.publishedTwice)} more than once`],
    ["Handled", number(report.handled)],
    ["Lost", `${number(report.lost)}, out of order ${number(report.outOfOrder)}`],
    ["Processes", `${report.ended} ended by themselves, ${report.notStarted} could not start`],
    [
      "Pause",
      `at most ${(report.longestPause.lasted / 1000).toFixed(1)} s without an event counted, until ${
        Schedule.clock(report.longestPause.until)
      }`
    ],
    ["Drained", `${(report.drained / 1000).toFixed(1)} s after the last fault`],
    ...report.problems.map((problem) => ["Problem", problem] as const),
    ["Verdict", report.problems.length === 0 ? "the books balance" : `the books do not balance, logs in ${report.logs}`]
  ].map(([name, text]) => `${name!.padEnd(10)} ${text}`).join("\n")
}

// --- internal ---

/** What the database is waiting for, to be read where the system is stuck. */
const sessions = SqlClient.SqlClient.use((sql) =>
  sql`
    SELECT pid, state, wait_event_type, wait_event, xact_start, query_start, pg_blocking_pids(pid) AS blocked_by, query
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
  `
)

/** Looks each half second how much was counted. */
const watchPauses = Effect.fnUntraced(function*(url: string) {
  const began = yield* Clock.currentTimeMillis
  let longest: Pause = { lasted: 0, until: 0 }
  let latest = { counted: -1, at: began }
  const look = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ counted: number }>`
      SELECT coalesce(sum(placed + paid + cancelled), 0)::int AS counted FROM totals.customers
    `
    const at = yield* Clock.currentTimeMillis
    if (row!.counted === latest.counted) return
    if (at - latest.at > longest.lasted) longest = { lasted: at - latest.at, until: at - began }
    latest = { counted: row!.counted, at }
  }).pipe(
    // The database is down, too, from time to time
    Effect.catchTag("SqlError", () => Effect.void),
    Effect.delay("500 millis"),
    Effect.forever
  )
  yield* Effect.forkScoped(Effect.provide(look, PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))
  return () => longest
})

const argumentsOf = (name: Schedule.Process, { broker, minutes, rate }: Options): ReadonlyArray<string> => {
  const [role] = name.split("-") as [string]
  if (role !== "shop") return ["--role", role, "--broker", broker]
  const counts = {
    // More than it comes to
    orders: Math.ceil(rate * 60 * (minutes + 20)),
    customers: 40,
    products: 20,
    // Some run out of money
    stock: 10_000_000,
    money: Math.ceil(rate * 60 * minutes * 130),
    rate
  }
  return [
    "--role",
    role,
    "--broker",
    broker,
    ...Object.entries(counts).flatMap(([name, value]) => [`--${name}`, String(value)])
  ]
}

/** What was published, each counted once, and how much of it came after a later event of its key. */
export const audit = (messages: ReadonlyArray<Stage.Published>) => {
  const seen = new Set<string>()
  const latest = new Map<string, number>()
  let late = 0
  for (const { key, number } of messages) {
    const event = `${key} ${number}`
    if (seen.has(event)) continue
    seen.add(event)
    if (number < (latest.get(key) ?? 0)) late++
    else latest.set(key, number)
  }
  return { different: seen.size, twice: messages.length - seen.size, late }
}
