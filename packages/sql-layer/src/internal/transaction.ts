/** One transaction around an effect, with its failures told apart, run again when others were in its way. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import * as Connection from "./connection.ts"
import { isConflict, isConnectionLost } from "./sqlFailure.ts"

/** `unknown`: the connection broke while it was committed. */
export type Outcome = "notStarted" | "rolledBack" | "unknown"

export interface Options<E2> {
  /** The statement that begins it. Default: the client's own. */
  readonly begin: string | undefined
  /** How long a statement may be without an answer, in milliseconds. */
  readonly statementTimeout: number
  readonly schedule: Schedule.Schedule<unknown, Cause.Cause<unknown>>
  /** The error for what the transaction itself fails with. */
  readonly onError: (error: SqlError, outcome: Outcome) => E2
}

/** Ten, twenty, forty ... milliseconds, each jittered, five times. */
export const defaultSchedule = Schedule.exponential("10 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 5 }))

export const isInTransaction = (sql: SqlClient.SqlClient, context: Context.Context<never>): boolean =>
  Context.getOrUndefined(context, sql.transactionService) !== undefined

/**
 * Within another transaction it is a savepoint, which is not run again: after a
 * conflict all of the outer one must be.
 */
export const run = <A, E, R, E2>(
  sql: SqlClient.SqlClient,
  effect: Effect.Effect<A, E, R>,
  options: Options<E2>
): Effect.Effect<A, E | E2, R> =>
  Effect.withFiber((fiber) =>
    isInTransaction(sql, fiber.context)
      ? once(sql, effect, options)
      : begun(once(sql, effect, options), options.begin).pipe(
        // Defects too: a handler may have made one of the conflict
        Effect.sandbox,
        Effect.retry({
          schedule: options.schedule,
          while: (cause) => !Cause.hasInterrupts(cause) && isConflict(cause)
        }),
        Effect.catch(Effect.failCause)
      )
  )

const begun = <A, E, R>(effect: Effect.Effect<A, E, R>, begin: string | undefined): Effect.Effect<A, E, R> =>
  begin === undefined ? effect : Effect.provideService(effect, SqlClient.BeginTransaction, begin)

const once = <A, E, R, E2>(
  sql: SqlClient.SqlClient,
  effect: Effect.Effect<A, E, R>,
  options: Options<E2>
): Effect.Effect<A, E | E2, R> =>
  Effect.withFiber((fiber) => {
    const isNested = isInTransaction(sql, fiber.context)
    let body: Exit.Exit<A, E> | undefined
    const transaction = Connection.withTransaction(
      sql,
      options.statementTimeout,
      Effect.onExit(effect, (exit) =>
        Effect.sync(() => {
          body = exit
        }))
    )
    return Effect.catchCause(transaction, (cause): Effect.Effect<never, E | E2> => {
      // Rolling back may fail as well, with the connection: the server does it then
      if (body !== undefined && Exit.isFailure(body)) return Effect.failCause(body.cause)
      // Of an effect that has not failed, what fails is beginning or committing
      const error = sqlErrorOf(cause)
      if (error === undefined) return Effect.failCause(cause as Cause.Cause<never>)
      const outcome = body === undefined ? "notStarted" : isNested ? "rolledBack" : outcomeOfCommit(error)
      return Effect.fail(options.onError(error, outcome))
    })
  })

/** The client makes a defect of it where a savepoint cannot be released, as after a failed statement. */
const sqlErrorOf = (cause: Cause.Cause<unknown>): SqlError | undefined =>
  cause.reasons
    .map((reason) => Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : undefined)
    .find(isSqlError)

const outcomeOfCommit = (error: SqlError): Outcome => isConnectionLost(error) ? "unknown" : "rolledBack"
