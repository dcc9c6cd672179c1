/**
 * A transaction over a connection that is watched.
 *
 * The driver waits for ever for an answer: a connection that falls silent (a failover behind a proxy, a NAT that
 * forgot it) would hold up whoever waits, and `BEGIN`, `COMMIT` and `ROLLBACK` cannot be interrupted. So each statement
 * has a bound. What gives no answer is ended, which is what the driver does with a connection that is given back while
 * a statement runs (`pin` in @effect/sql-pg's PgConnection.ts). Its pool then opens another one.
 *
 * Statements of a transaction share the connection, and a savepoint is a point in time: going back to it would also
 * undo what others have written since. While a savepoint is open, statements from outside of it wait.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Predicate from "effect/Predicate"
import type * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, LockTimeoutError, SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { isConnectionLost } from "./sqlFailure.ts"

/**
 * `sql.withTransaction` with each statement bounded by milliseconds. Where the client's context has a transaction
 * already, it is a savepoint of that one.
 */
export const withTransaction = <A, E, R>(
  sql: SqlClient.SqlClient,
  statementTimeout: number,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError, R> => {
  const attempt = (left: number): Effect.Effect<A, E | SqlError, R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Scope.make(), (scope) => {
        let watched: Watched | undefined
        const run = Effect.flatMap(Scope.provide(restore(sql.reserve), scope), (connection) => {
          watched = new Watched(sql, connection, scope, statementTimeout)
          // At depth -1 the client begins a transaction, at depth 0, on this connection in place of one of its own
          return Effect.provideService(restore(sql.withTransaction(effect)), sql.transactionService, [watched, -1])
        })
        return Effect.onExit(run, (exit) => Scope.close(scope, exit)).pipe(
          // Nothing has begun: a connection that was lost while it lay in the pool is nobody's failure
          Effect.catchCause((cause) => watched?.isLostUnused && left > 0 ? attempt(left - 1) : Effect.failCause(cause))
        )
      })
    )
  return Effect.withFiber((fiber) =>
    Context.getOrUndefined(fiber.context, sql.transactionService) === undefined
      ? attempt(maxConnectionsOf(sql))
      : sql.withTransaction(effect)
  )
}

/** How many connections the client's pool may have: `maxConnections` of `PgClient`, or its default. */
export const maxConnectionsOf = (sql: SqlClient.SqlClient & { readonly config?: unknown }): number =>
  Predicate.hasProperty(sql.config, "maxConnections") && typeof sql.config.maxConnections === "number"
    ? sql.config.maxConnections
    : 10

/** What `PgConnection` adds to `Connection`: found by its form, so that this package does not load the driver. */
export interface Session {
  readonly connection: {
    readonly processId: number
    readonly listen: (
      channel: string
    ) => Effect.Effect<Queue.Dequeue<{ readonly payload: string }, SqlError>, SqlError, Scope.Scope>
  }
}

export const isSession = (connection: object): connection is Session =>
  Predicate.hasProperty(connection, "connection") && Predicate.hasProperty(connection.connection, "listen")

/** A statement, outside of a transaction, that ends when there is no answer. The driver ends the connection 5 seconds later. */
export const answered = <A, R>(
  statementTimeout: number,
  statement: Effect.Effect<A, SqlError, R>
): Effect.Effect<A, SqlError, R> => within(statement, statementTimeout, () => noAnswer(statementTimeout))

/** By the machine's clock: a connection knows no virtual one. */
export const within = <A, E, R, E2>(
  effect: Effect.Effect<A, E, R>,
  millis: number,
  orElse: () => E2
): Effect.Effect<A, E | E2, R> =>
  Effect.raceFirst(
    effect,
    Effect.callback<never, E2>((resume) => {
      const timer = setTimeout(() => resume(Effect.fail(orElse())), millis)
      return Effect.sync(() => clearTimeout(timer))
    })
  )

// --- internal ---

/** `BEGIN` is no work: a server that takes longer is taken for away, as by `connectTimeout` of `PgClient`. */
const beginTimeout = 5000

