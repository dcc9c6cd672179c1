/** The program `event-flow-outbox`, as a process on a real database. */
import { assert, it } from "@effect/vitest"
import { Migrations } from "@event-flow/sql-layer"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { execFile } from "node:child_process"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"
import { clientLayer, freshDatabase, withServer } from "./support/support.ts"

interface Result {
  readonly code: number
  readonly out: string
  readonly err: string
}

const program = fileURLToPath(new URL("../src/bin.ts", import.meta.url))

const runNode = (env: Record<string, string>, ...args: ReadonlyArray<string>): Effect.Effect<Result> =>
  Effect.callback((resume) => {
    const { DATABASE_URL: _, ...rest } = process.env
    execFile(
      process.execPath,
      ["--conditions=@event-flow/source", ...args],
      { env: { ...rest, NO_COLOR: "1", ...env }, timeout: 60_000 },
      (error, out, err) =>
        resume(
          Effect.succeed({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, out, err })
        )
    )
  })

/** Runs it, with `DATABASE_URL` unless that is left out. */
const run = (url: string | undefined, ...args: ReadonlyArray<string>): Effect.Effect<Result> =>
  runNode(url === undefined ? {} : { DATABASE_URL: url }, program, ...args)

/** Pending: 1 and 2, the latter failed. Dead: 3, 4, 5. Published: 6. */
const rows = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO event_flow_outbox
      (slot, topic, key, attributes, body, state, attempts, created_at, published_at, last_error)
    SELECT 0, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 'key ' || n,
      json_build_object('id', 'm' || n, 'type', 'T.v1'), '',
      CASE WHEN n <= 2 THEN 'pending' WHEN n <= 5 THEN 'dead' ELSE 'published' END,
      CASE WHEN n = 1 THEN 0 ELSE n END,
      now() - n * interval '1 hour',
      CASE WHEN n = 6 THEN now() - interval '6 hours' END,
      CASE WHEN n BETWEEN 2 AND 5 THEN E'Rejected:\nno ' || repeat('x', 100) END
    FROM generate_series(1, 6) n
  `
})

/** A database with these rows, and the program on it. */
const prepared = Effect.gen(function*() {
  const url = yield* freshDatabase()
  const client = yield* Layer.build(clientLayer(url, { maxConnections: 2 }))
  yield* Effect.provide(Effect.andThen(Migrations.run, rows), client)
  const states = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const found = yield* sql<{ state: string }>`SELECT id || ' ' || state AS state FROM event_flow_outbox ORDER BY id`
    return found.map((row) => row.state)
  }).pipe(Effect.provide(client))
  return { url, client, states, run: (...args: ReadonlyArray<string>) => run(url, ...args) }
})

const before = ["1 pending", "2 pending", "3 dead", "4 dead", "5 dead", "6 published"]

withServer("event-flow-outbox", () => {
  it.live("status: counts and lag, for people and as JSON", () =>
    Effect.gen(function*() {
      const { run } = yield* prepared
      const text = yield* run("status")
      assert.deepStrictEqual([text.code, text.err], [0, ""])
      assert.match(
        text.out,
        /^pending {4}2, of which 1 wait for another attempt\ndead {7}3\npublished {2}1\nlag {8}2h( \d+s)?\n$/
      )
      const json = yield* run("status", "--json")
      const { lagSeconds, ...counts } = JSON.parse(json.out) as Record<string, number>
      assert.deepStrictEqual(counts, { pending: 2, retrying: 1, dead: 3, published: 1 })
      assert.closeTo(lagSeconds!, 7200, 60)
    }))

  it.live("list: dead ones, one a line, with what went wrong", () =>
    Effect.gen(function*() {
      const { run } = yield* prepared
      const { code, out } = yield* run("list")
      assert.strictEqual(code, 0)
      const lines = out.trimEnd().split("\n")
      assert.match(lines[0]!, /^ID {2}TOPIC {2}KEY {4}TYPE {2}MESSAGE {2}CREATED +ATTEMPTS {2}LAST ERROR$/)
      assert.match(
        lines[1]!,
        /^3 {3}odd {4}key 3 {2}T\.v1 {2}m3 {7}\d{4}-\d{2}-\d{2}T[\d:.]+Z {2}3 {9}Rejected: no x{100}$/
      )
      assert.strictEqual(lines.length, 4)
    }))

  it.live("list: by state, topic, page, as JSON", () =>
    Effect.gen(function*() {
      const { run } = yield* prepared
      const ids = (...args: ReadonlyArray<string>) =>
        Effect.map(
          run("list", "--json", ...args),
          ({ out }) => (JSON.parse(out) as ReadonlyArray<{ readonly id: string }>).map(({ id }) => id)
        )
      assert.deepStrictEqual(yield* ids(), ["3", "4", "5"])
      assert.deepStrictEqual(yield* ids("--state", "pending"), ["1", "2"])
      assert.deepStrictEqual(yield* ids("--topic", "odd"), ["3", "5"])
      assert.deepStrictEqual(yield* ids("--limit", "1", "--after", "3"), ["4"])
      const page = yield* run("list", "--limit", "2")
      assert.include(page.out, "There may be more: --after 4")
      assert.strictEqual((yield* run("list", "--topic", "none")).out, "There are no dead messages\n")
    }))

  it.live("redrive: ids, a topic, all", () =>
    Effect.gen(function*() {
      const { run, states } = yield* prepared
      const some = yield* run("redrive", "3", "1", "6", "99")
      assert.deepStrictEqual([some.code, some.out], [0, "1 message will be published again\n"])
      assert.deepStrictEqual(yield* states, before.with(2, "3 pending"))
      assert.deepStrictEqual(JSON.parse((yield* run("redrive", "--topic", "even", "--json")).out), { redriven: 1 })
      assert.deepStrictEqual(yield* states, before.with(2, "3 pending").with(3, "4 pending"))
      assert.strictEqual((yield* run("redrive", "--all")).out, "1 message will be published again\n")
      assert.deepStrictEqual((yield* states).slice(0, 5), [1, 2, 3, 4, 5].map((id) => `${id} pending`))
      assert.strictEqual((yield* run("redrive", "--all")).out, "0 messages will be published again\n")
    }))

  it.live("redrive: nothing unless it is said what, and only in one way", () =>
    Effect.gen(function*() {
      const { run, states } = yield* prepared
      for (const args of [[], ["3", "--all"], ["--topic", "odd", "--all"], ["3", "--topic", "odd"]]) {
        const { code, err, out } = yield* run("redrive", ...args)
        assert.deepStrictEqual([code, out], [1, ""])
        assert.include(err, "their ids, or --topic, or --all")
      }
      for (const id of ["x", "-1", "1.5", "9223372036854775808"]) {
        const { code, err } = yield* run("redrive", "--", id)
        assert.strictEqual(code, 1)
        assert.include(err, "the id of a message, which is a number")
      }
      assert.deepStrictEqual(yield* states, before)
    }))

  it.live("prune: what was published long ago; dead ones only when they are named", () =>
    Effect.gen(function*() {
      const { run, states } = yield* prepared
      assert.strictEqual((yield* run("prune", "--older-than", "7 hours")).out, "0 messages deleted\n")
      assert.strictEqual((yield* run("prune", "--older-than", "0 seconds")).out, "1 message deleted\n")
      assert.deepStrictEqual(yield* states, before.slice(0, 5))
      const dead = yield* run("prune", "--older-than", "3.5 hours", "--state", "dead", "--json")
      assert.deepStrictEqual(JSON.parse(dead.out), { deleted: 2 })
      assert.deepStrictEqual(yield* states, before.slice(0, 3))
    }))

  it.live("prune: nothing without an age, and none that are pending", () =>
    Effect.gen(function*() {
      const { run, states } = yield* prepared
      for (
        const [args, message] of [
          [[], "--older-than"],
          [["--older-than", "soon"], "a duration such as"],
          [["--older-than", "Infinity"], "a duration such as"],
          [["--older-than", "1 hour", "--state", "pending"], "pending"]
        ] as const
      ) {
        const { code, err } = yield* run("prune", ...args)
        assert.strictEqual(code, 1)
        assert.include(err, message)
      }
      assert.deepStrictEqual(yield* states, before)
    }))

  it.live("takes the address by --url before that of the environment", () =>
    Effect.gen(function*() {
      const { url } = yield* prepared
      assert.strictEqual((yield* run(undefined, "status", "--url", url)).code, 0)
      assert.strictEqual((yield* run("postgres://127.0.0.1:1/none", "status", "--url", url)).code, 0)
    }))

  it.live("takes the name of the table", () =>
    Effect.gen(function*() {
      const { client, run } = yield* prepared
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE SCHEMA app`
        yield* sql`ALTER TABLE event_flow_outbox SET SCHEMA app`
        yield* sql`ALTER TABLE app.event_flow_outbox RENAME TO "Out"`
      }).pipe(Effect.provide(client))
      const { code, out } = yield* run("--table", "app.Out", "status")
      assert.deepStrictEqual([code, out.split("\n")[1]], [0, "dead       3"])
      assert.strictEqual((yield* run("redrive", "--all", "--table", "app.Out")).code, 0)
    }))

  for (
    const [what, args, message] of [
      ["no database is given", ["status"], "Set DATABASE_URL, or give --url"],
      [
        "it cannot connect",
        ["status", "--url", "postgres://postgres:secret@127.0.0.1:1/none"],
        "Cannot connect to the database"
      ],
      ["the address is none", ["status", "--url", "nonsense"], "database"]
    ] as const
  ) {
    it.live(`says so where ${what}, with the exit code 1`, () =>
      Effect.gen(function*() {
        const { code, err, out } = yield* run(undefined, ...args)
        assert.deepStrictEqual([code, out], [1, ""])
        assert.include(err, message)
        assert.notInclude(err, "secret")
        assert.notInclude(err, "    at ")
      }))
  }

  it.live("asks for the migrations where there is no table", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      for (const args of [["status"], ["list"], ["redrive", "--all"], ["prune", "--older-than", "1 day"]]) {
        const { code, err, out } = yield* run(url, ...args)
        assert.deepStrictEqual([code, out], [1, ""])
        assert.include(err, "There is no table \"event_flow_outbox\" in this database: run the migrations")
      }
    }))

  it.live("says so where the password is wrong, and does not print it", () =>
    Effect.gen(function*() {
      const url = new URL(yield* freshDatabase())
      if (url.password === "") return
      url.password = "wrong-one"
      const { code, err } = yield* run(url.href, "status")
      assert.strictEqual(code, 1)
      assert.include(err, "The database refuses it: password authentication failed")
      assert.notInclude(err, "wrong-one")
    }))

  it.live("explains itself", () =>
    Effect.gen(function*() {
      const help = yield* run(undefined, "--help")
      assert.strictEqual(help.code, 0)
      for (const word of ["status", "list", "redrive", "prune", "--url", "DATABASE_URL", "--table", "--json"]) {
        assert.include(help.out, word)
      }
      assert.include((yield* run(undefined, "redrive", "--help")).out, "--all")
      const { version } = createRequire(import.meta.url)("../package.json") as { readonly version: string }
      assert.include((yield* run(undefined, "--version")).out, version)
    }))
})

it.live("event-flow-outbox says what it needs where the optional peer is missing", () =>
  Effect.gen(function*() {
    // As Node fails for a package that is not installed
    const hook = `data:text/javascript,${
      encodeURIComponent(`
      import { registerHooks } from "node:module"
      registerHooks({
        resolve: (name, context, next) => {
          if (name.startsWith("@effect/platform-node")) {
            throw Object.assign(new Error(name), { code: "ERR_MODULE_NOT_FOUND" })
          }
          return next(name, context)
        }
      })
    `)
    }`
    const { code, err, out } = yield* runNode({}, "--import", hook, program, "--version")
    assert.deepStrictEqual({ code, out }, { code: 1, out: "" })
    assert.include(err, "npm install @effect/platform-node")
  }))
