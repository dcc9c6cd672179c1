/**
 * Middleware that makes the dispatch of a command one database transaction: its
 * handler, its domain event handlers, and the messages that it puts into the
 * outbox.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Middleware from "@event-flow/core/Middleware"
import * as Settings from "@event-flow/core/Settings"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Transaction from "./internal/transaction.ts"

/**
 * The transaction of a command could not be begun or committed. Failures of the
 * command itself are not wrapped.
 *
 * **Details**
 *
 * `outcome` says what happened to the transaction. `notStarted` and
 * `rolledBack`: nothing has changed, and the command can be sent again.
 * `unknown`: the connection broke during the commit; check before you send the
 * command again.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class TransactionError
  extends Schema.TaggedError<TransactionError>("@event-flow/sql-layer/Transactional/TransactionError")(
    "TransactionError",
    {
      command: Schema.String,
      outcome: Schema.Literals(["notStarted", "rolledBack", "unknown"]),
      cause: Schema.Defect()
    }
  )
{
  override get message(): string {
    const what = {
      notStarted: "could not be begun: nothing has changed",
      rolledBack: "could not be committed: nothing has changed",
      unknown: "was being committed when the connection broke: it may have been"
    }[this.outcome]
    return `The transaction of command "${this.command}" ${what}`
  }

  /** Whether the command can be sent again: nothing of it was committed. */
  get isRetryable(): boolean {
    return this.outcome !== "unknown"
  }
}

const fields = {
  /** Default: that of the connection, which in PostgreSQL is `read committed` unless it was configured. */
  isolation: Schema.optional(Schema.Literals(["read committed", "repeatable read", "serializable"])),
  /**
   * How long a statement of the transaction may be without an answer. Then its
   * connection is taken for lost and ended, and the statement fails. Default: 1
   * minute.
   */
  statementTimeout: Settings.withDefault(Settings.duration(), "1 minute")
}

/**
 * Options of the transaction.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options extends Schema.Struct.Encoded<typeof fields> {
  /**
   * When and how often a dispatch is run again after a serialization failure or
   * a deadlock. Default: 5 times, after 10, 20, 40 ... milliseconds, jittered.
   */
  readonly schedule?: Schedule.Schedule<unknown, Cause.Cause<unknown>> | undefined
}

/**
 * Makes the dispatch of a command one transaction. Throws
 * `Settings.InvalidSetting` for an isolation level that PostgreSQL does not have.
 *
 * **Details**
 *
 * Everything that the dispatch does through this `SqlClient` commits together
 * or not at all. A typed failure, a defect or an interruption of any handler
 * rolls it back, follow-ups included. Events that go to `Outbox.layer` are rows
 * of the same transaction.
 *
 * After a serialization failure or a deadlock the whole dispatch runs again in
 * a new transaction, with an empty collection (F2). The failure is found
 * anywhere in the dispatch, also as the `cause` of other errors.
 *
 * A command that a handler sends joins the transaction as a savepoint: when it
 * fails and the handler recovers, only the work of that command is undone.
 *
 * **Connections that fall silent**
 *
 * A statement without an answer for `statementTimeout` fails with
 * `ConnectionError`, and its connection is ended; so is the transaction on the
 * server, with its locks. One that falls silent before the transaction has
 * begun, as after a failover, is replaced, and the command does not notice.
 *
 * **Gotchas**
 *
 * Work that does not go through this client is not undone: publish through the
 * outbox, not to a broker. With `onFailure: "log"` the dispatch succeeds, and
 * so commits, although an event handler failed. PostgreSQL refuses further
 * statements in a transaction after a failed one: to recover from a failed
 * statement, put it into a `sql.withTransaction` of its own, which is a
 * savepoint here. The transaction of a streaming command is open as long as its
 * stream. It commits what was handed on when the receiver has had enough
 * (`Stream.take`), and rolls back when the receiver fails or is interrupted.
 *
 * All handlers of a dispatch share one connection, and a savepoint is a point
 * in time. While a handler has one open, for a nested command or a
 * `sql.withTransaction` of its own, statements of the others wait, so that going
 * back to it undoes its own work alone. A handler that waits for another one
 * within a savepoint waits for ever; the other one fails after
 * `statementTimeout`, with `LockTimeoutError`.
 *
 * **Example** (All or nothing)
 *
 * ```ts
 * import { Command } from "@event-flow/core"
 * import { Transactional } from "@event-flow/sql-layer"
 * import { Schema } from "effect"
 *
 * class PlaceOrder extends Command.Class<PlaceOrder>()("PlaceOrder", {
 *   payload: { orderId: Schema.String },
 *   middleware: [Transactional.make({ isolation: "serializable" })]
 * }) {}
 * ```
 *
 * @stability unstable
 * @category middleware
 * @since 0.1.0
 */
export const make = (
  { schedule = Transaction.defaultSchedule, ...options }: Options = {}
): Middleware.Inline<never, typeof TransactionError, SqlClient.SqlClient> => {
  const { isolation, statementTimeout } = settings.checkUnsafe(options)
  const begin = isolation === undefined ? undefined : `BEGIN ISOLATION LEVEL ${isolation.toUpperCase()}`
  return Middleware.make(
    (effect, info) =>
      Effect.flatMap(SqlClient.SqlClient, (sql) =>
        Transaction.run(sql, effect, {
          begin,
          statementTimeout,
          schedule,
          onError: (error, outcome) => new TransactionError({ command: info.tag, outcome, cause: error })
        })),
    { requires: [SqlClient.SqlClient], error: TransactionError }
  )
}

// --- internal ---

const settings = Settings.make("Transactional", { prefix: "TRANSACTION", schema: Schema.Struct(fields) })