const noAnswer = (millis: number): SqlError => {
  const message = `The database gave no answer within ${millis / 1000} seconds: the connection was ended`
  return new SqlError({ reason: new ConnectionError({ cause: new Error(message), message, operation: "query" }) })
}

/**
 * The server may not notice for hours that nobody is there any more, and keeps the transaction and its locks as long.
 * Behind a pooler the number is none of a process, and nothing is ended.
 */
const endOnServer = (sql: SqlClient.SqlClient, connection: Connection, timeout: number): Effect.Effect<void> => {
  if (!isSession(connection)) return Effect.void
  const { processId } = connection.connection
  const ended = Effect.asVoid(sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid = ${processId} AND usename = current_user AND datname = current_database() AND xact_start IS NOT NULL
  `)
  return withTransaction(sql, Math.min(timeout, beginTimeout), ended).pipe(
    Effect.updateContext((context: Context.Context<never>) =>
      Context.omit(sql.transactionService, SqlClient.BeginTransaction)(context) as Context.Context<never>
    ),
    Effect.retry({ times: 3, schedule: Schedule.spaced("200 millis") }),
    Effect.catchCause((cause) =>
      Effect.logWarning(`The server may still have the transaction of process ${processId} open`, cause)
    )
  )
}

const savepointIsHeld = (millis: number): SqlError => {
  const message = `Waited ${millis / 1000} seconds for the end of a savepoint that another handler of this ` +
    "transaction has open"
  return new SqlError({ reason: new LockTimeoutError({ cause: new Error(message), message, operation: "query" }) })
}

/** The statements with which effect's SqlClient opens and ends a savepoint. */
const savepointPattern = /^(SAVEPOINT|RELEASE SAVEPOINT|ROLLBACK TO SAVEPOINT) effect_sql_(\d+)$/

class Watched implements Connection {
  private readonly sql: SqlClient.SqlClient
  private readonly connection: Connection
  private readonly scope: Scope.Closeable
  private readonly timeout: number
  private readonly turn = Semaphore.makeUnsafe(1)
  /** The depth of the innermost savepoint that is open. */
  private open = 0
  private readonly waiting = new Set<() => void>()
  private hasBegun = false
  private lost: SqlError | undefined

  constructor(sql: SqlClient.SqlClient, connection: Connection, scope: Scope.Closeable, timeout: number) {
    this.sql = sql
    this.connection = connection
    this.scope = scope
    this.timeout = timeout
  }

  /** Whether the connection was lost before the transaction had begun. */
  get isLostUnused(): boolean {
    return !this.hasBegun && this.lost !== undefined
  }

  execute(...args: Parameters<Connection["execute"]>) {
    return this.run(args[0], this.connection.execute(...args))
  }
  executeRaw(...args: Parameters<Connection["executeRaw"]>) {
    return this.run(args[0], this.connection.executeRaw(...args))
  }
  executeValues(...args: Parameters<Connection["executeValues"]>) {
    return this.run(args[0], this.connection.executeValues(...args))
  }
  executeValuesUnprepared(...args: Parameters<Connection["executeValuesUnprepared"]>) {
    return this.run(args[0], this.connection.executeValuesUnprepared(...args))
  }
  executeUnprepared(...args: Parameters<Connection["executeUnprepared"]>) {
    return this.run(args[0], this.connection.executeUnprepared(...args))
  }

  /** Not bounded: how long a stream is open is up to its reader. */
  executeStream(...args: Parameters<Connection["executeStream"]>) {
    const stream = this.connection.executeStream(...args)
    const taken = Effect.withFiber((fiber) => this.admitted(this.depthOf(fiber.context))).pipe(
      Effect.andThen(Effect.acquireRelease(this.turn.take(1), () => this.turn.release(1)))
    )
    return Stream.unwrap(Effect.as(taken, stream))
  }

  private run<A>(text: string, statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return Effect.withFiber((fiber) => {
      const depth = this.depthOf(fiber.context)
      // Of the client itself, which begins and ends the transaction
      if (depth < 0) return this.turn.withPermit(this.runControl(text, statement))
      const [, what, number] = savepointPattern.exec(text) ?? []
      if (what === undefined) return this.inTurn(depth, this.bounded(statement, this.timeout))
      const savepoint = Number(number)
      if (what === "SAVEPOINT") {
        return this.inTurn(depth, Effect.tap(this.bounded(statement, this.timeout), () => this.setOpen(savepoint)))
      }
      const ended = this.bounded(statement, this.timeout)
      return this.turn.withPermit(
        what === "RELEASE SAVEPOINT"
          ? Effect.onExit(ended, () => this.setOpen(savepoint - 1))
          : Effect.tapCause(ended, () => this.setOpen(savepoint - 1))
      )
    })
  }

  private runControl<A>(text: string, statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    if (!this.hasBegun) {
      return Effect.tap(this.bounded(statement, Math.min(this.timeout, beginTimeout)), () =>
        Effect.sync(() => {
          this.hasBegun = true
        }))
    }
    // What runs after a commit may need the connection
    const released = Scope.close(this.scope, Exit.void)
    return Effect.onExit(
      // The server rolls back what a lost connection has open
      text === "ROLLBACK" && this.lost !== undefined
        ? Effect.void as Effect.Effect<never>
        : this.bounded(statement, this.timeout),
      () => released
    )
  }

  private depthOf(context: Context.Context<never>): number {
    return Context.getOrUndefined(context, this.sql.transactionService)?.[1] ?? 0
  }

  private setOpen(depth: number): Effect.Effect<void> {
    return Effect.sync(() => {
      this.open = depth
      for (const wake of this.waiting) wake()
    })
  }

  /** Runs it when no savepoint is open that it is not in. */
  private inTurn<A>(depth: number, statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return Effect.andThen(
      this.admitted(depth),
      Effect.flatten(this.turn.withPermit(Effect.suspend(() =>
        // Opened by one that was before it in the queue
        depth < this.open
          ? Effect.succeed(Effect.suspend(() => this.inTurn(depth, statement)))
          : Effect.map(statement, Effect.succeed)
      )))
    )
  }

  private admitted(depth: number): Effect.Effect<void, SqlError> {
    if (depth >= this.open) return Effect.void
    return Effect.callback<void, SqlError>((resume) => {
      const settle = (effect: Effect.Effect<void, SqlError>) => {
        clearTimeout(timer)
        this.waiting.delete(wake)
        resume(effect)
      }
      const wake = () => {
        if (depth >= this.open) settle(Effect.void)
      }
      const timer = setTimeout(() => settle(Effect.fail(savepointIsHeld(this.timeout))), this.timeout)
      this.waiting.add(wake)
      return Effect.sync(() => {
        clearTimeout(timer)
        this.waiting.delete(wake)
      })
    })
  }

  private bounded<A>(statement: Effect.Effect<A, SqlError>, timeout: number): Effect.Effect<A, SqlError> {
    return Effect.suspend(() => {
      if (this.lost !== undefined) return Effect.fail(this.lost)
      let silent: SqlError | undefined
      const timer = setTimeout(() => {
        silent = this.lost = noAnswer(timeout)
        Effect.runFork(Scope.close(this.scope, Exit.void))
      }, timeout)
      return statement.pipe(
        Effect.catch((error) => {
          if (silent !== undefined) {
            return Effect.logWarning(
              `A connection to the database gave no answer within ${timeout / 1000} seconds: ended`
            ).pipe(
              Effect.andThen(this.hasBegun ? endOnServer(this.sql, this.connection, this.timeout) : Effect.void),
              Effect.andThen(Effect.fail(silent))
            )
          }
          if (isConnectionLost(error)) this.lost = error
          return Effect.fail(error)
        }),
        Effect.ensuring(Effect.sync(() => clearTimeout(timer)))
      )
    })
  }
}
