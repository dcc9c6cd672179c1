/** Being told of new rows: LISTEN, and whether it works at all. */
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { randomUUID } from "node:crypto"
import { answered, isSession, within } from "./connection.ts"
import { poolerHint } from "./sqlFailure.ts"

export interface Notification {
  readonly payload: string
}

/** A queue of what is told to a channel. The connection ends with the scope. */
export type Listen = Effect.Effect<Queue.Dequeue<Notification, SqlError>, SqlError, Scope.Scope>

/** Undefined where the client cannot listen. */
export const listenOn = (sql: SqlClient.SqlClient, channel: string): Listen | undefined =>
  "~@effect/sql-pg/PgClient" in sql ?
    Effect.gen(function*() {
      // `PgClient.listen` gives its connection back with an UNLISTEN, for whose answer it would wait for ever where the
      // connection is silent (`listenChannel` in @effect/sql-pg's PgConnection.ts). Its pin released first, it is ended.
      const [pin, listening] = yield* Effect.acquireRelease(
        Effect.all([Scope.make(), Scope.make()]),
        ([pin, listening]) => Effect.andThen(Scope.close(pin, Exit.void), Scope.close(listening, Exit.void))
      )
      const session = yield* Scope.provide(sql.reserve, pin)
      if (!isSession(session)) return yield* Effect.die(new Error("The connections of this PgClient cannot listen"))
      return yield* Scope.provide(session.connection.listen(channel), listening)
    }) :
    undefined

export interface Options {
  readonly listen: Listen
  readonly notify: (payload: string) => Effect.Effect<void, SqlError>
  /** How long an answer may take, and how often it is asked for, in milliseconds. */
  readonly statementTimeout: number
  /** How often a relay that is not told looks, in milliseconds. */
  readonly pollInterval: number
  /** Runs when there may be new rows. */
  readonly wake: Effect.Effect<void>
  /** Hears whether the relay is told of new rows, or why not. */
  readonly onChange: (problem: string | undefined) => void
}

/**
 * Listens for ever. It tells itself something from time to time, so that a
 * connection that is silent, and a pooler that accepts LISTEN and hands nothing
 * on, are noticed.
 */
export const forever = (options: Options): Effect.Effect<never> =>
  Effect.gen(function*() {
    let inVain = 0
    while (true) {
      let hasHeard = false
      const exit = yield* Effect.exit(listenOnce(options, () => {
        hasHeard = true
        inVain = 0
        options.onChange(undefined)
      }))
      if (!Exit.isFailure(exit)) continue
      inVain++
      const isPooler = !hasHeard &&
        exit.cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof NotHeard)
      // What never worked is not expected to soon
      const pause = isPooler ? 300_000 : Math.min(200 * 2 ** (inVain - 1), 10_000)
      const problem = isPooler
        ? `LISTEN was accepted and nothing is heard, as behind a pooler in transaction mode (PgBouncer); ${poolerHint}`
        : "the connection that listens was lost"
      options.onChange(problem)
      yield* Effect.logWarning(
        `The outbox relay is not told of new rows: it looks every ${
          Duration.format(Duration.millis(options.pollInterval))
        }. ${problem[0]!.toUpperCase()}${problem.slice(1)}. It tries to listen again in ${
          Duration.format(Duration.millis(pause))
        }`,
        exit.cause
      )
      yield* Effect.sleep(pause)
    }
  })

// --- internal ---

/** A relay has told itself something and not heard it. */
class NotHeard extends Data.TaggedError("NotHeard") {}

/** Other relays pass over what one tells itself. */
const checkPrefix = "check "

const listenOnce = (options: Options, onHeard: () => void): Effect.Effect<never, SqlError | NotHeard> =>
  Effect.scoped(Effect.gen(function*() {
    const notifications = yield* answered(options.statementTimeout, options.listen)
    // What was committed before it listened
    yield* options.wake
    const own = `${checkPrefix}${randomUUID()}`
    let heard = Deferred.makeUnsafe<void>()
    const hear = Effect.forever(Effect.flatMap(Queue.takeAll(notifications), (all) => {
      let isTold = false
      for (const { payload } of all) {
        if (payload === own) Deferred.doneUnsafe(heard, Exit.void)
        else if (!payload.startsWith(checkPrefix)) isTold = true
      }
      return isTold ? options.wake : Effect.void
    }))
    const check = Effect.gen(function*() {
      while (true) {
        heard = Deferred.makeUnsafe()
        yield* answered(options.statementTimeout, options.notify(own))
        yield* within(Deferred.await(heard), options.statementTimeout, () => new NotHeard())
        onHeard()
        yield* Effect.sleep(options.statementTimeout)
      }
    })
    return yield* Effect.raceFirst(hear, check)
  }))
