/** The work that every subject does, the same bytes for all, and how its processes talk to `main.ts`. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import type { SqlClient } from "effect/sql"

export const keys = 1_000
export const topic = "orders"
/** Rows of the commands' business. */
export const accounts = 1_000

const padding = "x".repeat(270)

export interface Work {
  readonly topic: string
  readonly key: string
  readonly attributes: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

/** Message number `i`: a body of about 300 bytes, with the attributes of a CloudEvent. */
export const work = (i: number): Work => ({
  topic,
  key: `key-${i % keys}`,
  attributes: {
    specversion: "1.0",
    id: `id-${i}`,
    type: "Measured.v1",
    source: "/bench",
    time: "2026-01-01T00:00:00.000Z",
    datacontenttype: "application/json"
  },
  body: Buffer.from(`{"i":${i},"padding":"${padding}"}`)
})

/** What a subject's process is asked to do. */
export type Task =
  /** Makes the tables and so many rows. */
  | { readonly role: "fill"; readonly url: string; readonly rows: number }
  /** Publishes rows until it is told that all are. */
  | { readonly role: "relay"; readonly url: string; readonly check: boolean }
  /** Sends commands, after some that are not measured. */
  | {
    readonly role: "command"
    readonly url: string
    readonly warmUp: number
    readonly count: number
    readonly concurrency: number
  }
  /** Commits one row after another; `relays` says whether this process publishes them, too. */
  | {
    readonly role: "lag"
    readonly url: string
    readonly warmUp: number
    readonly count: number
    readonly relays: boolean
  }

/** What a process tells. */
export type Report =
  | { readonly _tag: "Ready" }
  /** So many more rows were acknowledged; `numbers` for a check, in their order. */
  | { readonly _tag: "Published"; readonly rows: number; readonly at: number; readonly numbers?: ReadonlyArray<number> }
  | { readonly _tag: "Done"; readonly result: unknown }

export interface Lag {
  readonly p50Millis: number
  readonly p99Millis: number
  readonly maxMillis: number
}

/** Milliseconds of a clock that all processes of a machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

export const report = (report: Report): void => {
  process.send!(report)
}

/** Counts what a broker acknowledges, and tells of it, a few times in a millisecond's many. */
export class Counter {
  readonly #check: boolean
  #rows = 0
  #numbers: Array<number> = []
  #isScheduled = false
  constructor(check: boolean) {
    this.#check = check
  }

  add(rows: number, ids: () => Iterable<string | undefined>): void {
    this.#rows += rows
    if (this.#check) { for (const id of ids()) this.#numbers.push(Number(id?.slice(3))) }
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      report({
        _tag: "Published",
        rows: this.#rows,
        at: now(),
        ...(this.#check ? { numbers: this.#numbers } : {})
      })
      this.#rows = 0
      this.#numbers = []
    })
  }
}

export const clientLayer = (
  url: string,
  maxConnections: number
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient> =>
  Layer.orDie(PgClient.layer({ url: Redacted.make(url), maxConnections }))

/** Runs `command` in so many fibers; gives how many a second, warm-up aside. */
export const commandsPerSecond = <E, R>(
  task: Extract<Task, { readonly role: "command" }>,
  command: (i: number) => Effect.Effect<unknown, E, R>
): Effect.Effect<number, E, R> => {
  let next = 0
  const until = (end: number) =>
    Effect.all(
      Array.from({ length: task.concurrency }, () =>
        Effect.whileLoop({
          while: () => next < end,
          body: () => command(next++),
          step: () => {}
        })),
      { concurrency: "unbounded", discard: true }
    )
  return Effect.gen(function*() {
    yield* until(task.warmUp)
    const start = now()
    yield* until(task.warmUp + task.count)
    return Math.round(task.count / (now() - start) * 1000)
  })
}

/** What a subject does in each role; a role that it has none for is not asked of it. */
export type Roles = {
  readonly [R in Task["role"]]?: (task: Extract<Task, { readonly role: R }>) => Effect.Effect<unknown, unknown>
}

/** Does what the command line says, and ends when it is done or when it is told to. */
export const main = (roles: Roles): void => {
  const task = JSON.parse(process.argv[2]!) as Task
  const role = roles[task.role] as ((task: Task) => Effect.Effect<unknown, unknown>) | undefined
  if (role === undefined) throw new Error(`no role ${task.role}`)
  process.once("disconnect", () => process.exit(0))
  Effect.runPromise(role(task)).then(
    (result) => process.send!({ _tag: "Done", result } satisfies Report, () => process.exit(0)),
    (error: unknown) => {
      console.error(error)
      process.exit(1)
    }
  )
}

/** Told to begin. */
export const begun: Effect.Effect<void> = Effect.callback<void>((resume) => {
  process.once("message", () => resume(Effect.void))
  report({ _tag: "Ready" })
})
