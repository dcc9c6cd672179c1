/** What a failure of the database means here. */
import * as Broker from "@event-flow/core/Broker"
import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"
import { isSqlError, type SqlError } from "effect/sql/SqlError"

/**
 * Whether a transaction failed because of others at the same time, so that the
 * whole of it may succeed when it runs again. Looked for below the errors that
 * wrap it, and in defects: a handler may have passed it on either way.
 */
export const isConflict = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) =>
    Cause.isFailReason(reason)
      ? isConflictBelow(reason.error)
      : Cause.isDieReason(reason) && isConflictBelow(reason.defect)
  )

/** Errors may point at each other in a circle. */
const maxDepth = 20

const isConflictBelow = (error: unknown): boolean => {
  const queue: Array<readonly [unknown, number]> = [[error, 0]]
  for (const [one, depth] of queue) {
    if (Predicate.isObject(one) && depth < maxDepth) {
      // Another failure of the database may stand before it in a list
      if (isSqlError(one) && (one.reason._tag === "SerializationError" || one.reason._tag === "DeadlockError")) {
        return true
      }
      for (const name of ["cause", "reason"] as const) {
        if (Predicate.hasProperty(one, name)) queue.push([one[name], depth + 1])
      }
      // Of an accumulating processor, and AggregateError
      for (const name of ["failures", "errors"] as const) {
        if (Predicate.hasProperty(one, name) && Array.isArray(one[name])) {
          for (const inner of one[name]) queue.push([inner, depth + 1])
        }
      }
    }
  }
  return false
}

/** What the database said; the client's own message is that a query has failed. */
export const describe = (error: SqlError): string => {
  const text = error.reason.cause instanceof Error ? error.reason.cause.message : error.message
  return lostStatements.has(codeOf(error) ?? "") ? `${text}; ${poolerHint}` : text
}

/** What a pooler in transaction mode needs. */
export const poolerHint = "a pooler in transaction mode, such as PgBouncer, needs prepare: false on the PgClient"

/**
 * Whether the connection is lost, or the server refuses work of any kind for
 * now. The client knows the first; it does not tell apart what PostgreSQL says
 * before it closes a connection (https://www.postgresql.org/docs/current/errcodes-appendix.html).
 */
export const isConnectionLost = (error: SqlError): boolean =>
  error.reason._tag === "ConnectionError" || endings.has(codeOf(error) ?? "")

const endings = new Set([
  "25P03", // idle_in_transaction_session_timeout
  "25P04", // transaction_timeout
  "57P01", // admin_shutdown, and pg_terminate_backend
  "57P02", // crash_shutdown
  "57P03", // cannot_connect_now
  "57P04", // database_dropped
  "57P05" // idle_session_timeout
])

/** What passes when the server has room again, or is the primary again. */
const shortages = new Set(["25006", "53000", "53100", "53200", "53300", "53400"])

/** invalid_sql_statement_name and duplicate_prepared_statement. */
const lostStatements = new Set(["26000", "42P05"])

const codeOf = (error: SqlError): string | undefined => {
  const { cause } = error.reason
  return Predicate.hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : undefined
}

/** The reason of a `PublishError` into the outbox. */
export const publishReason = (error: SqlError): Broker.PublishReason => {
  const detail = { detail: `The outbox could not be written: ${describe(error)}`, cause: error }
  if (isConnectionLost(error) || shortages.has(codeOf(error) ?? "")) return new Broker.Unreachable(detail)
  switch (error.reason._tag) {
    case "LockTimeoutError":
    case "StatementTimeoutError":
      return new Broker.Timeout(detail)
    case "AuthenticationError":
    case "AuthorizationError":
      return new Broker.NotAuthorised(detail)
    case "SqlSyntaxError":
      return new Broker.UnknownTopic({ ...detail, detail: `${detail.detail}; have the Migrations run?` })
    default:
      return new Broker.Rejected(detail)
  }
}
