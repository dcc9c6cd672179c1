/**
 * The store behind the processes: rows by key in tables, row locks, transactions that read what is committed, and
 * savepoints. It outlives every process.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Process } from "../kernel/process.ts"
import { processOf } from "../kernel/scheduler.ts"
import type { World } from "../kernel/world.ts"
import { StoreError } from "./error.ts"
import { Locks } from "./locks.ts"
import { CurrentTransaction, Transaction } from "./transaction.ts"

/** Separates the name of a table from the key of a row, which has no such character. */
const separator = "\u0000"

export const rowOf = (table: string, key: string): string => `${table}${separator}${key}`

/** What a statement sees of the rows: those that are committed, and those that its transaction has written. */
export interface Rows {
  readonly get: (row: string) => unknown
  /** Undefined removes it. */
  readonly set: (row: string, value: unknown) => void
  readonly all: (table: string) => ReadonlyArray<readonly [key: string, value: unknown]>
}

interface Statement<A> {
  readonly name: string
  /** The row that it writes or locks. */
  readonly locks: string | undefined
  readonly run: (rows: Rows) => A
}

export class StoreEngine {
  readonly #world: World
  /** The committed rows, by table and key. */
  readonly #tables = new Map<string, Map<string, unknown>>()
  readonly #locks = new Locks()
  readonly #sequences = new Map<string, number>()

  constructor(world: World) {
    this.#world = world
  }

  /** The committed rows of a table. */
  committed(table: string): ReadonlyMap<string, unknown> {
    let rows = this.#tables.get(table)
    if (rows === undefined) this.#tables.set(table, rows = new Map())
    return rows
  }

