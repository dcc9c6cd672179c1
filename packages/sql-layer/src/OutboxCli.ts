/**
 * The command line `event-flow-outbox` as a value, to build it into another
 * program.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as Redacted from "effect/Redacted"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { describe } from "./internal/sqlFailure.ts"
import * as OutboxAdmin from "./OutboxAdmin.ts"
import * as Tables from "./Tables.ts"

const table = Tables.Tables.defaultValue().outbox

const root = Command.make("event-flow-outbox").pipe(
  Command.withDescription(
    "Looks at the outbox of a database, has dead messages published again, and deletes what is no longer needed"
  ),
  Command.withSharedFlags({
    url: Flag.Redacted("url").pipe(
      Flag.withDescription("Address of the database, postgres://user:password@host/database; default: DATABASE_URL"),
      Flag.optional
    ),
    table: Flag.String("table").pipe(
      Flag.withDescription(`Name of the outbox's table, which may have a schema before it; default: ${table}`),
      Flag.withDefault(table)
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print JSON, for other programs"),
      Flag.withDefault(false)
    )
  })
)

const status = Command.make(
  "status",
  {},
  () =>
    onDatabase(OutboxAdmin.status, (status) => [
      `pending    ${status.pending}${
        status.retrying === 0 ? "" : `, of which ${status.retrying} wait for another attempt`
      }`,
      `dead       ${status.dead}`,
      `published  ${status.published}`,
      `lag        ${Duration.format(Duration.seconds(Math.round(status.lagSeconds)))}`
    ])
).pipe(
  Command.withDescription("Print how many messages are in which state, and how long the oldest one waits"),
  Command.withExamples([{ command: "event-flow-outbox status --json", description: "For a check that runs often" }])
)

const topic = Flag.String("topic").pipe(Flag.optional)

const list = Command.make(
  "list",
  {
    state: Flag.Literals("state", ["pending", "published", "dead"]).pipe(
      Flag.withDescription("Messages of which state; default: dead"),
      Flag.withDefault("dead" as const)
    ),
    topic: topic.pipe(Flag.withDescription("Only messages of this topic")),
    after: Flag.String("after").pipe(
      Flag.filterMap(rowId, notAnId),
      Flag.withDescription("Only messages after this id, for the next page"),
      Flag.optional
    ),
    limit: Flag.Int("limit").pipe(
      Flag.filter((limit) => limit >= 1, () => "a number from 1"),
      Flag.withDescription("How many, at most; default: 100"),
      Flag.withDefault(100)
    )
  },
  (options) =>
    onDatabase(
      OutboxAdmin.list({
        state: options.state,
        topic: Option.getOrUndefined(options.topic),
        after: Option.getOrUndefined(options.after),
        limit: options.limit
      }),
      (rows) =>
        rows.length === 0 ? [`There are no ${options.state} messages`] : [
          ...toTable(
            ["ID", "TOPIC", "KEY", "TYPE", "MESSAGE", "CREATED", "ATTEMPTS", "LAST ERROR"],
            rows.map((row) => [
              String(row.id),
              row.topic,
              row.key ?? "",
              row.messageType ?? "",
              row.messageId ?? "",
              row.createdAt.toISOString(),
              String(row.attempts),
              row.lastError ?? ""
            ])
          ),
          ...(rows.length < options.limit ? [] : [`There may be more: --after ${rows.at(-1)!.id}`])
        ]
    )
).pipe(
  Command.withDescription("List messages of a state, the dead ones unless told otherwise, oldest first"),
  Command.withExamples([
    { command: "event-flow-outbox list", description: "What was given up, and why" },
    { command: "event-flow-outbox list --state pending --limit 10", description: "What waits longest" }
  ])
)

const redrive = Command.make(
  "redrive",
  {
    ids: Argument.String("id").pipe(
      Argument.filterMap(rowId, notAnId),
      Argument.withDescription("Ids of dead messages, as list prints them"),
      Argument.variadic()
    ),
    topic: topic.pipe(Flag.withDescription("All dead messages of this topic")),
    all: Flag.Boolean("all").pipe(Flag.withDescription("All dead messages"), Flag.withDefault(false))
  },
  Effect.fnUntraced(function*({ all, ids, topic }) {
    const which: ReadonlyArray<Parameters<typeof OutboxAdmin.redrive>[0]> = [
      ...(ids.length > 0 ? [{ ids }] : []),
      ...(Option.isSome(topic) ? [{ topic: topic.value }] : []),
      ...(all ? ["all" as const] : [])
    ]
    if (which.length !== 1) {
      return yield* failed("Say which dead messages to publish again: their ids, or --topic, or --all")
    }
    yield* onDatabase(
      Effect.map(OutboxAdmin.redrive(which[0]!), (redriven) => ({ redriven })),
      ({ redriven }) => [`${messages(redriven)} will be published again`]
    )
  })
).pipe(
  Command.withDescription("Have dead messages published again, with all their attempts before them"),
  Command.withExamples([
    { command: "event-flow-outbox redrive 17 42", description: "Two messages" },
    {
      command: "event-flow-outbox redrive --topic orders",
      description: "Those of a topic, when what refused them is mended"
    }
  ])
)

const prune = Command.make(
  "prune",
  {
    olderThan: Flag.String("older-than").pipe(
      Flag.filterMap(
        (text) => Option.filter(Duration.fromInput(text as Duration.Input), Duration.isFinite),
        () => "a duration such as \"7 days\" or \"12 hours\""
      ),
      Flag.withDescription("Only what was published, or for dead messages made, longer ago: \"7 days\"")
    ),
    state: Flag.Literals("state", ["published", "dead"]).pipe(
      Flag.withDescription(
        "Messages of which state; default: published. Dead ones are lost by this: nobody has got them"
      ),
      Flag.withDefault("published" as const)
    )
  },
  ({ olderThan, state }) =>
    onDatabase(
      Effect.map(OutboxAdmin.prune({ olderThan, state }), (deleted) => ({ deleted })),
      ({ deleted }) => [`${messages(deleted)} deleted`]
    )
).pipe(
  Command.withDescription("Delete messages that were published long ago; dead ones with --state dead alone"),
  Command.withExamples([
    { command: "event-flow-outbox prune --older-than \"7 days\"", description: "What was published before" },
    { command: "event-flow-outbox prune --state dead --older-than \"90 days\"", description: "What nobody will want" }
  ])
)

/**
 * The command with its subcommands `status`, `list`, `redrive` and `prune`. The
 * database is that of `--url`, or of `DATABASE_URL` in the `Config`.
 *
 * **Details**
 *
 * It fails with a `UserError` that says what is wrong. `Command.run` prints it,
 * and `NodeRuntime.runMain` exits with code 1.
 *
 * **Example** (In a program with other commands)
 *
 * ```ts
 * import * as OutboxCli from "@event-flow/sql-layer/OutboxCli"
 * import { Command } from "effect/cli"
 *
 * const app = Command.make("shop").pipe(Command.withSubcommands([OutboxCli.command]))
 * ```
 *
 * @stability unstable
 * @category commands
 * @since 0.1.0
 */
