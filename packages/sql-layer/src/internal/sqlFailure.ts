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
export const describe = (error: SqlError): string =>
  error.reason.cause instanceof Error ? error.reason.cause.message : error.message

/** The reason of a `PublishError` into the outbox. */
export const publishReason = (error: SqlError): Broker.PublishReason => {
  const detail = { detail: `The outbox could not be written: ${describe(error)}`, cause: error }
  switch (error.reason._tag) {
    case "ConnectionError":
      return new Broker.Unreachable(detail)
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
