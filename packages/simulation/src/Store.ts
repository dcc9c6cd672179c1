/**
 * A transactional store in memory for simulated systems: tables of rows, row
 * locks, transactions and savepoints, behind every statement of which a process
 * may die or lose the answer.
 *
 * **Details**
 *
 * It behaves as PostgreSQL does with `read committed`: a statement sees what was
 * committed when it began, and what its own transaction has written. A write
 * waits for the transaction that has the row; two that wait for each other are a
 * deadlock, which fails one of them. A failed statement aborts its transaction.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { rowOf, type Rows, type StoreEngine } from "./internal/store/engine.ts"
import { StoreError } from "./internal/store/error.ts"
import { CurrentTransaction } from "./internal/store/transaction.ts"

/**
 * A statement or a commit failed.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export { StoreError }

/**
 * The store of a simulated system. Every node has it, and it outlives all of them.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class Store extends Context.Service<Store, StoreEngine>()("@event-flow/simulation/Store") {}

/**
 * A table: rows of one type by their keys.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Table<A> {
  readonly tableName: string
  /** The row; undefined when there is none. */
  readonly get: (key: string) => Effect.Effect<A | undefined, StoreError, Store>
  /** The same, and nobody else writes it until the transaction ends (`SELECT ... FOR UPDATE`). */
  readonly lock: (key: string) => Effect.Effect<A | undefined, StoreError, Store>
  /** Writes the row, whether it is there or not. */
  readonly put: (key: string, row: A) => Effect.Effect<void, StoreError, Store>
  /** Writes the row unless there is one; whether it did (`INSERT ... ON CONFLICT DO NOTHING`). */
  readonly insert: (key: string, row: A) => Effect.Effect<boolean, StoreError, Store>
  /** Writes what the function makes of the row, in one statement (`UPDATE ... SET n = n + 1`); gives the new row. */
  readonly update: (key: string, f: (row: A | undefined) => A) => Effect.Effect<A, StoreError, Store>
  readonly remove: (key: string) => Effect.Effect<void, StoreError, Store>
  /** All rows with their keys, in the order of the keys. */
  readonly all: Effect.Effect<ReadonlyArray<readonly [key: string, row: A]>, StoreError, Store>
}

/**
 * A table of the store. Rows are plain data: they are frozen when they are written,
 * and compared and printed as JSON.
 *
 * **Example** (Stock that two orders may want at once)
 *
 * ```ts
 * import { Store } from "@event-flow/simulation"
 * import { Effect } from "effect"
 *
 * const Stock = Store.table<number>("stock")
 * const Orders = Store.table<{ readonly product: string; readonly quantity: number }>("orders")
 *
 * const placeOrder = Effect.fnUntraced(function*(order: string, product: string, quantity: number) {
 *   const isNew = yield* Orders.insert(order, { product, quantity })
 *   if (isNew) yield* Stock.update(product, (left) => (left ?? 100) - quantity)
 * }, (effect) => Store.transaction(effect))
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const table = <A>(name: string): Table<A> => {
  // A table is the one place where rows of its name are written, so what is read there is an `A`
  const read = (rows: Rows, row: string) => rows.get(row) as A | undefined
  const statement = <B>(
    what: string,
    key: string | undefined,
    isWrite: boolean,
    run: (rows: Rows, row: string) => B
  ) => {
    const row = rowOf(name, key ?? "")
    // A key that is inserted is often an id, which another seed makes differently
    const isNamed = key !== undefined && what !== "insert"
    return Effect.flatMap(Store, (store) =>
      store.statement({
        name: isNamed ? `${what} ${name}/${key}` : `${what} ${name}`,
        locks: isWrite ? row : undefined,
        run: (rows) => run(rows, row)
      }))
  }
  return {
    tableName: name,
    get: (key) => statement("read", key, false, read),
    lock: (key) => statement("lock", key, true, read),
    put: (key, value) => statement("write", key, true, (rows, row) => rows.set(row, value)),
    insert: (key, value) =>
      statement("insert", key, true, (rows, row) => {
        if (rows.get(row) !== undefined) return false
        rows.set(row, value)
        return true
      }),
    update: (key, f) =>
      statement("update", key, true, (rows, row) => {
        const value = f(read(rows, row))
        rows.set(row, value)
        return value
      }),
    remove: (key) => statement("remove", key, true, (rows, row) => rows.set(row, undefined)),
    all: statement("scan", undefined, false, (rows) => rows.all(name) as ReadonlyArray<readonly [string, A]>)
  }
}

/**
 * Runs an effect in a transaction: what it writes is there for others when it has
 * succeeded and the transaction is committed, and not at all otherwise. Inside of
 * another transaction it is a savepoint.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const transaction = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreError, R | Store> =>
  Effect.flatMap(Store, (store) => store.transaction(effect))

/**
 * Runs an effect outside of the transaction that the fiber is in: each of its
 * statements commits by itself, and stays when the transaction is rolled back. It is a
 * model of what the database knows nothing of, such as a payment provider or a mail
 * server, with the faults of any operation.
 *
 * **Example** (A card that is charged within the transaction of an order)
 *
 * ```ts
 * import { Store } from "@event-flow/simulation"
 * import { Effect } from "effect"
 *
 * const Orders = Store.table<"paid">("orders")
 * // What the provider knows, by the idempotency key of a charge
 * const Charges = Store.table<number>("charges")
 *
 * const pay = (order: string, cents: number) =>
 *   Store.transaction(Effect.andThen(
 *     // A charge that is asked for again is the same charge
 *     Store.autonomous(Charges.insert(order, cents)),
 *     Orders.put(order, "paid")
 *   ))
 * ```
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const autonomous: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  CurrentTransaction,
  undefined
)

/**
 * Whether the fiber is in a transaction.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const isInTransaction: Effect.Effect<boolean, never, Store> = Effect.flatMap(
  Store,
  (store) => store.isInTransaction
)

/**
 * The next number of a sequence, from 1. A transaction that is rolled back leaves
 * a gap.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const next = (sequence: string): Effect.Effect<number, never, Store> =>
  Effect.map(Store, (store) => store.next(sequence))