export const command = root.pipe(Command.withSubcommands([status, list, redrive, prune]))

// --- internal ---

/** Runs it on the database of the flags, and prints what it gives. */
const onDatabase = <A>(
  effect: Effect.Effect<A, SqlError, SqlClient.SqlClient>,
  lines: (result: A) => ReadonlyArray<string>
) =>
  Effect.gen(function*() {
    const { json, table, url } = yield* root
    const result = yield* effect.pipe(
      Effect.provide([client(yield* addressOf(url)), Tables.layer({ outbox: table })]),
      Effect.catchTag("SqlError", (error) => failed(messageOf(error, table), error))
    )
    yield* Console.log(json ? JSON.stringify(result, toJson, 2) : lines(result).join("\n"))
  })

const addressOf = (url: Option.Option<Redacted.Redacted<string>>) =>
  Option.isSome(url)
    ? Effect.succeed(url.value)
    : Effect.catchTag(
      Config.Redacted("DATABASE_URL"),
      "ConfigError",
      (error) => failed("Which database? Set DATABASE_URL, or give --url postgres://user:password@host/database", error)
    )

const client = (url: Redacted.Redacted<string>): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError> =>
  PgClient.layer({ url, maxConnections: 1, connectTimeout: "10 seconds", applicationName: "event-flow-outbox" })

const failed = (userMessage: string, cause: unknown = userMessage): Effect.Effect<never, CliError.UserError> =>
  Effect.fail(new CliError.UserError({ cause, userMessage }))

const messageOf = (error: SqlError, table: string): string => {
  const cause = error.reason.cause
  if (Predicate.hasProperty(cause, "code") && cause.code === "42P01") {
    return `There is no table "${table}" in this database: run the migrations (Migrations.layer), or give its name by --table`
  }
  switch (error.reason._tag) {
    case "ConnectionError":
      return `Cannot connect to the database: ${describe(error)}`
    case "AuthenticationError":
    case "AuthorizationError":
      return `The database refuses it: ${describe(error)}`
    default:
      return `The database could not do it: ${describe(error)}`
  }
}

const messages = (count: number): string => count === 1 ? "1 message" : `${count} messages`

/** Ids are beyond what a JSON number is read as. */
const toJson = (_: string, value: unknown): unknown => typeof value === "bigint" ? String(value) : value

const maxRowId = 2n ** 63n - 1n

function rowId(text: string): Option.Option<bigint> {
  return /^\d{1,19}$/.test(text) && BigInt(text) <= maxRowId ? Option.some(BigInt(text)) : Option.none()
}

function notAnId(): string {
  return "the id of a message, which is a number"
}

/** Columns as wide as what is in them; the last one is not cut, and a line stays one line. */
const toTable = (
  head: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>
): ReadonlyArray<string> => {
  const lines = [head, ...rows.map((row) => row.map((cell) => cell.replaceAll(/\p{Cc}+/gu, " ")))]
  const widths = head.map((_, column) =>
    lines.reduce((width, line) => Math.min(maxWidth, Math.max(width, line[column]!.length)), 0)
  )
  return lines.map((line) =>
    line.map((cell, column) => column === head.length - 1 ? cell : fit(cell, widths[column]!)).join("  ").trimEnd()
  )
}

const maxWidth = 40

const fit = (cell: string, width: number): string =>
  cell.length > width ? `${cell.slice(0, width - 1)}…` : cell.padEnd(width)