  /** The next number of a sequence. As that of a database, it does not go back when a transaction does. */
  next(sequence: string): number {
    const n = (this.#sequences.get(sequence) ?? 0) + 1
    this.#sequences.set(sequence, n)
    return n
  }

  /** In the transaction of the fiber, else in one of its own. */
  statement<A>(statement: Statement<A>): Effect.Effect<A, StoreError> {
    return Effect.withFiber((fiber) => {
      const process = processOf(fiber)
      const current = fiber.getRef(CurrentTransaction)
      const isOwn = current === undefined || current.isEnded
      if (process === undefined) return Effect.die(new Error(`"${statement.name}" was asked for ${nowhere}`))
      const transaction = isOwn ? new Transaction(process) : current
      const fail = (reason: StoreError["reason"]): StoreError => {
        transaction.isAborted = true
        return new StoreError({ statement: statement.name, reason })
      }
      return this.#world.operation<A, StoreError>({
        kind: "statement",
        name: statement.name,
        failure: () => fail("ConnectionLost"),
        happen: (answer) => {
          if (transaction.isAborted || transaction.isEnded) return answer(Exit.fail(fail("Aborted")))
          const go = () => {
            const value = statement.run(this.#rowsOf(transaction))
            if (isOwn) this.#apply(transaction)
            answer(Exit.succeed(value))
          }
          const row = statement.locks
          if (row === undefined) return go()
          if (this.#locks.isDeadlock(row, transaction)) return answer(Exit.fail(fail("Deadlock")))
          return this.#locks.acquire(row, transaction, go)
        }
      })
    })
  }

  readonly isInTransaction: Effect.Effect<boolean> = Effect.map(
    CurrentTransaction,
    (transaction) => transaction !== undefined && !transaction.isEnded
  )

  /** All or nothing; inside of another transaction, a savepoint of it. */
  transaction<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreError, R> {
    return Effect.withFiber<A, E | StoreError, R>((fiber) => {
      const current = fiber.getRef(CurrentTransaction)
      if (current !== undefined && !current.isEnded) return savepoint(current, effect)
      const process = processOf(fiber)
      return process === undefined
        ? Effect.die(new Error(`A transaction was begun ${nowhere}`))
        : this.#whole(process, effect)
    })
  }

  #whole<A, E, R>(process: Process, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreError, R> {
    return Effect.uninterruptibleMask((restore) => {
      const transaction = new Transaction(process)
      const rollBack = () => this.#end(transaction)
      const forget = process.whenDead(rollBack)
      return Effect.exit(restore(Effect.provideService(effect, CurrentTransaction, transaction))).pipe(
        Effect.flatMap((exit): Effect.Effect<A, E | StoreError> =>
          Exit.isSuccess(exit) ? Effect.as(this.#commit(transaction), exit.value) : exit
        ),
        Effect.ensuring(Effect.sync(() => {
          forget()
          rollBack()
        }))
      )
    })
  }

  #commit(transaction: Transaction): Effect.Effect<void, StoreError> {
    return Effect.suspend(() => {
      const tables = new Set(Array.from(transaction.writes.keys(), (row) => row.split(separator)[0]))
      const name = `commit ${[...tables].sort().join(", ") || "nothing"}`
      return this.#world.operation<void, StoreError>({
        kind: "statement",
        name,
        failure: () => new StoreError({ statement: name, reason: "ConnectionLost" }),
        happen: (answer) => {
          if (transaction.isAborted || transaction.isEnded) {
            this.#end(transaction)
            return answer(Exit.fail(new StoreError({ statement: name, reason: "Aborted" })))
          }
          this.#apply(transaction)
          answer(Exit.void)
        }
      })
    })
  }

  #rowsOf(transaction: Transaction): Rows {
    const { writes } = transaction
    return {
      get: (row) => {
        if (writes.has(row)) return writes.get(row)
        const [table, key] = split(row)
        return this.committed(table).get(key)
      },
      set: (row, value) => {
        writes.set(row, freeze(value))
      },
      all: (table) => {
        const rows = new Map(this.committed(table))
        for (const [row, value] of writes) {
          const [other, key] = split(row)
          if (other !== table) continue
          if (value === undefined) rows.delete(key)
          else rows.set(key, value)
        }
        return [...rows].sort(([a], [b]) => a < b ? -1 : 1)
      }
    }
  }

  #apply(transaction: Transaction): void {
    for (const [row, value] of transaction.writes) {
      const [table, key] = split(row)
      const rows = this.committed(table) as Map<string, unknown>
      if (value === undefined) rows.delete(key)
      else rows.set(key, value)
    }
    if (transaction.writes.size > 0) {
      this.#world.tell(transaction.process.name, () => `commits ${describe(transaction.writes)}`)
      this.#world.changed()
    }
    this.#end(transaction)
  }

  #end(transaction: Transaction): void {
    if (transaction.isEnded) return
    transaction.isEnded = true
    this.#locks.releaseAll(transaction)
  }
}

const nowhere = "outside of a simulated process"

const savepoint = <A, E, R>(transaction: Transaction, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  const before = new Map(transaction.writes)
  return Effect.onExit(effect, (exit) =>
    Effect.sync(() => {
      if (Exit.isFailure(exit)) transaction.writes = before
    }))
}

const split = (row: string): readonly [table: string, key: string] => {
  const i = row.indexOf(separator)
  return [row.slice(0, i), row.slice(i + 1)]
}

const isPlain = (value: unknown): value is object => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === Array.prototype || prototype === null
}

/** A row is a value: whoever changes the object that was written, and does not write it, changes nothing. */
const freeze = (value: unknown): unknown => {
  if (!isPlain(value) || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const member of Object.values(value)) freeze(member)
  return value
}

const describe = (writes: ReadonlyMap<string, unknown>): string =>
  Array.from(writes, ([row, value]) => `${split(row).join("/")} = ${describeValue(value)}`).join(", ")

const describeValue = (value: unknown): string => {
  if (value === undefined) return "(gone)"
  if (typeof value === "object" && value !== null && "body" in value) return "a message"
  return JSON.stringify(value)
}
